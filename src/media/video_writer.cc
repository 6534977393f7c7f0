#include "media/video_writer.h"

extern "C" {
#include <libavutil/opt.h>
}

#include <algorithm>
#include <array>
#include <optional>
#include <utility>

#include "media/atomic_file.h"
#include "media/ffmpeg.h"

namespace mrt::media {
namespace {

constexpr const char* kEncoderName = "libx264";
constexpr std::array kPresets = {"ultrafast", "superfast", "veryfast", "faster",   "fast",
                                 "medium",    "slow",      "slower",   "veryslow", "placebo"};
constexpr int kCrfMax = 51;  // crf 0 is lossless, a profile that players do not know
constexpr int kFpsMax = 240;
constexpr int kThreadsMax = 64;

Status RequireBetween(const char* name, int value, int low, int high) {
  if (value >= low && value <= high) return {};
  return InvalidArgument(std::string("[video_writer] got ") + name + " " + std::to_string(value) +
                         ", need " + std::to_string(low) + " to " + std::to_string(high));
}

Status Validate(const std::string& path, const VideoWriterOptions& o) {
  MRT_RETURN_IF_ERROR(RequireExtension(path, ".mp4"));
  MRT_RETURN_IF_ERROR(RequireBetween("width", o.width, 2, kSideMax));
  MRT_RETURN_IF_ERROR(RequireBetween("height", o.height, 2, kSideMax));
  if (o.width % 2 || o.height % 2)
    return InvalidArgument("[video_writer] got frames of " + std::to_string(o.width) + "x" +
                           std::to_string(o.height) + ", need an even width and height");
  MRT_RETURN_IF_ERROR(RequireBetween("fps", o.fps, 1, kFpsMax));
  MRT_RETURN_IF_ERROR(RequireBetween("crf", o.crf, 1, kCrfMax));
  MRT_RETURN_IF_ERROR(RequireBetween("threads", o.threads, 0, kThreadsMax));
  if (std::find(kPresets.begin(), kPresets.end(), o.preset) == kPresets.end())
    return InvalidArgument("[video_writer] got the preset '" + o.preset +
                           "', need one of x264's: ultrafast, superfast, veryfast, faster, fast, "
                           "medium, slow, slower, veryslow, placebo");
  return {};
}

Result<CodecContextPtr> OpenEncoder(const VideoWriterOptions& o) {
  MRT_ASSIGN_OR_RETURN(const AVCodec* codec, FindEncoder(kEncoderName));
  CodecContextPtr c(avcodec_alloc_context3(codec));
  if (!c) return OutOfMemory("[video_writer] no memory for the encoder");
  c->width = o.width;
  c->height = o.height;
  c->pix_fmt = AV_PIX_FMT_YUV420P;
  c->time_base = {1, o.fps};
  c->framerate = {o.fps, 1};
  c->sample_aspect_ratio = {1, 1};
  c->color_primaries = AVCOL_PRI_BT709;
  c->color_trc = AVCOL_TRC_BT709;
  c->colorspace = AVCOL_SPC_BT709;
  c->color_range = AVCOL_RANGE_MPEG;
  c->chroma_sample_location = AVCHROMA_LOC_LEFT;
  c->thread_count = o.threads ? o.threads : VideoWriterOptions::kThreadsDefault;
  c->flags |= AV_CODEC_FLAG_GLOBAL_HEADER | AV_CODEC_FLAG_BITEXACT;  // MP4 keeps headers apart
  av_opt_set(c->priv_data, "preset", o.preset.c_str(), 0);
  av_opt_set_double(c->priv_data, "crf", o.crf, 0);
  // Without it the bits depend on the instruction set, and on AVX-512 (x264 build 164) on whatever
  // was in memory before: two runs of the same frames differ.
  av_opt_set(c->priv_data, "x264-params", "cpu-independent=1", 0);
  if (const int error = avcodec_open2(c.get(), codec, nullptr); error < 0)
    return FfmpegError(StatusCode::kUnavailable, "[video_writer] libx264 does not start", error);
  return c;
}

// RGB in full range to BT.709 in TV range. Chroma sits left between two rows, as H.264 assumes when
// nothing else is said.
Result<ScalerPtr> OpenConverter(int width, int height) {
  ScalerPtr s(sws_alloc_context());
  if (!s) return OutOfMemory("[video_writer] no memory for the colour conversion");
  const std::pair<const char*, int64_t> settings[] = {
      {"srcw", width},
      {"srch", height},
      {"src_format", AV_PIX_FMT_RGB24},
      {"dstw", width},
      {"dsth", height},
      {"dst_format", AV_PIX_FMT_YUV420P},
      {"dst_h_chr_pos", 0},    // in 1/256 of a pixel: on the left one of two columns
      {"dst_v_chr_pos", 128},  // in the middle of two rows
      {"sws_flags", SWS_BICUBIC | SWS_ACCURATE_RND | SWS_FULL_CHR_H_INP | SWS_BITEXACT},
  };
  for (const auto& [name, value] : settings) av_opt_set_int(s.get(), name, value, 0);
  constexpr int kFullRange = 1, kTvRange = 0, kBrightness = 0, kOne = 1 << 16;
  const int* bt709 = sws_getCoefficients(SWS_CS_ITU709);
  sws_setColorspaceDetails(s.get(), bt709, kFullRange, bt709, kTvRange, kBrightness, kOne, kOne);
  if (const int error = sws_init_context(s.get(), nullptr, nullptr); error < 0)
    return FfmpegError(StatusCode::kInternal, "[video_writer] no colour conversion", error);
  return s;
}

Result<OutputPtr> OpenMuxer(const std::string& file, const AVCodecContext& encoder) {
  AVFormatContext* raw = nullptr;
  if (const int error = avformat_alloc_output_context2(&raw, nullptr, "mp4", nullptr); error < 0)
    return FfmpegError(StatusCode::kUnavailable, "[video_writer] no MP4 muxer", error);
  OutputPtr muxer(raw);
  // No library version and no time of writing; a full disk is noticed at once, not 256 KiB later.
  muxer->flags |= AVFMT_FLAG_BITEXACT | AVFMT_FLAG_FLUSH_PACKETS;
  AVStream* stream = avformat_new_stream(muxer.get(), nullptr);
  if (!stream) return OutOfMemory("[video_writer] no memory for the stream");
  stream->time_base = encoder.time_base;
  stream->avg_frame_rate = encoder.framerate;
  if (const int error = avcodec_parameters_from_context(stream->codecpar, &encoder); error < 0)
    return FfmpegError(StatusCode::kInternal, "[video_writer] no stream parameters", error);
  // The muxer reads the file again by its URL to move the index to the front; "file:" keeps a colon
  // in the name from being taken for a protocol.
  const std::string url = "file:" + file;
  muxer->url = av_strdup(url.c_str());
  if (!muxer->url) return OutOfMemory("[video_writer] no memory for the file name");
  if (const int error = avio_open(&muxer->pb, url.c_str(), AVIO_FLAG_WRITE); error < 0)
    return FfmpegError(StatusCode::kIoError, "[video_writer] cannot open '" + file + "'", error);
  av_opt_set(muxer->priv_data, "movflags", "+faststart", 0);
  if (const int error = avformat_write_header(muxer.get(), nullptr); error < 0)
    return FfmpegError(StatusCode::kIoError, "[video_writer] cannot write '" + file + "'", error);
  return muxer;
}

}  // namespace

// One output file. The members that are open end with the first error or with Finish().
class VideoWriter::Impl {
 public:
  Impl(std::string path, AtomicFile file) : path_(std::move(path)), file_(std::move(file)) {}

  Status Open(const VideoWriterOptions& options) {
    MRT_ASSIGN_OR_RETURN(encoder_, OpenEncoder(options));
    MRT_ASSIGN_OR_RETURN(converter_, OpenConverter(options.width, options.height));
    MRT_ASSIGN_OR_RETURN(rgb_, NewFrame(AV_PIX_FMT_RGB24, options.width, options.height));
    MRT_ASSIGN_OR_RETURN(yuv_, NewFrame(AV_PIX_FMT_YUV420P, options.width, options.height));
    MRT_ASSIGN_OR_RETURN(muxer_, OpenMuxer(file_->partial_path(), *encoder_));
    packet_.reset(av_packet_alloc());
    if (!packet_) return OutOfMemory("[video_writer] no memory for a packet");
    return {};
  }

  Status Write(const uint8_t* rgb, int64_t frames) {
    if (!end_.ok()) return end_;
    if (frames < 0 || (frames > 0 && !rgb))
      return InvalidArgument("[video_writer] got " + std::to_string(frames) +
                             " frames, need 0 or more, and a pointer to their pixels");
    const int64_t frame_bytes = int64_t{3} * rgb_->width * rgb_->height;
    for (int64_t i = 0; i < frames; ++i)
      if (Status s = WriteFrame(rgb + i * frame_bytes); !s.ok()) return Close(std::move(s));
    return {};
  }

  Status Finish() {
    if (!end_.ok()) return end_;
    if (frames_written_ == 0)
      return Close(InvalidArgument("[video_writer] got 0 frames for '" + path_ + "', need one"));
    if (Status s = FinishFile(); !s.ok()) return Close(std::move(s));
    static_cast<void>(Close(InvalidArgument("[video_writer] '" + path_ + "' is finished already")));
    return {};
  }

 private:
  Status WriteFrame(const uint8_t* rgb) {
    CopyRgb(rgb, rgb_.get());
    // Gives it new memory should the encoder still hold the old; libx264 copies, so it never does.
    if (const int error = av_frame_make_writable(yuv_.get()); error < 0)
      return FfmpegError(StatusCode::kInternal, "[video_writer] no buffer for a frame", error);
    sws_scale(converter_.get(), rgb_->data, rgb_->linesize, 0, rgb_->height, yuv_->data,
              yuv_->linesize);
    yuv_->pts = frames_written_++;
    return Encode(yuv_.get());
  }

  // nullptr: no more frames.
  Status Encode(const AVFrame* frame) {
    if (const int error = avcodec_send_frame(encoder_.get(), frame); error < 0)
      return FfmpegError(StatusCode::kInternal, "[video_writer] encoding failed", error);
    for (;;) {
      const int got = avcodec_receive_packet(encoder_.get(), packet_.get());
      if (got == AVERROR(EAGAIN) || got == AVERROR_EOF) return {};
      if (got < 0) return FfmpegError(StatusCode::kInternal, "[video_writer] encoding failed", got);
      packet_->duration = 1;
      av_packet_rescale_ts(packet_.get(), encoder_->time_base, muxer_->streams[0]->time_base);
      if (const int error = av_write_frame(muxer_.get(), packet_.get()); error < 0)
        return WriteError(error);
    }
  }

  Status FinishFile() {
    MRT_RETURN_IF_ERROR(Encode(nullptr));
    if (const int error = av_write_trailer(muxer_.get()); error < 0) return WriteError(error);
    avio_flush(muxer_->pb);
    if (muxer_->pb->error < 0) return WriteError(muxer_->pb->error);
    muxer_.reset();
    return file_->Commit();
  }

  Status WriteError(int error) const {
    return FfmpegError(StatusCode::kIoError, "[video_writer] cannot write '" + path_ + "'", error);
  }

  // Lets go of everything; `end` is what later calls return, and the result.
  Status Close(Status end) {
    packet_.reset();
    muxer_.reset();
    rgb_.reset();
    yuv_.reset();
    converter_.reset();
    encoder_.reset();
    file_.reset();
    end_ = std::move(end);
    return end_;
  }

  std::string path_;
  Status end_;  // not ok: closed
  int64_t frames_written_ = 0;
  std::optional<AtomicFile> file_;
  CodecContextPtr encoder_;
  ScalerPtr converter_;
  FramePtr rgb_;  // a padded copy of the caller's frame: the converter reads past its end
  FramePtr yuv_;  // the same frame converted
  OutputPtr muxer_;
  PacketPtr packet_;
};

Result<VideoWriter> VideoWriter::Open(const std::string& path, const VideoWriterOptions& options) {
  SilenceFfmpeg();
  MRT_RETURN_IF_ERROR(Validate(path, options));
  MRT_ASSIGN_OR_RETURN(AtomicFile file, AtomicFile::Create(path));
  auto impl = std::make_unique<Impl>(path, std::move(file));
  MRT_RETURN_IF_ERROR(impl->Open(options));
  return VideoWriter(std::move(impl));
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
