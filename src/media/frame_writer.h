// What each kind of output does with frames; VideoWriter adds the checks of calls around it.
#pragma once

#include <cstdint>
#include <memory>

#include "base/status.h"
#include "media/output_plan.h"

namespace mrt::media {

/// Used by one thread. After an error only the destructor may follow: it removes what has no
/// final name yet.
class FrameWriter {
 public:
  virtual ~FrameWriter() = default;

  /// rgb: [height, width, 3]; read only during the call.
  virtual Status WriteFrame(const uint8_t* rgb) = 0;

  /// Hands on what waits for company: between frames, at least once a second of video.
  virtual Status Flush() = 0;

  /// After at least one frame; the last call.
  virtual Status Finish() = 0;
};

/// mp4, webm, gif, y4m: an encoder and a muxer of the FFmpeg libraries.
Result<std::unique_ptr<FrameWriter>> OpenMuxedWriter(const OutputPlan& plan,
                                                     const VideoWriterOptions& options);

/// rgb: the bytes as they come.
Result<std::unique_ptr<FrameWriter>> OpenRgbWriter(const OutputPlan& plan,
                                                   const VideoWriterOptions& options);

/// png: a file per frame.
Result<std::unique_ptr<FrameWriter>> OpenPngWriter(const OutputPlan& plan,
                                                   const VideoWriterOptions& options);

}  // namespace mrt::media
