#include <cstdint>  // first: buffersink.h needs its macros

extern "C" {
#include <libavfilter/buffersink.h>
#include <libavfilter/buffersrc.h>
}

#include <string>
#include <utility>

#include "media/ffmpeg.h"
#include "media/frame_converter.h"

namespace mrt::media {
namespace {

// The filter graph, left to right:
//
//   source -> split -+-----------------> use -> sink
//                    +-> palette -----> use
//
// A palette from the histogram of each frame, used for that frame. One colour of 256 stays free
// for "as before", which lets the GIF encoder store only what moved. Ordered dithering: it stands
// still where nothing moves, and files are half as large as with error diffusion.
class PaletteConverter : public FrameConverter {
 public:
  Status Open(int width, int height, int fps) {
    MRT_ASSIGN_OR_RETURN(frame_, NewFrame(AV_PIX_FMT_RGB24, width, height));
    out_.reset(av_frame_alloc());
    graph_.reset(avfilter_graph_alloc());
    if (!out_ || !graph_) return OutOfMemory("[output] no memory for the GIF palette");
    graph_->nb_threads = 1;
    const std::string input = "video_size=" + std::to_string(width) + "x" + std::to_string(height) +
                              ":pix_fmt=rgb24:time_base=1/" + std::to_string(fps);
    AVFilterContext *split = nullptr, *palette = nullptr, *use = nullptr;
    MRT_RETURN_IF_ERROR(Add("buffer", input, &source_));
    MRT_RETURN_IF_ERROR(Add("split", "", &split));
    MRT_RETURN_IF_ERROR(Add("palettegen", "stats_mode=single", &palette));
    MRT_RETURN_IF_ERROR(Add("paletteuse", "new=1:dither=bayer:bayer_scale=4", &use));
    MRT_RETURN_IF_ERROR(Add("buffersink", "", &sink_));
    int error = avfilter_link(source_, 0, split, 0);
    if (error >= 0) error = avfilter_link(split, 0, use, 0);
    if (error >= 0) error = avfilter_link(split, 1, palette, 0);
    if (error >= 0) error = avfilter_link(palette, 0, use, 1);
    if (error >= 0) error = avfilter_link(use, 0, sink_, 0);
    if (error >= 0) error = avfilter_graph_config(graph_.get(), nullptr);
    if (error < 0) return FfmpegError(StatusCode::kInternal, "[output] no GIF palette", error);
    return {};
  }

  Status Send(const uint8_t* rgb) override {
    int error = 0;
    if (rgb) {
      error = av_frame_make_writable(frame_.get());  // new memory while the filters hold the old
      if (error >= 0) {
        CopyRgb(rgb, frame_.get());
        frame_->pts = frames_sent_++;
      }
    }
    if (error >= 0)
      error = av_buffersrc_add_frame_flags(source_, rgb ? frame_.get() : nullptr,
                                           AV_BUFFERSRC_FLAG_KEEP_REF);
    if (error < 0)
      return FfmpegError(StatusCode::kInternal, "[output] no GIF palette for a frame", error);
    return {};
  }

  Result<const AVFrame*> Receive() override {
    av_frame_unref(out_.get());
    const int error = av_buffersink_get_frame(sink_, out_.get());
    if (error == AVERROR(EAGAIN) || error == AVERROR_EOF) return nullptr;
    if (error < 0)
      return FfmpegError(StatusCode::kInternal, "[output] no GIF palette for a frame", error);
    return out_.get();
  }

 private:
  Status Add(const char* filter, const std::string& options, AVFilterContext** added) {
    const int error = avfilter_graph_create_filter(added, avfilter_get_by_name(filter), filter,
                                                   options.c_str(), nullptr, graph_.get());
    if (error >= 0) return {};
    return FfmpegError(StatusCode::kUnavailable,
                       std::string("[output] no filter ") + filter + " for GIF", error);
  }

  FramePtr frame_, out_;
  FilterGraphPtr graph_;
  AVFilterContext* source_ = nullptr;  // these two belong to the graph
  AVFilterContext* sink_ = nullptr;
  int64_t frames_sent_ = 0;
};

}  // namespace

Result<std::unique_ptr<FrameConverter>> OpenPaletteConverter(int width, int height, int fps) {
  auto converter = std::make_unique<PaletteConverter>();
  MRT_RETURN_IF_ERROR(converter->Open(width, height, fps));
  return std::unique_ptr<FrameConverter>(std::move(converter));
}

}  // namespace mrt::media
