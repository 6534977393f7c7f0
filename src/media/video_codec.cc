#include "media/video_codec.h"

extern "C" {
#include <libavutil/opt.h>
}
#include <stdlib.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <mutex>
#include <utility>

#include "media/ffmpeg.h"

namespace mrt::media {
namespace {

constexpr std::array kX264Presets = {"ultrafast", "superfast", "veryfast", "faster",   "fast",
                                     "medium",    "slow",      "slower",   "veryslow", "placebo"};
constexpr const char* kX264PresetDefault = "veryfast";

// The speeds leave the cores to the model: each row encodes 832x480 faster than it is made.
const std::array<VideoCodec, 3>& Codecs() {
  static const std::array<VideoCodec, 3> kCodecs = {{
      {.name = "h264",  // at 18 people see no difference to the source; 0 is lossless, a profile
       .crf_low = 28,   // that players do not know
       .crf_medium = 23,
       .crf_high = 18,
       .crf_best = 12,
       .crf_min = 1,
       .crf_max = 51,
       .encoders = {{.name = "libx264",
                     .quality_option = "crf",
                     .quality_scale = 1,
                     // Without it the bits depend on the instruction set, and on AVX-512 (x264
                     // build 164) on whatever was in memory before: two runs differ.
                     .options = {{"x264-params", "cpu-independent=1"}},
                     .can_be_live = true,
                     .live_options = {{"tune", "zerolatency"}},
                     .side_min = 2}}},
      {.name = "vp9",
       .crf_low = 42,
       .crf_medium = 34,
       .crf_high = 24,
       .crf_best = 15,
       .crf_min = 1,
       .crf_max = 63,
       .encoders = {{.name = "libvpx-vp9",
                     .quality_option = "crf",
                     .quality_scale = 1,
                     .options = {{"deadline", "good"}, {"cpu-used", "5"}, {"row-mt", "1"}},
                     .can_be_live = true,
                     .live_options = {{"deadline", "realtime"}, {"lag-in-frames", "0"}},
                     .side_min = 2}}},
      {.name = "av1",
       .crf_low = 45,
       .crf_medium = 35,
       .crf_high = 25,
       .crf_best = 16,
       .crf_min = 1,
       .crf_max = 63,
       .encoders = {{.name = "libsvtav1",
                     .quality_option = "crf",
                     .quality_scale = 1,
                     .options = {{"preset", "10"}},
                     .can_be_live = false,
                     .side_min = 64},
                    {.name = "libaom-av1",
                     .quality_option = "crf",
                     .quality_scale = 1,
                     .options = {{"cpu-used", "8"}, {"row-mt", "1"}},
                     .can_be_live = true,
                     .live_options = {{"usage", "realtime"}, {"lag-in-frames", "0"}},
                     .side_min = 2},
                    {.name = "librav1e",
                     .quality_option = "qp",
                     .quality_scale = 4,  // 0 to 255
                     .options = {{"speed", "10"}},
                     .can_be_live = false,
                     .side_min = 16}}},
  }};
  return kCodecs;
}

// SVT-AV1 prints to stderr unless this variable says otherwise; one that is set already counts.
void SilenceSvtAv1() {
  static std::once_flag once;
  constexpr const char* kFatalOnly = "0";
  std::call_once(once, [] { setenv("SVT_LOG", kFatalOnly, /*overwrite=*/0); });
}

Status SetPreset(const VideoEncoder& encoder, const std::string& preset, AVCodecContext* c) {
  if (encoder.name != std::string("libx264")) {
    if (preset.empty()) return {};
    return InvalidArgument("[output] got the preset '" + preset +
                           "' for another codec than h264, need none");
  }
  const std::string name = preset.empty() ? kX264PresetDefault : preset;
  if (std::find(kX264Presets.begin(), kX264Presets.end(), name) == kX264Presets.end())
    return InvalidArgument("[output] got the preset '" + name +
                           "', need one of x264's: ultrafast, superfast, veryfast, faster, fast, "
                           "medium, slow, slower, veryslow, placebo");
  av_opt_set(c->priv_data, "preset", name.c_str(), 0);
  return {};
}

}  // namespace

const VideoCodec* FindVideoCodec(const std::string& name) {
  for (const VideoCodec& codec : Codecs())
    if (name == codec.name) return &codec;
  return nullptr;
}

Result<int> CrfOf(const VideoCodec& codec, const std::string& quality) {
  const std::pair<const char*, int> names[] = {{"low", codec.crf_low},
                                               {"medium", codec.crf_medium},
                                               {"high", codec.crf_high},
                                               {"best", codec.crf_best},
                                               {"", codec.crf_high}};
  for (const auto& [name, crf] : names)
    if (quality == name) return crf;
  int crf = 0;
  const char* end = quality.data() + quality.size();
  const auto [parsed_to, error] = std::from_chars(quality.data(), end, crf);
  if (error == std::errc() && parsed_to == end && crf >= codec.crf_min && crf <= codec.crf_max)
    return crf;
  return InvalidArgument("[output] got the quality '" + quality + "' for " + codec.name +
                         ", need low, medium, high, best or a number from " +
                         std::to_string(codec.crf_min) + " (best) to " +
                         std::to_string(codec.crf_max));
}

Result<const VideoEncoder*> ChooseEncoder(const VideoCodec& codec, bool live) {
  std::string names;
  for (const VideoEncoder& encoder : codec.encoders) {
    if (live && !encoder.can_be_live) continue;
    if (avcodec_find_encoder_by_name(encoder.name)) return &encoder;
    names += (names.empty() ? "" : ", ") + std::string(encoder.name);
  }
  return Unavailable(std::string("[output] got FFmpeg libraries without an encoder for ") +
                     codec.name + ", need a build with one of: " + names +
                     " (`ffmpeg -encoders` lists what is there)");
}

Result<CodecContextPtr> OpenVideoEncoder(const VideoEncoder& encoder,
                                         const EncoderSettings& settings) {
  SilenceSvtAv1();
  if (std::min(settings.width, settings.height) < encoder.side_min)
    return InvalidArgument("[output] got frames of " + std::to_string(settings.width) + "x" +
                           std::to_string(settings.height) + ", need at least " +
                           std::to_string(encoder.side_min) + " pixels on each side for " +
                           encoder.name);
  MRT_ASSIGN_OR_RETURN(const AVCodec* codec, FindEncoder(encoder.name));
  CodecContextPtr c(avcodec_alloc_context3(codec));
  if (!c) return OutOfMemory("[output] no memory for the encoder");
  c->width = settings.width;
  c->height = settings.height;
  c->pix_fmt = AV_PIX_FMT_YUV420P;
  c->time_base = {1, settings.fps};
  c->framerate = {settings.fps, 1};
  c->sample_aspect_ratio = {1, 1};
  c->color_primaries = AVCOL_PRI_BT709;
  c->color_trc = AVCOL_TRC_BT709;
  c->colorspace = AVCOL_SPC_BT709;
  c->color_range = AVCOL_RANGE_MPEG;
  c->chroma_sample_location = AVCHROMA_LOC_LEFT;
  c->bit_rate = 0;  // the quality decides
  c->thread_count = settings.threads;
  if (encoder.name == std::string("libsvtav1"))  // has a number of its own
    av_opt_set(c->priv_data, "svtav1-params", ("lp=" + std::to_string(settings.threads)).c_str(),
               0);
  if (settings.live) c->gop_size = 2 * settings.fps;
  c->flags |= AV_CODEC_FLAG_GLOBAL_HEADER | AV_CODEC_FLAG_BITEXACT;  // headers are kept apart
  MRT_RETURN_IF_ERROR(SetPreset(encoder, settings.preset, c.get()));
  for (const auto& [name, value] : encoder.options) av_opt_set(c->priv_data, name, value, 0);
  if (settings.live)
    for (const auto& [name, value] : encoder.live_options) av_opt_set(c->priv_data, name, value, 0);
  av_opt_set_int(c->priv_data, encoder.quality_option, settings.crf * encoder.quality_scale, 0);
  if (const int error = avcodec_open2(c.get(), codec, nullptr); error < 0)
    return FfmpegError(StatusCode::kUnavailable,
                       std::string("[output] ") + encoder.name + " does not start", error);
  return c;
}

}  // namespace mrt::media
