#include "media/video_writer.h"

#include <algorithm>
#include <utility>

#include "media/ffmpeg.h"
#include "media/frame_writer.h"
#include "media/output_plan.h"

namespace mrt::media {
namespace {

Result<std::unique_ptr<FrameWriter>> OpenWriter(const OutputPlan& plan,
                                                const VideoWriterOptions& options) {
  if (plan.format == OutputFormat::kPng) return OpenPngWriter(plan, options);
  if (plan.format == OutputFormat::kRgb) return OpenRgbWriter(plan, options);
  return OpenMuxedWriter(plan, options);
}

}  // namespace

// Checks the order of calls, cuts them into frames and seconds, and lets go of everything with the
// first error or with Finish().
class VideoWriter::Impl {
 public:
  Impl(std::string name, const VideoWriterOptions& options, std::unique_ptr<FrameWriter> writer)
      : name_(std::move(name)),
        frame_bytes_(int64_t{3} * options.width * options.height),
        fps_(options.fps),
        writer_(std::move(writer)) {}

  Status Write(const uint8_t* rgb, int64_t frames) {
    if (!end_.ok()) return end_;
    if (frames < 0 || (frames > 0 && !rgb))
      return InvalidArgument("[output] got " + std::to_string(frames) +
                             " frames, need 0 or more, and a pointer to their pixels");
    for (int64_t i = 0; i < frames; ++i) {
      Status s = writer_->WriteFrame(rgb + i * frame_bytes_);
      ++frames_written_;
      if (s.ok() && (i + 1 == frames || (i + 1) % fps_ == 0)) s = writer_->Flush();
      if (!s.ok()) return Close(std::move(s));
    }
    return {};
  }

  Status Finish() {
    if (!end_.ok()) return end_;
    if (frames_written_ == 0)
      return Close(InvalidArgument("[output] got 0 frames for '" + name_ + "', need one"));
    if (Status s = writer_->Finish(); !s.ok()) return Close(std::move(s));
    static_cast<void>(Close(InvalidArgument("[output] '" + name_ + "' is finished already")));
    return {};
  }

 private:
  // `end` is what later calls return, and the result.
  Status Close(Status end) {
    writer_.reset();
    end_ = std::move(end);
    return end_;
  }

  const std::string name_;
  const int64_t frame_bytes_;
  const int fps_;
  std::unique_ptr<FrameWriter> writer_;
  Status end_;  // not ok: closed
  int64_t frames_written_ = 0;
};

Result<VideoWriter> VideoWriter::Open(const std::string& path, const VideoWriterOptions& options) {
  SilenceFfmpeg();
  MRT_ASSIGN_OR_RETURN(const OutputPlan plan, PlanOutput(path, std::nullopt, options));
  MRT_ASSIGN_OR_RETURN(auto writer, OpenWriter(plan, options));
  return VideoWriter(std::make_unique<Impl>(path, options, std::move(writer)));
}

Result<VideoWriter> VideoWriter::OpenDescriptor(int fd, const VideoWriterOptions& options) {
  SilenceFfmpeg();
  const std::string name = "descriptor " + std::to_string(fd);
  MRT_ASSIGN_OR_RETURN(const OutputPlan plan, PlanOutput(name, fd, options));
  MRT_ASSIGN_OR_RETURN(auto writer, OpenWriter(plan, options));
  return VideoWriter(std::make_unique<Impl>(name, options, std::move(writer)));
}

VideoWriter::VideoWriter(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
VideoWriter::VideoWriter(VideoWriter&&) noexcept = default;
VideoWriter& VideoWriter::operator=(VideoWriter&&) noexcept = default;
VideoWriter::~VideoWriter() = default;

Status VideoWriter::Write(const uint8_t* rgb, int64_t frames) { return impl_->Write(rgb, frames); }
Status VideoWriter::Finish() { return impl_->Finish(); }

std::vector<std::string> AvailableEncoders() {
  std::vector<std::string> names;
  void* position = nullptr;
  while (const AVCodec* codec = av_codec_iterate(&position)) {
    const bool wanted = codec->id == AV_CODEC_ID_H264 || codec->id == AV_CODEC_ID_VP9 ||
                        codec->id == AV_CODEC_ID_AV1;
    if (wanted && av_codec_is_encoder(codec)) names.emplace_back(codec->name);
  }
  std::sort(names.begin(), names.end());
  return names;
}

}  // namespace mrt::media
