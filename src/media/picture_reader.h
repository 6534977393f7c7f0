// Pictures and the end of videos as RGB, to start a generation from.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/status.h"

namespace mrt::media {

/// All functions take any format that the FFmpeg libraries decode from one file (PNG, JPEG, WebP,
/// MP4, WebM, GIF ...) and treat it as hostile. Errors: NotFound; InvalidArgument for a directory,
/// a pipe, a device, or sizes not in 1..kSideMax (8192); BadData for a file that is damaged, of no
/// known format, without a picture, or of over 16384 pixels on a side or 8192 * 8192 in all (seen
/// before memory for them is asked); Unavailable without the decoder.
///
/// Frames are upright (EXIF, display matrix), scaled to cover width x height and cut in the middle;
/// transparent pixels lie on white.

struct PictureInfo {
  int width = 0;  // of the upright picture with square pixels
  int height = 0;
  double duration_s = 0;  // 0: a still picture, or the file does not say
  double fps = 0;         // likewise
};

/// What is in the file; decodes its first frame.
Result<PictureInfo> ProbePicture(const std::string& path);

/// rgb: [height, width, 3] of the picture, or of the first frame of a video.
Result<std::vector<uint8_t>> ReadImage(const std::string& path, int width, int height);

struct RgbFrames {
  int64_t frames = 0;
  std::vector<uint8_t> rgb;  // [frames, height, width, 3]
};

/// The end of a video, `fps` frames for every second of it: the last one is the video's last, each
/// other one the frame nearest in time, also where the frame rate varies. At most `frames_max`,
/// fewer if the video is shorter, at least one. Frames that are damaged are passed over. Memory:
/// `frames_max` frames and 8 bytes per frame of the part that was decoded, which is the end of the
/// file where the file can be searched by time.
Result<RgbFrames> ReadVideoTail(const std::string& path, int width, int height, double fps,
                                int64_t frames_max);

}  // namespace mrt::media
