#include "media/ffmpeg.h"

#include <cerrno>
#include <cstring>

namespace mrt::media {
namespace {

// SVT-AV1 1.4 waits for ever when it is closed before its first frame.
void FeedSvtAv1(AVCodecContext* c) {
  if (!c || !avcodec_is_open(c) || c->codec->name != std::string("libsvtav1")) return;
  if (c->frame_number > 0) return;  // packets that came out
  const auto frame = NewFrame(c->pix_fmt, c->width, c->height);
  if (!frame.ok()) return;
  for (const AVBufferRef* memory : (*frame)->buf)
    if (memory) std::memset(memory->data, 0, memory->size);
  static_cast<void>(avcodec_send_frame(c, frame->get()));
}

}  // namespace

void FfmpegDeleter::operator()(AVCodecContext* p) const noexcept {
  FeedSvtAv1(p);
  avcodec_free_context(&p);
}

void SilenceFfmpeg() { av_log_set_level(AV_LOG_QUIET); }

Status FfmpegError(StatusCode code, const std::string& message, int error) {
  char text[AV_ERROR_MAX_STRING_SIZE] = {};
  av_strerror(error, text, sizeof(text));
  return {error == AVERROR(ENOMEM) ? StatusCode::kOutOfMemory : code, message + ": " + text};
}

Result<const AVCodec*> FindEncoder(const char* name) {
  const AVCodec* codec = avcodec_find_encoder_by_name(name);
  if (!codec)
    return Unavailable(std::string("[media] got FFmpeg libraries without the encoder ") + name +
                       ", need a build that has it (`ffmpeg -encoders` lists them)");
  return codec;
}

Result<FramePtr> NewFrame(AVPixelFormat format, int width, int height) {
  FramePtr frame(av_frame_alloc());
  if (!frame) return OutOfMemory("[media] no memory for a frame");
  frame->format = format;
  frame->width = width;
  frame->height = height;
  constexpr int kAlignAuto = 0;
  if (const int error = av_frame_get_buffer(frame.get(), kAlignAuto); error < 0)
    return FfmpegError(StatusCode::kInternal, "[media] no buffer for a frame", error);
  return frame;
}

void CopyRgb(const uint8_t* rgb, AVFrame* frame) {
  const int64_t row_bytes = int64_t{3} * frame->width;
  for (int64_t y = 0; y < frame->height; ++y)
    std::memcpy(frame->data[0] + y * frame->linesize[0], rgb + y * row_bytes, row_bytes);
}

}  // namespace mrt::media
