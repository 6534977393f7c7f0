extern "C" {
#include <libavutil/opt.h>
}

#include <algorithm>
#include <optional>
#include <utility>

#include "media/byte_sink.h"
#include "media/ffmpeg.h"
#include "media/frame_converter.h"
#include "media/frame_writer.h"
#include "media/memory_output.h"

namespace mrt::media {
namespace {

const char* MuxerName(OutputFormat format) {
  switch (format) {
    case OutputFormat::kWebm: return "webm";
    case OutputFormat::kGif: return "gif";
    case OutputFormat::kY4m: return "yuv4mpegpipe";
    default: return "mp4";
  }
}

// The encoders that only repack: GIF's, and the one that hands frames to the Y4M muxer.
Result<CodecContextPtr> OpenPlainEncoder(const char* name, AVPixelFormat format,
                                         const VideoWriterOptions& options) {
  MRT_ASSIGN_OR_RETURN(const AVCodec* codec, FindEncoder(name));
  CodecContextPtr c(avcodec_alloc_context3(codec));
  if (!c) return OutOfMemory("[output] no memory for the encoder");
  c->width = options.width;
  c->height = options.height;
  c->pix_fmt = format;
  c->time_base = {1, options.fps};
  c->framerate = {options.fps, 1};
  c->sample_aspect_ratio = {1, 1};
  c->thread_count = 1;
  if (format == AV_PIX_FMT_YUV420P) {
    c->color_range = AVCOL_RANGE_MPEG;
    c->chroma_sample_location = AVCHROMA_LOC_LEFT;
  }
  if (const int error = avcodec_open2(c.get(), codec, nullptr); error < 0)
    return FfmpegError(StatusCode::kUnavailable,
                       std::string("[output] ") + name + " does not start", error);
  return c;
}

Result<CodecContextPtr> OpenEncoder(const OutputPlan& plan, const VideoWriterOptions& o) {
  if (plan.format == OutputFormat::kGif) return OpenPlainEncoder("gif", AV_PIX_FMT_PAL8, o);
  if (plan.format == OutputFormat::kY4m)
    return OpenPlainEncoder("wrapped_avframe", AV_PIX_FMT_YUV420P, o);
  return OpenVideoEncoder(*plan.encoder,
                          {.width = o.width,
                           .height = o.height,
                           .fps = o.fps,
                           .crf = plan.crf,
                           .threads = o.threads ? o.threads : VideoWriterOptions::kThreadsDefault,
                           .preset = o.preset,
                           .live = plan.live()});
}

// GIF89a, section 24: a comment in pieces of at most 255 bytes, ended by an empty one.
std::vector<uint8_t> GifComment(const std::string& text) {
  std::vector<uint8_t> block = {0x21, 0xFE};
  for (size_t at = 0; at < text.size(); at += 255) {
    const std::string piece = text.substr(at, 255);
    block.push_back(static_cast<uint8_t>(piece.size()));
    block.insert(block.end(), piece.begin(), piece.end());
  }
  block.push_back(0);
  return block;
}

class MuxedWriter : public FrameWriter {
 public:
  MuxedWriter(OutputPlan plan, ByteSink sink, std::vector<Tag> tags)
      : plan_(std::move(plan)), sink_(std::move(sink)), tags_(std::move(tags)) {}

  // FFmpeg's GIF muxer holds back one packet and frees it in its trailer only: a video that is
  // given up gets one too. It goes to memory and no further.
  ~MuxedWriter() override {
    if (trailer_is_due_ && !SeeksInFile()) static_cast<void>(WriteTrailer());
  }

  Status Open(const VideoWriterOptions& o) {
    const bool gif = plan_.format == OutputFormat::kGif;
    MRT_ASSIGN_OR_RETURN(encoder_, OpenEncoder(plan_, o));
    MRT_ASSIGN_OR_RETURN(converter_, gif ? OpenPaletteConverter(o.width, o.height, o.fps)
                                         : OpenYuvConverter(o.width, o.height));
    packet_.reset(av_packet_alloc());
    if (!packet_) return OutOfMemory("[output] no memory for a packet");
    return OpenMuxer();
  }

  Status WriteFrame(const uint8_t* rgb) override {
    MRT_RETURN_IF_ERROR(converter_->Send(rgb));
    for (;;) {
      MRT_ASSIGN_OR_RETURN(const AVFrame* frame, converter_->Receive());
      if (!frame) return {};
      MRT_RETURN_IF_ERROR(Encode(frame));
    }
  }

  Status Flush() override {
    if (SeeksInFile() || !std::exchange(has_new_packets_, false)) return {};
    if (plan_.live()) {
      constexpr AVPacket* kEndOfFragment = nullptr;
      if (const int error = av_write_frame(muxer_.get(), kEndOfFragment); error < 0)
        return WriteError(error);
    }
    return HandOn();
  }

  Status Finish() override {
    constexpr const uint8_t* kEnd = nullptr;
    MRT_RETURN_IF_ERROR(WriteFrame(kEnd));
    MRT_RETURN_IF_ERROR(Encode(nullptr));
    MRT_RETURN_IF_ERROR(Flush());
    if (const int error = WriteTrailer(); error < 0) return WriteError(error);
    if (SeeksInFile()) {
      avio_flush(muxer_->pb);
      if (muxer_->pb->error < 0) return WriteError(muxer_->pb->error);
    } else {
      const bool gif = plan_.format == OutputFormat::kGif;
      MRT_RETURN_IF_ERROR(gif ? HandOnWithComment() : HandOn());
    }
    muxer_.reset();
    return sink_.Commit();
  }

 private:
  // MP4 and WebM go back to write their index; everything else is appended.
  bool SeeksInFile() const {
    const bool has_index =
        plan_.format == OutputFormat::kMp4 || plan_.format == OutputFormat::kWebm;
    return has_index && !plan_.live();
  }

  Status OpenMuxer() {
    AVFormatContext* raw = nullptr;
    const char* name = MuxerName(plan_.format);
    if (const int error = avformat_alloc_output_context2(&raw, nullptr, name, nullptr); error < 0)
      return FfmpegError(StatusCode::kUnavailable, std::string("[output] no muxer ") + name, error);
    muxer_.reset(raw);
    // No library version and no time of writing; a full disk is noticed at once, not 256 KiB later.
    muxer_->flags |= AVFMT_FLAG_BITEXACT | AVFMT_FLAG_FLUSH_PACKETS;
    AVStream* stream = avformat_new_stream(muxer_.get(), nullptr);
    if (!stream) return OutOfMemory("[output] no memory for the stream");
    stream->time_base = encoder_->time_base;
    stream->avg_frame_rate = encoder_->framerate;
    if (const int error = avcodec_parameters_from_context(stream->codecpar, encoder_.get());
        error < 0)
      return FfmpegError(StatusCode::kInternal, "[output] no stream parameters", error);
    for (const Tag& tag : tags_)
      av_dict_set(&muxer_->metadata, tag.name.c_str(), tag.text.c_str(), 0);
    MRT_RETURN_IF_ERROR(OpenIo());
    if (plan_.format == OutputFormat::kMp4)
      av_opt_set(muxer_->priv_data, "movflags",
                 plan_.live() ? "+frag_custom+empty_moov+default_base_moof" : "+faststart", 0);
    // Some AV1 encoders tell what belongs into the header of the file with their first packet.
    const bool header_is_known = encoder_->codec_id != AV_CODEC_ID_AV1 || encoder_->extradata;
    return header_is_known ? WriteHeader() : Status();
  }

  Status WriteHeader() {
    if (const int error = avformat_write_header(muxer_.get(), nullptr); error < 0)
      return WriteError(error);
    has_header_ = trailer_is_due_ = true;
    return {};
  }

  int WriteTrailer() {
    trailer_is_due_ = false;
    return av_write_trailer(muxer_.get());
  }

  Status WriteLateHeader() {
    size_t bytes = 0;
    const uint8_t* extradata =
        av_packet_get_side_data(packet_.get(), AV_PKT_DATA_NEW_EXTRADATA, &bytes);
    AVCodecParameters* p = muxer_->streams[0]->codecpar;
    p->extradata = static_cast<uint8_t*>(av_mallocz(bytes + AV_INPUT_BUFFER_PADDING_SIZE));
    if (!p->extradata) return OutOfMemory("[output] no memory for the header");
    std::copy_n(extradata, bytes, p->extradata);
    p->extradata_size = static_cast<int>(bytes);
    return WriteHeader();
  }

  Status OpenIo() {
    if (!SeeksInFile()) {
      MRT_RETURN_IF_ERROR(memory_.Open());
      muxer_->pb = memory_.io();
      muxer_->flags |= AVFMT_FLAG_CUSTOM_IO;
      return {};
    }
    // The MP4 muxer reads the file again by its URL to move the index to the front; "file:" keeps a
    // colon in the name from being taken for a protocol.
    const std::string url = "file:" + sink_.partial_path();
    muxer_->url = av_strdup(url.c_str());
    if (!muxer_->url) return OutOfMemory("[output] no memory for the file name");
    const int error = avio_open(&muxer_->pb, url.c_str(), AVIO_FLAG_WRITE);
    return error < 0 ? WriteError(error) : Status();
  }

  // nullptr: no more frames.
  Status Encode(const AVFrame* frame) {
    if (const int error = avcodec_send_frame(encoder_.get(), frame); error < 0)
      return FfmpegError(StatusCode::kInternal, "[output] encoding failed", error);
    for (;;) {
      const int got = avcodec_receive_packet(encoder_.get(), packet_.get());
      if (got == AVERROR(EAGAIN) || got == AVERROR_EOF) return {};
      if (got < 0) return FfmpegError(StatusCode::kInternal, "[output] encoding failed", got);
      if (!has_header_) MRT_RETURN_IF_ERROR(WriteLateHeader());
      packet_->duration = 1;
      av_packet_rescale_ts(packet_.get(), encoder_->time_base, muxer_->streams[0]->time_base);
      if (const int error = av_write_frame(muxer_.get(), packet_.get()); error < 0)
        return WriteError(error);
      has_new_packets_ = true;
    }
  }

  // Gives everything in memory to the sink at once. What is of use already gets its name.
  Status HandOn() {
    const std::vector<uint8_t> bytes = memory_.Take();
    MRT_RETURN_IF_ERROR(sink_.Append(bytes.data(), static_cast<int64_t>(bytes.size())));
    return plan_.live() ? sink_.Publish() : Status();
  }

  // FFmpeg's muxer writes no comment: it goes between the last picture and the byte that ends the
  // file.
  Status HandOnWithComment() {
    std::vector<uint8_t> bytes = memory_.Take();
    for (const Tag& tag : tags_) {
      if (tag.name != "comment") continue;
      const std::vector<uint8_t> comment = GifComment(tag.text);
      bytes.insert(bytes.end() - 1, comment.begin(), comment.end());
    }
    return sink_.Append(bytes.data(), static_cast<int64_t>(bytes.size()));
  }

  Status WriteError(int error) const {
    return FfmpegError(StatusCode::kIoError, "[output] cannot write '" + plan_.path + "'", error);
  }

  const OutputPlan plan_;
  ByteSink sink_;
  const std::vector<Tag> tags_;
  CodecContextPtr encoder_;
  std::unique_ptr<FrameConverter> converter_;
  MemoryOutput memory_;  // outlives muxer_; unused by one that seeks
  OutputPtr muxer_;
  PacketPtr packet_;
  bool has_header_ = false;
  bool trailer_is_due_ = false;
  bool has_new_packets_ = false;  // since the last Flush()
};

}  // namespace

Result<std::unique_ptr<FrameWriter>> OpenMuxedWriter(const OutputPlan& plan,
                                                     const VideoWriterOptions& options) {
  MRT_ASSIGN_OR_RETURN(ByteSink sink,
                       plan.fd ? ByteSink::ToDescriptor(*plan.fd) : ByteSink::ToFile(plan.path));
  auto writer = std::make_unique<MuxedWriter>(plan, std::move(sink), TagsOf(options.metadata));
  MRT_RETURN_IF_ERROR(writer->Open(options));
  return std::unique_ptr<FrameWriter>(std::move(writer));
}

}  // namespace mrt::media
