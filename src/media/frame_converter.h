// RGB frames to the frames that an encoder takes.
#pragma once

#include <cstdint>
#include <memory>

#include "base/status.h"
#include "media/handles.h"

namespace mrt::media {

/// One frame goes in by Send(), then Receive() until it has none; it may hold frames back until
/// Send(nullptr), which ends the stream.
class FrameConverter {
 public:
  virtual ~FrameConverter() = default;
  /// rgb: [height, width, 3]; read only during the call.
  virtual Status Send(const uint8_t* rgb) = 0;
  /// The next frame with its number as pts, owned by the converter until the next call; nullptr if
  /// there is none now.
  virtual Result<const AVFrame*> Receive() = 0;
};

/// yuv420p, BT.709, TV range, chroma sited left. Width and height are even.
Result<std::unique_ptr<FrameConverter>> OpenYuvConverter(int width, int height);

/// pal8 with the best 255 colours of each frame, dithered.
Result<std::unique_ptr<FrameConverter>> OpenPaletteConverter(int width, int height, int fps);

}  // namespace mrt::media
