#include "media/rgb_fit.h"

extern "C" {
#include <libavutil/opt.h>
#include <libavutil/pixdesc.h>
}
#include <stdlib.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#include "media/ffmpeg.h"

namespace mrt::media {
namespace {

constexpr int kScalerFlags =
    SWS_ACCURATE_RND | SWS_FULL_CHR_H_INP | SWS_FULL_CHR_H_INT | SWS_BITEXACT;

// TIFF 6.0 / EXIF 2.3, tag 274: 1 upright, 2 to 8 the other ways to lay a picture down.
Orientation FromExif(int64_t value) {
  return {.transpose = value >= 5 && value <= 8,
          .flip_x = value == 2 || value == 3 || value == 6 || value == 7,
          .flip_y = value == 3 || value == 4 || value == 7 || value == 8};
}

// The matrix takes a stored point (p, q) to (a p + c q, b p + d q), up to a shift.
Orientation FromMatrix(const int32_t* m) {
  const int32_t a = m[0], b = m[1], c = m[3], d = m[4];
  if (a && d && !b && !c) return {.flip_x = a < 0, .flip_y = d < 0};
  if (b && c && !a && !d) return {.transpose = true, .flip_x = c < 0, .flip_y = b < 0};
  return {};
}

// Width of a pixel in heights of a pixel.
double PixelAspect(const AVStream& stream, const AVFrame& frame) {
  const AVRational r =
      frame.sample_aspect_ratio.num ? frame.sample_aspect_ratio : stream.sample_aspect_ratio;
  const double aspect = r.num > 0 && r.den > 0 ? av_q2d(r) : 1;
  return aspect > 0.25 && aspect < 4 ? aspect : 1;  // else a mistake or a trap
}

bool HasAlpha(AVPixelFormat format) {
  const AVPixFmtDescriptor* d = av_pix_fmt_desc_get(format);
  return d && (d->flags & (AV_PIX_FMT_FLAG_ALPHA | AV_PIX_FMT_FLAG_PAL));
}

int MatrixOf(const AVFrame& frame) {
  switch (frame.colorspace) {
    case AVCOL_SPC_BT709: return SWS_CS_ITU709;
    case AVCOL_SPC_BT2020_NCL:
    case AVCOL_SPC_BT2020_CL: return SWS_CS_BT2020;
    case AVCOL_SPC_SMPTE240M: return SWS_CS_SMPTE240M;
    case AVCOL_SPC_FCC: return SWS_CS_FCC;
    case AVCOL_SPC_BT470BG:
    case AVCOL_SPC_SMPTE170M: return SWS_CS_ITU601;
    default: return frame.height >= 720 ? SWS_CS_ITU709 : SWS_CS_ITU601;
  }
}

bool IsFullRange(const AVFrame& frame) {
  const AVPixFmtDescriptor* d = av_pix_fmt_desc_get(static_cast<AVPixelFormat>(frame.format));
  const bool is_grey = d && d->nb_components <= 2;
  const bool is_jpeg_format = d && std::strncmp(d->name, "yuvj", 4) == 0;
  return frame.color_range == AVCOL_RANGE_JPEG || is_jpeg_format ||
         (is_grey && frame.color_range != AVCOL_RANGE_MPEG);
}

// The whole frame in `format`, RGB24 or RGBA, in its own size.
Result<FramePtr> Convert(const AVFrame& frame, AVPixelFormat format) {
  MRT_ASSIGN_OR_RETURN(FramePtr out, NewFrame(format, frame.width, frame.height));
  ScalerPtr s(sws_alloc_context());
  if (!s) return OutOfMemory("[input] no memory for the colour conversion");
  std::vector<std::pair<const char*, int64_t>> settings = {
      {"srcw", frame.width},
      {"srch", frame.height},
      {"src_format", frame.format},
      {"dstw", frame.width},
      {"dsth", frame.height},
      {"dst_format", format},
      {"sws_flags", SWS_BICUBIC | kScalerFlags},
  };
  if (frame.chroma_location == AVCHROMA_LOC_CENTER) settings.emplace_back("src_h_chr_pos", 128);
  for (const auto& [name, value] : settings) av_opt_set_int(s.get(), name, value, 0);
  constexpr int kBrightness = 0, kOne = 1 << 16, kFullRange = 1;
  const int* matrix = sws_getCoefficients(MatrixOf(frame));
  sws_setColorspaceDetails(s.get(), matrix, IsFullRange(frame), matrix, kFullRange, kBrightness,
                           kOne, kOne);
  if (const int error = sws_init_context(s.get(), nullptr, nullptr); error < 0)
    return FfmpegError(StatusCode::kUnavailable, "[input] no conversion to RGB", error);
  sws_scale(s.get(), frame.data, frame.linesize, 0, frame.height, out->data, out->linesize);
  return out;
}

Result<FramePtr> ToRgb(const AVFrame& frame) {
  if (!HasAlpha(static_cast<AVPixelFormat>(frame.format))) return Convert(frame, AV_PIX_FMT_RGB24);
  MRT_ASSIGN_OR_RETURN(const FramePtr rgba, Convert(frame, AV_PIX_FMT_RGBA));
  MRT_ASSIGN_OR_RETURN(FramePtr rgb, NewFrame(AV_PIX_FMT_RGB24, frame.width, frame.height));
  for (int64_t y = 0; y < frame.height; ++y) {
    const uint8_t* from = rgba->data[0] + y * rgba->linesize[0];
    uint8_t* to = rgb->data[0] + y * rgb->linesize[0];
    for (int x = 0; x < frame.width; ++x, from += 4, to += 3)
      for (int c = 0; c < 3; ++c)
        to[c] = static_cast<uint8_t>((from[c] * from[3] + 255 * (255 - from[3]) + 127) / 255);
  }
  return rgb;
}

// The largest box of the wanted shape in the middle of the picture.
struct Box {
  int x, y, width, height;
};
Box MiddleBox(const AVFrame& rgb, double shape) {  // shape: stored width / height
  const auto fit = [](double side, int side_max) {
    return std::clamp(static_cast<int>(std::lround(side)), 1, side_max);
  };
  const int width = fit(std::min<double>(rgb.width, rgb.height * shape), rgb.width);
  const int height = fit(std::min<double>(rgb.height, rgb.width / shape), rgb.height);
  return {(rgb.width - width) / 2, (rgb.height - height) / 2, width, height};
}

Result<FramePtr> CutAndScale(const AVFrame& rgb, const Box& box, int width, int height) {
  MRT_ASSIGN_OR_RETURN(FramePtr out, NewFrame(AV_PIX_FMT_RGB24, width, height));
  const uint8_t* corner = rgb.data[0] + int64_t{box.y} * rgb.linesize[0] + int64_t{3} * box.x;
  if (box.width == width && box.height == height) {
    for (int64_t y = 0; y < height; ++y)
      std::memcpy(out->data[0] + y * out->linesize[0], corner + y * rgb.linesize[0],
                  size_t{3} * width);
    return out;
  }
  // Averaging for large reductions, where a longer filter gains nothing.
  const bool shrinks = box.width >= 2 * width || box.height >= 2 * height;
  const int flags = (shrinks ? SWS_AREA : SWS_LANCZOS) | kScalerFlags;
  const ScalerPtr s(sws_getContext(box.width, box.height, AV_PIX_FMT_RGB24, width, height,
                                   AV_PIX_FMT_RGB24, flags, nullptr, nullptr, nullptr));
  if (!s)
    return InvalidArgument("[input] got a picture of " + std::to_string(box.width) + "x" +
                           std::to_string(box.height) + ", need one nearer to " +
                           std::to_string(width) + "x" + std::to_string(height));
  sws_scale(s.get(), &corner, rgb.linesize, 0, box.height, out->data, out->linesize);
  return out;
}

}  // namespace

Orientation OrientationOf(const AVStream& stream, const AVFrame& frame) {
  constexpr size_t kMatrixBytes = 9 * sizeof(int32_t);
  const AVFrameSideData* own = av_frame_get_side_data(&frame, AV_FRAME_DATA_DISPLAYMATRIX);
  if (own && own->size >= kMatrixBytes)
    return FromMatrix(reinterpret_cast<const int32_t*>(own->data));
  size_t bytes = 0;
  const uint8_t* of_stream = av_stream_get_side_data(&stream, AV_PKT_DATA_DISPLAYMATRIX, &bytes);
  if (of_stream && bytes >= kMatrixBytes)
    return FromMatrix(reinterpret_cast<const int32_t*>(of_stream));
  const AVDictionaryEntry* exif = av_dict_get(frame.metadata, "Orientation", nullptr, 0);
  return exif ? FromExif(strtol(exif->value, nullptr, 10)) : Orientation();
}

DisplaySize DisplaySizeOf(const AVStream& stream, const AVFrame& frame) {
  const int width =
      std::max(1, static_cast<int>(std::lround(frame.width * PixelAspect(stream, frame))));
  if (OrientationOf(stream, frame).transpose) return {frame.height, width};
  return {width, frame.height};
}

Status FitRgb(const AVStream& stream, const AVFrame& frame, int width, int height, uint8_t* rgb) {
  const Orientation turn = OrientationOf(stream, frame);
  const int stored_width = turn.transpose ? height : width;
  const int stored_height = turn.transpose ? width : height;
  MRT_ASSIGN_OR_RETURN(const FramePtr whole, ToRgb(frame));
  const double shape = stored_width / (stored_height * PixelAspect(stream, frame));
  MRT_ASSIGN_OR_RETURN(const FramePtr fit,
                       CutAndScale(*whole, MiddleBox(*whole, shape), stored_width, stored_height));
  for (int64_t y = 0; y < height; ++y)
    for (int64_t x = 0; x < width; ++x, rgb += 3) {
      const int64_t upright_x = turn.flip_x ? width - 1 - x : x;
      const int64_t upright_y = turn.flip_y ? height - 1 - y : y;
      const int64_t column = turn.transpose ? upright_y : upright_x;
      const int64_t row = turn.transpose ? upright_x : upright_y;
      std::memcpy(rgb, fit->data[0] + row * fit->linesize[0] + 3 * column, 3);
    }
  return {};
}

}  // namespace mrt::media
