#include "apps/initial_frames.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/status.h"
#include "media/picture_reader.h"

namespace mrt::apps {
namespace {

constexpr int kTokenPixels = 16;  // of every released model: 8 a latent, 2 a patch
constexpr int kFramesPerLatent = 4;
constexpr int kWindowMax = 81;  // latent frames, 20 s, if the window is unlimited

// Pixels that width or height must be a multiple of, for all attention settings.
int Unit(const monarchrt::StreamOptions& stream, int monarchrt::AttentionOptions::*cuts) {
  const auto cuts_of = [cuts](const monarchrt::AttentionOptions& attention) {
    const bool monarch = attention.mode == monarchrt::AttentionMode::kMonarch;
    return monarch ? std::max(1, attention.*cuts) : 1;
  };
  int unit = cuts_of(stream.attention);
  for (const monarchrt::AttentionRule& rule : stream.attention_rules)
    unit = std::lcm(unit, cuts_of(rule.attention));
  return unit * kTokenPixels;
}

}  // namespace

PictureSize FitSize(PictureSize source, int unit_width, int unit_height, double pixels_most) {
  const double pixels = static_cast<double>(source.width) * source.height;
  if (pixels <= pixels_most && source.width % unit_width == 0 && source.height % unit_height == 0)
    return source;
  const double scale = std::min(1.0, std::sqrt(pixels_most / pixels));
  const auto side = [scale](int pixels_of_side, int unit) {
    return unit * std::max(1, static_cast<int>(std::lround(scale * pixels_of_side / unit)));
  };
  return {side(source.width, unit_width), side(source.height, unit_height)};
}

monarchrt::Status ChooseSize(const InitialFrameFlags& flags, monarchrt::StreamOptions& stream) {
  MRT_ASSIGN_OR_RETURN(const media::PictureInfo info, media::ProbePicture(flags.path()));
  const PictureSize size =
      FitSize({info.width, info.height}, Unit(stream, &monarchrt::AttentionOptions::w_reduce),
              Unit(stream, &monarchrt::AttentionOptions::h_reduce),
              static_cast<double>(stream.width) * stream.height);
  stream.width = size.width;
  stream.height = size.height;
  return {};
}

monarchrt::Status ReadInitialFrames(const InitialFrameFlags& flags,
                                    monarchrt::StreamOptions& stream) {
  if (!flags.image.empty()) {
    MRT_ASSIGN_OR_RETURN(stream.initial_rgb,
                         media::ReadImage(flags.image, stream.width, stream.height));
    stream.initial_frames = 1;
    stream.show_initial = true;
    return {};
  }
  const int window = stream.window_frames == -1 ? kWindowMax : stream.window_frames;
  MRT_ASSIGN_OR_RETURN(
      media::RgbFrames tail,
      media::ReadVideoTail(flags.video, stream.width, stream.height, monarchrt::Engine::kFps,
                           1 + kFramesPerLatent * (window - 1)));
  stream.initial_rgb = std::move(tail.rgb);
  stream.initial_frames = tail.frames;
  stream.show_initial = flags.include_input;
  return {};
}

}  // namespace mrt::apps
