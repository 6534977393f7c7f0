#include "media/media_input.h"

extern "C" {
#include <libavutil/avstring.h>
#include <libavutil/intreadwrite.h>
#include <libavutil/opt.h>
}
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <system_error>
#include <vector>

#include "media/ffmpeg.h"

namespace mrt::media {
namespace {

// Demuxers of files that hold everything themselves. Names as FFmpeg's.
constexpr const char* kFormats[] = {
    "avi",       "bmp_pipe",  "flv",       "gif",          "h264",     "hevc",     "ivf",
    "j2k_pipe",  "jpeg_pipe", "matroska",  "mjpeg",        "mov",      "mpeg",     "mpegts",
    "mpegvideo", "obu",       "pam_pipe",  "pbm_pipe",     "pgm_pipe", "png_pipe", "ppm_pipe",
    "qoi_pipe",  "tiff_pipe", "webp_pipe", "yuv4mpegpipe",
};
constexpr int kDecoderThreads = 2;

int RefuseToOpen(AVFormatContext*, AVIOContext**, const char*, int, AVDictionary**) {
  return AVERROR(EACCES);
}

}  // namespace

Result<std::unique_ptr<MediaInput>> MediaInput::Open(const std::string& path) {
  SilenceFfmpeg();
  std::unique_ptr<MediaInput> input(new MediaInput);
  MRT_RETURN_IF_ERROR(input->OpenFile(path));
  MRT_RETURN_IF_ERROR(input->OpenDemuxer());
  MRT_RETURN_IF_ERROR(input->OpenDecoder());
  return input;
}

MediaInput::~MediaInput() {
  decoder_.reset();
  demuxer_.reset();
  io_.reset();
  if (fd_ >= 0) close(fd_);
}

Status MediaInput::OpenFile(const std::string& path) {
  path_ = path;
  // O_NONBLOCK: a named pipe without a writer must not make us wait.
  fd_ = open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC);
  if (fd_ < 0 || path.find('\0') != std::string::npos) {
    const Status error =
        IoError("[input] cannot read '" + path + "': " + std::system_category().message(errno));
    return errno == ENOENT ? NotFound(error.message()) : error;
  }
  struct stat info = {};
  if (fstat(fd_, &info) != 0 || !S_ISREG(info.st_mode))
    return InvalidArgument("[input] got '" + path +
                           "', which is no regular file, need a picture or video");
  size_bytes_ = info.st_size;
  const auto read = [](void* self, uint8_t* data, int bytes) -> int {
    auto& input = *static_cast<MediaInput*>(self);
    const ssize_t got = pread(input.fd_, data, static_cast<size_t>(bytes), input.position_);
    if (got < 0) return AVERROR(errno);
    input.position_ += got;
    return got > 0 ? static_cast<int>(got) : AVERROR_EOF;
  };
  const auto seek = [](void* self, int64_t offset, int whence) -> int64_t {
    auto& input = *static_cast<MediaInput*>(self);
    if (whence & AVSEEK_SIZE) return input.size_bytes_;
    whence &= ~AVSEEK_FORCE;
    const int64_t base = whence == SEEK_CUR   ? input.position_
                         : whence == SEEK_END ? input.size_bytes_
                                              : 0;
    int64_t to = 0;
    if (__builtin_add_overflow(base, offset, &to) || to < 0) return AVERROR(EINVAL);
    return input.position_ = to;
  };
  constexpr int kBufferBytes = 32 << 10, kForReading = 0;
  auto* buffer = static_cast<uint8_t*>(av_malloc(kBufferBytes));
  if (buffer)
    io_.reset(avio_alloc_context(buffer, kBufferBytes, kForReading, this, read, nullptr, seek));
  if (io_) return {};
  av_free(buffer);
  return OutOfMemory("[input] no memory to read '" + path + "'");
}

Status MediaInput::OpenDemuxer() {
  constexpr const char* kNameUnknown = "";  // the content decides
  constexpr unsigned kFromStart = 0, kProbeBytesMax = 1 << 20;
  const AVInputFormat* format = nullptr;
  const int probed =
      av_probe_input_buffer2(io_.get(), &format, kNameUnknown, nullptr, kFromStart, kProbeBytesMax);
  const bool known =
      probed >= 0 && std::any_of(std::begin(kFormats), std::end(kFormats), [&](const char* name) {
        return av_match_name(name, format->name);
      });
  if (!known)
    return BadData("[input] got '" + path_ + "', which is no picture or video of a known format" +
                   (probed >= 0 ? std::string(" (it looks like ") + format->name + ")" : "") +
                   ", need one");
  AVFormatContext* raw = avformat_alloc_context();
  if (!raw) return OutOfMemory("[input] no memory to read '" + path_ + "'");
  raw->pb = io_.get();
  raw->flags |= AVFMT_FLAG_CUSTOM_IO;
  raw->io_open = RefuseToOpen;
  raw->protocol_whitelist = av_strdup("none");
  if (const int error = avformat_open_input(&raw, kNameUnknown, format, nullptr); error < 0)
    return FfmpegError(StatusCode::kBadData, "[input] cannot read '" + path_ + "'", error);
  demuxer_.reset(raw);
  stream_ = av_find_best_stream(raw, AVMEDIA_TYPE_VIDEO, -1, -1, nullptr, 0);
  const bool is_described = stream_ >= 0 && (is_still() || stream().codecpar->width > 0);
  if (!is_described) {
    // This decodes some frames of all streams: with the same limit.
    std::vector<AVDictionary*> options(demuxer_->nb_streams);
    for (AVDictionary*& o : options) av_dict_set_int(&o, "max_pixels", kInputPixelsMax, 0);
    const int error = avformat_find_stream_info(demuxer_.get(), options.data());
    for (AVDictionary*& o : options) av_dict_free(&o);
    if (error < 0)
      return FfmpegError(StatusCode::kBadData, "[input] cannot read '" + path_ + "'", error);
  }
  stream_ = av_find_best_stream(demuxer_.get(), AVMEDIA_TYPE_VIDEO, -1, -1, nullptr, 0);
  if (stream_ < 0)
    return BadData("[input] got '" + path_ + "', which holds no picture or video, need one");
  for (unsigned i = 0; i < demuxer_->nb_streams; ++i)
    if (static_cast<int>(i) != stream_) demuxer_->streams[i]->discard = AVDISCARD_ALL;
  return {};
}

Status MediaInput::OpenDecoder() {
  const AVCodecParameters& parameters = *stream().codecpar;
  MRT_RETURN_IF_ERROR(CheckSize(parameters.width, parameters.height));
  const AVCodec* codec = avcodec_find_decoder(parameters.codec_id);
  if (!codec)
    return Unavailable("[input] got '" + path_ + "' in " + avcodec_get_name(parameters.codec_id) +
                       ", need a codec that these FFmpeg libraries can decode");
  decoder_.reset(avcodec_alloc_context3(codec));
  frame_.reset(av_frame_alloc());
  packet_.reset(av_packet_alloc());
  if (!decoder_ || !frame_ || !packet_) return OutOfMemory("[input] no memory for the decoder");
  int error = avcodec_parameters_to_context(decoder_.get(), &parameters);
  decoder_->pkt_timebase = stream().time_base;
  decoder_->max_pixels = kInputPixelsMax;
  decoder_->thread_count = kDecoderThreads;
  if (is_still()) decoder_->err_recognition = AV_EF_CRCCHECK | AV_EF_EXPLODE;
  if (error >= 0) error = avcodec_open2(decoder_.get(), codec, nullptr);
  if (error < 0)
    return FfmpegError(StatusCode::kBadData, "[input] cannot decode '" + path_ + "'", error);
  return {};
}

Status MediaInput::CheckSize(int width, int height) const {
  if (width <= kInputSideMax && height <= kInputSideMax &&
      int64_t{width} * height <= kInputPixelsMax)
    return {};
  return BadData("[input] got '" + path_ + "' of " + std::to_string(width) + "x" +
                 std::to_string(height) + " pixels, need at most " + std::to_string(kInputSideMax) +
                 " on each side and " + std::to_string(kInputPixelsMax) + " in all");
}

bool MediaInput::is_still() const { return av_strnstr(demuxer_->iformat->name, "_pipe", 64); }

void MediaInput::DropPngTexts() {
  if (stream().codecpar->codec_id != AV_CODEC_ID_PNG) return;
  constexpr int64_t kSignatureBytes = 8, kAroundDataBytes = 12;  // length, letters, CRC
  uint8_t* const bytes = packet_->data;
  int64_t kept = std::min<int64_t>(kSignatureBytes, packet_->size);
  for (int64_t at = kept; at < packet_->size;) {
    int64_t chunk = packet_->size - at;  // what is cut stays as it is
    bool is_text = false;
    if (chunk >= kAroundDataBytes) {
      chunk = std::min<int64_t>(chunk, kAroundDataBytes + int64_t{AV_RB32(bytes + at)});
      for (const char* letters : {"zTXt", "iTXt", "tEXt", "iCCP"})
        is_text = is_text || std::memcmp(bytes + at + 4, letters, 4) == 0;
    }
    if (!is_text) {
      std::memmove(bytes + kept, bytes + at, static_cast<size_t>(chunk));
      kept += chunk;
    }
    at += chunk;
  }
  av_shrink_packet(packet_.get(), static_cast<int>(kept));
}

Result<const AVFrame*> MediaInput::Next() {
  for (;;) {
    const int got = avcodec_receive_frame(decoder_.get(), frame_.get());
    if (got == AVERROR_EOF) return nullptr;
    if (got >= 0) {
      if ((frame_->flags & AV_FRAME_FLAG_CORRUPT) || frame_->decode_error_flags) {
        damaged_ = true;
        continue;
      }
      MRT_RETURN_IF_ERROR(CheckSize(frame_->width, frame_->height));
      const int64_t stamp = frame_->best_effort_timestamp;
      const double rate = fps();
      const double now = stamp != AV_NOPTS_VALUE
                             ? static_cast<double>(stamp) * av_q2d(stream().time_base)
                         : rate > 0 ? static_cast<double>(frames_) / rate
                                    : 0;
      time_s_ = frames_++ ? std::max(time_s_, now) : now;
      return frame_.get();
    }
    if (got == AVERROR(ENOMEM)) return OutOfMemory("[input] no memory to decode '" + path_ + "'");
    if (got != AVERROR(EAGAIN)) damaged_ = true;
    if (at_end_) return nullptr;
    const int read = av_read_frame(demuxer_.get(), packet_.get());
    at_end_ = read < 0;
    damaged_ = damaged_ || (read < 0 && read != AVERROR_EOF);
    if (read >= 0 && packet_->stream_index != stream_) {
      av_packet_unref(packet_.get());
      continue;
    }
    if (!at_end_) {
      if (const int error = av_packet_make_writable(packet_.get()); error < 0)
        return FfmpegError(StatusCode::kIoError, "[input] no memory for a packet", error);
      DropPngTexts();
    }
    const int sent = avcodec_send_packet(decoder_.get(), at_end_ ? nullptr : packet_.get());
    damaged_ = damaged_ || (sent < 0 && sent != AVERROR(EAGAIN) && sent != AVERROR_EOF);
    av_packet_unref(packet_.get());
  }
}

void MediaInput::SeekBefore(double time_s) {
  const auto stamp = static_cast<int64_t>(time_s / av_q2d(stream().time_base));
  static_cast<void>(av_seek_frame(demuxer_.get(), stream_, stamp, AVSEEK_FLAG_BACKWARD));
}

double MediaInput::start_s() const {
  if (demuxer_->start_time == AV_NOPTS_VALUE) return 0;
  return static_cast<double>(demuxer_->start_time) / AV_TIME_BASE;
}

double MediaInput::duration_s() const {
  if (is_still() || demuxer_->duration == AV_NOPTS_VALUE) return 0;
  return static_cast<double>(demuxer_->duration) / AV_TIME_BASE;
}

double MediaInput::fps() const {
  const AVRational rate = stream().avg_frame_rate;
  return is_still() || rate.num <= 0 || rate.den <= 0 ? 0 : av_q2d(rate);
}

}  // namespace mrt::media
