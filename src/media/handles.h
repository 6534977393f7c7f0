// Every FFmpeg object in a move-only type; no av*_free outside this file.
#pragma once

extern "C" {
#include <libavcodec/avcodec.h>
#include <libavfilter/avfilter.h>
#include <libavformat/avformat.h>
#include <libavutil/frame.h>
#include <libswscale/swscale.h>
}

#include <memory>

namespace mrt::media {

struct FfmpegDeleter {
  void operator()(AVCodecContext* p) const noexcept;
  void operator()(AVFilterGraph* p) const noexcept { avfilter_graph_free(&p); }
  void operator()(AVFrame* p) const noexcept { av_frame_free(&p); }
  void operator()(AVPacket* p) const noexcept { av_packet_free(&p); }
  void operator()(SwsContext* p) const noexcept { sws_freeContext(p); }
};

/// I/O through functions of ours.
struct IoDeleter {
  void operator()(AVIOContext* p) const noexcept {
    av_freep(&p->buffer);
    avio_context_free(&p);
  }
};

/// A muxer, together with the file it writes unless its I/O is an IoPtr of ours.
struct OutputDeleter {
  void operator()(AVFormatContext* p) const noexcept {
    if (!(p->flags & AVFMT_FLAG_CUSTOM_IO)) avio_closep(&p->pb);
    avformat_free_context(p);
  }
};

/// A demuxer whose I/O is an IoPtr of ours.
struct InputDeleter {
  void operator()(AVFormatContext* p) const noexcept { avformat_close_input(&p); }
};

using CodecContextPtr = std::unique_ptr<AVCodecContext, FfmpegDeleter>;
using FilterGraphPtr = std::unique_ptr<AVFilterGraph, FfmpegDeleter>;
using FramePtr = std::unique_ptr<AVFrame, FfmpegDeleter>;
using PacketPtr = std::unique_ptr<AVPacket, FfmpegDeleter>;
using ScalerPtr = std::unique_ptr<SwsContext, FfmpegDeleter>;
using IoPtr = std::unique_ptr<AVIOContext, IoDeleter>;
using OutputPtr = std::unique_ptr<AVFormatContext, OutputDeleter>;
using InputPtr = std::unique_ptr<AVFormatContext, InputDeleter>;

}  // namespace mrt::media
