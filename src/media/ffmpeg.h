// What every user of the FFmpeg libraries here shares: errors as Status, silence, frames.
#pragma once

#include <cstdint>
#include <string>

#include "base/status.h"
#include "media/handles.h"

namespace mrt::media {

/// Longest side of a frame: 8K. Keeps every size product far inside int64_t and one frame under
/// 200 MB.
inline constexpr int kSideMax = 8192;
/// Frames a second of a video, written or read.
inline constexpr int kFpsMax = 240;

/// Stops the FFmpeg libraries from printing to stderr, for the whole process. Cheap to repeat.
void SilenceFfmpeg();

/// `message: what FFmpeg says of the error`. Running out of memory is kOutOfMemory whatever `code`
/// says.
Status FfmpegError(StatusCode code, const std::string& message, int error);

/// The encoder of that name, or Unavailable with a hint how to get it.
Result<const AVCodec*> FindEncoder(const char* name);

/// A frame with memory of its own, padded and aligned as the libraries like it.
Result<FramePtr> NewFrame(AVPixelFormat format, int width, int height);

/// Copies rgb: [height, width, 3] into an AV_PIX_FMT_RGB24 frame.
void CopyRgb(const uint8_t* rgb, AVFrame* frame);

}  // namespace mrt::media
