extern "C" {
#include <libavutil/opt.h>
}

#include <utility>

#include "media/ffmpeg.h"
#include "media/frame_converter.h"

namespace mrt::media {
namespace {

// RGB in full range to BT.709 in TV range. Chroma sits left between two rows, as H.264 assumes when
// nothing else is said.
Result<ScalerPtr> OpenScaler(int width, int height) {
  ScalerPtr s(sws_alloc_context());
  if (!s) return OutOfMemory("[output] no memory for the colour conversion");
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
    return FfmpegError(StatusCode::kInternal, "[output] no colour conversion", error);
  return s;
}

class YuvConverter : public FrameConverter {
 public:
  YuvConverter(FramePtr rgb, FramePtr yuv, ScalerPtr scaler)
      : rgb_(std::move(rgb)), yuv_(std::move(yuv)), scaler_(std::move(scaler)) {}

  Status Send(const uint8_t* rgb) override {
    if (!rgb) return {};
    CopyRgb(rgb, rgb_.get());
    // Gives it new memory while the encoder still holds the old.
    if (const int error = av_frame_make_writable(yuv_.get()); error < 0)
      return FfmpegError(StatusCode::kInternal, "[output] no buffer for a frame", error);
    sws_scale(scaler_.get(), rgb_->data, rgb_->linesize, 0, rgb_->height, yuv_->data,
              yuv_->linesize);
    yuv_->pts = frames_sent_++;
    has_frame_ = true;
    return {};
  }

  Result<const AVFrame*> Receive() override {
    return std::exchange(has_frame_, false) ? yuv_.get() : nullptr;
  }

 private:
  FramePtr rgb_;  // a padded copy of the caller's frame: the scaler reads past its end
  FramePtr yuv_;
  ScalerPtr scaler_;
  int64_t frames_sent_ = 0;
  bool has_frame_ = false;
};

}  // namespace

Result<std::unique_ptr<FrameConverter>> OpenYuvConverter(int width, int height) {
  MRT_ASSIGN_OR_RETURN(ScalerPtr scaler, OpenScaler(width, height));
  MRT_ASSIGN_OR_RETURN(FramePtr rgb, NewFrame(AV_PIX_FMT_RGB24, width, height));
  MRT_ASSIGN_OR_RETURN(FramePtr yuv, NewFrame(AV_PIX_FMT_YUV420P, width, height));
  return std::unique_ptr<FrameConverter>(
      std::make_unique<YuvConverter>(std::move(rgb), std::move(yuv), std::move(scaler)));
}

}  // namespace mrt::media
