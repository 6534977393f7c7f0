#include "pipeline/plan.h"

#include <sys/resource.h>

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <string>

#include "base/memory_info.h"
#include "model/umt5/umt5.h"
#include "model/vae/video_codec.h"
#include "model/wan/kv_cache.h"
#include "model/wan/transformer.h"

namespace mrt {
namespace {

using monarchrt::StreamOptions;

constexpr int kSideMax = 8192;              // pixels; keeps every product far from overflow
constexpr int64_t kFramesMax = 10'000'000;  // a week of video

std::string Gigabytes(int64_t bytes) {
  char text[32];
  std::snprintf(text, sizeof(text), "%.2f GB", static_cast<double>(bytes) * 1e-9);
  return text;
}

// The multiples of `unit` on both sides of `value`, for messages: "464 or 480".
std::string NearestMultiples(int64_t value, int64_t unit) {
  const int64_t below = std::max(unit, value / unit * unit);
  const int64_t above = std::max(unit, (value + unit - 1) / unit * unit);
  if (below == above || above > kSideMax) return std::to_string(below);
  return std::to_string(below) + " or " + std::to_string(above);
}

Status CheckSide(const char* name, int pixels, int64_t unit, const std::string& why) {
  if (pixels > 0 && pixels <= kSideMax && pixels % unit == 0) return {};
  return InvalidArgument("[size] " + std::string(name) + " is " + std::to_string(pixels) +
                         ", need a multiple of " + std::to_string(unit) + " up to " +
                         std::to_string(kSideMax) + why +
                         "; nearest: " + NearestMultiples(std::clamp(pixels, 1, kSideMax), unit));
}

Result<ops::AttentionConfig> ResolveAttention(const monarchrt::AttentionOptions& options) {
  ops::AttentionConfig config;
  config.mode = options.mode == monarchrt::AttentionMode::kDense ? ops::AttentionMode::kDense
                                                                 : ops::AttentionMode::kMonarch;
  for (const auto& [name, value, most] :
       {std::tuple{"f_tied", options.f_tied, int{kChunkLatentFrames}},
        {"h_reduce", options.h_reduce, kSideMax},
        {"w_reduce", options.w_reduce, kSideMax},
        {"iterations", options.iterations, 100}}) {
    if (value < 1 || value > most)
      return InvalidArgument("[attention] " + std::string(name) + " is " + std::to_string(value) +
                             ", need 1.." + std::to_string(most));
  }
  config.f_tied = options.f_tied;
  config.h_reduce = options.h_reduce;
  config.w_reduce = options.w_reduce;
  config.iterations = options.iterations;
  config.implementation = options.implementation;
  return config;
}

Result<int64_t> ResolveWindow(const StreamOptions& options, int64_t chunks, int64_t f_tied) {
  const int64_t all = chunks * kChunkLatentFrames;
  const int64_t window = options.window_frames == -1 ? all : options.window_frames;
  if (options.sink_frames < 0)
    return InvalidArgument("[window] sink is " + std::to_string(options.sink_frames) +
                           ", need 0 or more latent frames");
  if (window - options.sink_frames < kChunkLatentFrames)
    return InvalidArgument("[window] got " + std::to_string(window) +
                           " latent frames with a sink of " + std::to_string(options.sink_frames) +
                           ", need room for a chunk of " + std::to_string(kChunkLatentFrames) +
                           " beside the sink");
  if (window % f_tied != 0)
    return InvalidArgument("[window] got " + std::to_string(window) +
                           " latent frames, need a multiple of f_tied " + std::to_string(f_tied) +
                           "; nearest: " + NearestMultiples(window, f_tied));
  return std::min(window, all);
}

// Bytes this process may still map, if its address space is limited (ulimit -v).
int64_t AddressSpaceLeft() {
  rlimit limit = {};
  if (getrlimit(RLIMIT_AS, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return INT64_MAX;
  int64_t pages = 0;
  std::ifstream("/proc/self/statm") >> pages;
  constexpr int64_t kPageBytes = 4096;
  return std::max<int64_t>(0, static_cast<int64_t>(limit.rlim_cur) - pages * kPageBytes);
}

}  // namespace

Result<VideoPlan> PlanVideo(const WanConfig& config, const StreamOptions& options,
                            ops::Precision precision) {
  VideoPlan plan;
  MRT_ASSIGN_OR_RETURN(plan.attention, ResolveAttention(options.attention));
  const bool monarch = plan.attention.mode == ops::AttentionMode::kMonarch;
  const int64_t unit_h =
      kPixelsPerLatent * config.patch_size[1] * (monarch ? plan.attention.h_reduce : 1);
  const int64_t unit_w =
      kPixelsPerLatent * config.patch_size[2] * (monarch ? plan.attention.w_reduce : 1);
  const std::string tiling =
      monarch ? " (16 pixels a token times the tiling's cuts)" : " (16 pixels a token)";
  MRT_RETURN_IF_ERROR(CheckSide("width", options.width, unit_w, tiling));
  MRT_RETURN_IF_ERROR(CheckSide("height", options.height, unit_h, tiling));
  if (options.frames < 1 || options.frames > kFramesMax)
    return InvalidArgument("[frames] got " + std::to_string(options.frames) + ", need 1.." +
                           std::to_string(kFramesMax));
  plan.latent_rows = options.height / kPixelsPerLatent;
  plan.latent_cols = options.width / kPixelsPerLatent;
  plan.grid = {.rows = static_cast<int>(plan.latent_rows / config.patch_size[1]),
               .cols = static_cast<int>(plan.latent_cols / config.patch_size[2]),
               .heads = static_cast<int>(config.num_heads),
               .head_dim = static_cast<int>(config.head_dim())};
  // The first latent frame is one video frame, every other one four.
  const int64_t latents = 1 + (options.frames - 1 + kFramesPerLatent - 1) / kFramesPerLatent;
  plan.chunks = (latents + kChunkLatentFrames - 1) / kChunkLatentFrames;
  MRT_ASSIGN_OR_RETURN(plan.window_frames,
                       ResolveWindow(options, plan.chunks, monarch ? plan.attention.f_tied : 1));
  MRT_RETURN_IF_ERROR(ops::ValidateAttention(plan.attention, plan.grid,
                                             static_cast<int>(kChunkLatentFrames),
                                             static_cast<int>(plan.window_frames), precision));
  return plan;
}

Result<int64_t> PlanMemory(const ModelFiles& files, const VideoDecoder& decoder,
                           const VideoPlan& plan, ops::Precision precision) {
  const WanConfig& config = files.config;
  const DType dtype = precision == ops::Precision::kBF16 ? DType::kBF16 : DType::kF32;
  MRT_ASSIGN_OR_RETURN(const Umt5Encoder encoder, Umt5Encoder::Open(files.text_encoder));
  const int64_t cross_kv = 2 * config.num_layers * config.text_len * config.dim * DTypeSize(dtype);
  const int64_t weights =
      WanTransformer::WeightBytes(config, precision) + decoder.weight_bytes() + cross_kv;
  const int64_t frame_bytes = plan.latent_rows * plan.latent_cols * kPixelsPerLatent *
                              kPixelsPerLatent * 3 * (sizeof(float) + 1);
  const int64_t generating =
      KvCache::Bytes(config, plan.grid.rows, plan.grid.cols, plan.window_frames, dtype) +
      WanTransformer::ScratchBytes(config, kChunkLatentFrames, plan.grid.rows, plan.grid.cols,
                                   precision) +
      decoder.WorkingBytes(plan.latent_rows, plan.latent_cols, precision) +
      kChunkLatentFrames * kFramesPerLatent * frame_bytes;
  // The text encoder's scratch is gone when the cache is made.
  return weights + std::max(generating, encoder.PeakBytes(precision));
}

Status CheckMemory(int64_t needed_bytes) {
  const int64_t available = std::min(AvailableMemoryBytes(), AddressSpaceLeft());
  if (needed_bytes <= available) return {};
  return OutOfMemory("[memory] needs " + Gigabytes(needed_bytes) + ", " + Gigabytes(available) +
                     " are available; a smaller size, a smaller window or --vae taehv needs less");
}

Result<ops::Precision> ResolvePrecision(monarchrt::Precision precision) {
  const bool native = ops::HasNativeBF16();
  switch (precision) {
    case monarchrt::Precision::kF32: return ops::Precision::kF32;
    case monarchrt::Precision::kAuto: return native ? ops::Precision::kBF16 : ops::Precision::kF32;
    case monarchrt::Precision::kBF16: break;
  }
  if (native) return ops::Precision::kBF16;
  return Unavailable("[dtype] this CPU does not compute with bf16, need --dtype f32");
}

}  // namespace mrt
