#include "apps/generation_flags.h"

#include <charconv>
#include <cmath>
#include <cstdlib>

#include "apps/default_model.h"
#include "apps/number.h"
#include "apps/text_files.h"
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

// The user's cache folder by the XDG base directory specification: relative paths do not count.
std::string DefaultCacheDir() {
  const auto absolute = [](const char* name) -> std::string {
    const char* value = std::getenv(name);
    return value != nullptr && value[0] == '/' ? value : "";
  };
  if (const std::string cache = absolute("XDG_CACHE_HOME"); !cache.empty())
    return cache + "/monarchrt";
  const std::string home = absolute("HOME");
  return home.empty() ? "" : home + "/.cache/monarchrt";
}

Status ReadAttentionConfig(GenerationFlags& flags) {
  MRT_ASSIGN_OR_RETURN(const std::string text, ReadText(flags.attention_config));
  const auto settings = monarchrt::ParseAttentionSettings(text);
  if (!settings.ok())
    return {settings.status().code(),
            settings.status().message() + " (" + flags.attention_config + ")"};
  flags.stream.attention = settings->attention;
  flags.stream.attention_rules = settings->rules;
  return {};
}

void AddModelFlags(CLI::App& command, GenerationFlags& flags) {
  auto& engine = flags.engine;
  command
      .add_option("--model", engine.model,
                  "model directory, package, or a tree with wan_models/ in it (default: the demo "
                  "model that comes with this program)")
      ->type_name("DIR");
  command
      .add_option(
          "--checkpoint", engine.checkpoint,
          "transformer weights; the key picks a part of a .pt file (default: generator_ema, "
          "then generator). Without this flag: the model directory's own")
      ->type_name("FILE[:key]");
  command.add_option("--vae", flags.vae, "autoencoder: wan, or taehv, the tiny one")
      ->check(CLI::IsMember({"wan", "taehv"}))
      ->capture_default_str();
  command.add_option("--device", engine.device, "where to run: cpu, cuda or cuda:N")
      ->capture_default_str();
  command
      .add_option("--text-device", flags.text_device,
                  "where the text encoder runs: auto (on a GPU with room for it), or cpu")
      ->check(CLI::IsMember({"auto", "cpu"}))
      ->capture_default_str();
  command.add_option("--threads", engine.threads, "0: all CPUs this process may use")
      ->transform(Number<int>())
      ->capture_default_str();
  AddDtypeFlag(command, flags.dtype);
  auto* cache =
      command
          .add_option("--cache-dir", engine.cache_dir,
                      flags.cache_by_default ? "where text embeddings are kept (default: "
                                               "$XDG_CACHE_HOME/monarchrt or ~/.cache/monarchrt)"
                                             : "where text embeddings are kept (default: nowhere)")
          ->type_name("DIR");
  command.add_flag("--no-cache", flags.no_cache, "neither read nor keep text embeddings")
      ->excludes(cache);
}

void AddVideoFlags(CLI::App& command, GenerationFlags& flags) {
  auto& stream = flags.stream;
  command
      .add_option(
          "--size", flags.size,
          "pixels; multiples of 16 times the tiling's cuts (default: what the package says, else "
          "832x480)")
      ->type_name("WxH");
  auto* frames = command.add_option("--frames", flags.frames, "video frames (default 81)")
                     ->transform(Number<int64_t>())
                     ->type_name("N");
  command.add_option("--seconds", flags.seconds, "length instead of --frames")
      ->transform(Number<double>())
      ->type_name("S")
      ->excludes(frames);
  command.add_option("--seed", stream.seed, "of the noise: the same seed gives the same video")
      ->transform(Number<uint64_t>())
      ->capture_default_str();
  AddNumbers(command, "--steps", flags.steps, /*count=*/0,
             "denoising steps, decreasing, 0..1000 (default: what the package says, else "
             "1000,750,500,250)")
      ->type_name("a,b,...");
  command
      .add_option("--shift", flags.shift,
                  "timestep shift of the noise schedule (default: what the package says, else 5)")
      ->transform(Number<double>())
      ->type_name("S");
  command
      .add_option("--window", flags.window,
                  "latent frames a query sees, its own chunk included; -1: all, and memory grows "
                  "(default: what the package says, else 21)")
      ->transform(Number<int>())
      ->type_name("N");
  command
      .add_option(
          "--kv-cache", flags.kv_cache,
          "keys and values of the window: auto (as activations are), or bf16, which takes half "
          "the memory of f32")
      ->check(CLI::IsMember({"auto", "bf16"}))
      ->capture_default_str();
  command
      .add_option("--sink", stream.sink_frames,
                  "of the window, the first latent frames of the video that always stay")
      ->transform(Number<int>())
      ->capture_default_str();
  command.add_flag("--independent-first-frame", stream.independent_first_frame,
                   "the first chunk is a single frame, for models trained so");
  command
      .add_option("--overlap", flags.overlap,
                  "decode a chunk while the next one is made: auto, on or off")
      ->check(CLI::IsMember({"auto", "on", "off"}))
      ->capture_default_str();
  command
      .add_option("--encode-overlap", flags.encode_overlap,
                  "encode the video while the next frames are made: auto (on a GPU), on or off")
      ->check(CLI::IsMember({"auto", "on", "off"}))
      ->capture_default_str();
}

void AddAttentionFlags(CLI::App& command, GenerationFlags& flags) {
  auto& attention = flags.stream.attention;
  auto* config = command
                     .add_option("--attention-config", flags.attention_config,
                                 "attention per layer and denoising step (docs/cli.md)")
                     ->type_name("FILE.json");
  command
      .add_option(
          "--attention", flags.attention,
          "self-attention of the transformer (default: what the package says, else monarch)")
      ->check(CLI::IsMember(AttentionModeNames()))
      ->excludes(config);
  AddNumbers(command, "--tiles", flags.tiles, /*count=*/3,
             "Monarch tiling: frames per tile, cuts of the rows, cuts of the columns")
      ->type_name("f,h,w")
      ->default_str("1,1,1")
      ->excludes(config);
  command.add_option("--iterations", attention.iterations, "Monarch refinement steps")
      ->transform(Number<int>())
      ->capture_default_str()
      ->excludes(config);
  command
      .add_option("--density", attention.density,
                  "how much topk, window and radial keep, more than 0 and at most 1")
      ->transform(Number<double>())
      ->capture_default_str()
      ->excludes(config);
  command
      .add_option("--impl", attention.implementation,
                  "force an attention kernel by name (see doctor)")
      ->excludes(config);
}

// What a flag does not say, the model does.
Status ResolveModelDefaults(GenerationFlags& flags) {
  const bool demo = flags.engine.model.empty() && flags.engine.synthetic.empty();
  if (demo) {
    flags.engine.model = DemoModel();
    if (flags.engine.model.empty())
      return InvalidArgument("[model] the demo model is not beside this program, need --model DIR");
  }
  monarchrt::StreamOptions& stream = flags.stream;
  MRT_ASSIGN_OR_RETURN(const monarchrt::StreamOptions model,
                       monarchrt::Engine::DefaultStreamOptions(flags.engine));
  if (demo && !flags.engine.checkpoint.empty()) {
    // The checkpoint of another model is likelier than one of the demo's.
    const Status fits = monarchrt::Engine::Validate(flags.engine, model);
    if (!fits.ok())
      return {fits.code(), fits.message() +
                               " (no --model was given, so the demo model was taken: " +
                               flags.engine.model + ")"};
  }
  if (flags.size.empty()) {
    stream.width = model.width;
    stream.height = model.height;
  }
  stream.steps = flags.steps.value_or(model.steps);
  stream.timestep_shift = flags.shift.value_or(model.timestep_shift);
  stream.window_frames = flags.window.value_or(model.window_frames);
  stream.attention.mode = model.attention.mode;
  return {};
}

}  // namespace

std::vector<std::string> AttentionModeNames() {
  std::vector<std::string> names;
  for (const monarchrt::AttentionMode mode : monarchrt::ListAttentionModes())
    names.emplace_back(AttentionModeName(mode));
  return names;
}

void AddDtypeFlag(CLI::App& command, std::string& dtype, const std::string& otherwise) {
  CLI::Option* option =
      command
          .add_option(
              "--dtype", dtype,
              "f32, bf16, int8 (weights of the transformer), or auto: int8 if the file has it, "
              "else bf16 where the device computes with it" +
                  (otherwise.empty() ? "" : " " + otherwise))
          ->check(CLI::IsMember({"auto", "f32", "bf16", "int8"}));
  if (otherwise.empty()) option->capture_default_str();
}

EncodeOverlap ToEncodeOverlap(const std::string& overlap) {
  if (overlap == "auto") return EncodeOverlap::kAuto;
  return overlap == "on" ? EncodeOverlap::kOn : EncodeOverlap::kOff;
}

monarchrt::Precision ToPrecision(const std::string& dtype) {
  if (dtype == "f32") return monarchrt::Precision::kF32;
  if (dtype == "int8") return monarchrt::Precision::kInt8;
  return dtype == "bf16" ? monarchrt::Precision::kBF16 : monarchrt::Precision::kAuto;
}

void AddGenerationFlags(CLI::App& command, GenerationFlags& flags) {
  AddModelFlags(command, flags);
  AddVideoFlags(command, flags);
  AddAttentionFlags(command, flags);
  command
      .add_option("--trace", flags.trace,
                  "write what ran when, for ui.perfetto.dev, and print the time of each operation")
      ->type_name("FILE.json");
}

monarchrt::Status ResolveGenerationFlags(GenerationFlags& flags) {
  constexpr double kSecondsMax = 600'000;  // a week
  if (!flags.size.empty())
    MRT_RETURN_IF_ERROR(ParseSize(flags.size, flags.stream.width, flags.stream.height));
  if (flags.frames) flags.stream.frames = *flags.frames;
  if (flags.seconds) {
    if (!(*flags.seconds > 0 && *flags.seconds <= kSecondsMax))
      return InvalidArgument("[seconds] got " + std::to_string(*flags.seconds) +
                             ", need more than 0 and at most a week");
    flags.stream.frames = std::max<int64_t>(1, std::llround(*flags.seconds * flags.fps));
  }
  if (!flags.trace.empty()) {
    MRT_RETURN_IF_ERROR(CheckWritable(flags.trace));
    flags.engine.trace = std::make_shared<monarchrt::Trace>();
  }
  if (flags.cache_by_default && !flags.no_cache && flags.engine.cache_dir.empty())
    flags.engine.cache_dir = DefaultCacheDir();
  flags.engine.precision = ToPrecision(flags.dtype);
  if (flags.text_device == "cpu") flags.engine.text_device = monarchrt::TextDevice::kCpu;
  flags.engine.vae = flags.vae == "taehv" ? monarchrt::VaeKind::kTaehv : monarchrt::VaeKind::kWan;
  if (flags.kv_cache == "bf16") flags.stream.kv_cache = monarchrt::KvCacheType::kBF16;
  if (flags.overlap != "auto")
    flags.stream.decode_overlap =
        flags.overlap == "on" ? monarchrt::DecodeOverlap::kOn : monarchrt::DecodeOverlap::kOff;
  MRT_RETURN_IF_ERROR(ResolveModelDefaults(flags));
  if (!flags.attention_config.empty()) return ReadAttentionConfig(flags);
  for (const monarchrt::AttentionMode mode : monarchrt::ListAttentionModes())
    if (flags.attention == AttentionModeName(mode)) flags.stream.attention.mode = mode;
  flags.stream.attention.f_tied = flags.tiles[0];
  flags.stream.attention.h_reduce = flags.tiles[1];
  flags.stream.attention.w_reduce = flags.tiles[2];
  return {};
}

monarchrt::Status SaveTrace(const GenerationFlags& flags, FILE* table) {
  if (flags.engine.trace == nullptr) return {};
  const std::string text = FormatTrace(flags.engine.trace->Summary());
  std::fputs(text.c_str(), table);
  return WriteText(flags.trace, flags.engine.trace->ToChromeJson());
}

}  // namespace mrt::apps
