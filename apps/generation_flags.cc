#include "apps/generation_flags.h"

#include <charconv>
#include <cmath>

#include "base/status.h"

namespace mrt::apps {
namespace {

// "832x480" -> width, height.
Status ParseSize(const std::string& text, int& width, int& height) {
  const char* const end = text.data() + text.size();
  const auto [after_width, error1] = std::from_chars(text.data(), end, width);
  if (error1 == std::errc() && after_width < end && (*after_width == 'x' || *after_width == 'X')) {
    const auto [after_height, error2] = std::from_chars(after_width + 1, end, height);
    if (error2 == std::errc() && after_height == end) return {};
  }
  return InvalidArgument("[size] got '" + text + "', need WxH in pixels, like 832x480");
}

}  // namespace

void AddDtypeFlag(CLI::App& command, std::string& dtype) {
  command.add_option("--dtype", dtype, "f32, bf16, or auto: bf16 where the CPU computes with it")
      ->check(CLI::IsMember({"auto", "f32", "bf16"}))
      ->capture_default_str();
}

monarchrt::Precision ToPrecision(const std::string& dtype) {
  if (dtype == "f32") return monarchrt::Precision::kF32;
  return dtype == "bf16" ? monarchrt::Precision::kBF16 : monarchrt::Precision::kAuto;
}

void AddGenerationFlags(CLI::App& command, GenerationFlags& flags) {
  auto& engine = flags.engine;
  auto& stream = flags.stream;
  command.add_option("--model", engine.model, "model directory, or a tree with wan_models/ in it")
      ->type_name("DIR");
  command
      .add_option(
          "--checkpoint", engine.checkpoint,
          "transformer weights; the key picks a part of a .pt file (default: generator_ema, "
          "then generator). Without this flag: the model directory's own")
      ->type_name("FILE[:key]");
  command.add_option("--size", flags.size, "pixels; multiples of 16 times the tiling's cuts")
      ->type_name("WxH")
      ->capture_default_str();
  auto* frames =
      command.add_option("--frames", flags.frames, "video frames (default 81)")->type_name("N");
  command
      .add_option("--seconds", flags.seconds, "length at 16 frames a second, instead of --frames")
      ->type_name("S")
      ->excludes(frames);
  command.add_option("--seed", stream.seed, "of the noise: the same seed gives the same video")
      ->capture_default_str();
  command.add_option("--steps", stream.steps, "denoising steps, decreasing, 0..1000")
      ->delimiter(',')
      ->expected(1, 1000)
      ->capture_default_str();
  command.add_option("--attention", flags.attention, "self-attention of the transformer")
      ->check(CLI::IsMember({"monarch", "dense"}))
      ->capture_default_str();
  command
      .add_option("--tiles", flags.tiles,
                  "Monarch tiling: frames per tile, cuts of the rows, cuts of the columns")
      ->delimiter(',')
      ->expected(3)
      ->type_name("f,h,w")
      ->capture_default_str();
  command.add_option("--iterations", stream.attention.iterations, "Monarch refinement steps")
      ->capture_default_str();
  command.add_option("--impl", stream.attention.implementation,
                     "force an attention kernel by name (see doctor)");
  command
      .add_option("--window", stream.window_frames,
                  "latent frames a query sees, its own chunk included; -1: all (memory grows)")
      ->capture_default_str();
  command
      .add_option("--sink", stream.sink_frames,
                  "of the window, the first latent frames of the video that always stay")
      ->capture_default_str();
  command.add_option("--vae", flags.vae, "autoencoder: wan, or taehv, the tiny one")
      ->check(CLI::IsMember({"wan", "taehv"}))
      ->capture_default_str();
  command.add_option("--threads", engine.threads, "0: all CPUs this process may use")
      ->capture_default_str();
  AddDtypeFlag(command, flags.dtype);
}

monarchrt::Status ResolveGenerationFlags(GenerationFlags& flags) {
  constexpr double kSecondsMax = 600'000;  // a week
  MRT_RETURN_IF_ERROR(ParseSize(flags.size, flags.stream.width, flags.stream.height));
  if (flags.frames) flags.stream.frames = *flags.frames;
  if (flags.seconds) {
    if (!(*flags.seconds > 0 && *flags.seconds <= kSecondsMax))
      return InvalidArgument("[seconds] got " + std::to_string(*flags.seconds) +
                             ", need more than 0 and at most " + std::to_string(kSecondsMax));
    flags.stream.frames =
        std::max<int64_t>(1, std::llround(*flags.seconds * monarchrt::Engine::kFps));
  }
  flags.engine.precision = ToPrecision(flags.dtype);
  flags.engine.vae = flags.vae == "taehv" ? monarchrt::VaeKind::kTaehv : monarchrt::VaeKind::kWan;
  flags.stream.attention.mode = flags.attention == "dense" ? monarchrt::AttentionMode::kDense
                                                           : monarchrt::AttentionMode::kMonarch;
  flags.stream.attention.f_tied = flags.tiles[0];
  flags.stream.attention.h_reduce = flags.tiles[1];
  flags.stream.attention.w_reduce = flags.tiles[2];
  return {};
}

}  // namespace mrt::apps
