// The video codecs and the settings of their encoders, as one table.
#pragma once

#include <string>
#include <vector>

#include "base/status.h"
#include "media/handles.h"

namespace mrt::media {

/// One encoder of the FFmpeg libraries.
struct VideoEncoder {
  const char* name;
  const char* quality_option;  // its name for the constant rate factor
  int quality_scale;           // its steps per step of crf
  std::vector<std::pair<const char*, const char*>> options;
  bool can_be_live;  // can give each frame at once, with live_options
  std::vector<std::pair<const char*, const char*>> live_options;
  int side_min;  // pixels
};

struct VideoCodec {
  const char* name;
  int crf_low, crf_medium, crf_high, crf_best;  // of the named qualities
  int crf_min, crf_max;
  std::vector<VideoEncoder> encoders;  // best first: the first that is compiled in is used
};

/// The codec called `name`: h264, vp9 or av1. Never fails for these; otherwise nullptr.
const VideoCodec* FindVideoCodec(const std::string& name);

/// `quality` is low, medium, high, best or a whole number in the codec's range; empty is high.
/// InvalidArgument otherwise.
Result<int> CrfOf(const VideoCodec& codec, const std::string& quality);

/// The encoder that is used, or Unavailable with the names of those that would do. `live`: one that
/// can be.
Result<const VideoEncoder*> ChooseEncoder(const VideoCodec& codec, bool live);

struct EncoderSettings {
  int width = 0;
  int height = 0;
  int fps = 0;
  int crf = 0;
  int threads = 0;
  std::string preset;  // empty, or of libx264: InvalidArgument if it does not know it
  bool live = false;   // every frame leaves at once; a key frame every 2 s
};

/// An open encoder that takes yuv420p in BT.709, TV range.
Result<CodecContextPtr> OpenVideoEncoder(const VideoEncoder& encoder,
                                         const EncoderSettings& settings);

}  // namespace mrt::media
