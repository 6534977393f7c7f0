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

// `cuts` of the tiling must divide the tokens of this side, each `token_pixels` wide.
Status CheckSide(const std::string& name, int pixels, int64_t token_pixels, int64_t cuts) {
  const int64_t unit = token_pixels * cuts;
  if (unit > kSideMax)
    return InvalidArgument("[size] " + std::to_string(cuts) + " cuts of the " + name +
                           " need at least " + std::to_string(unit) + " pixels, the limit is " +
                           std::to_string(kSideMax));
  if (pixels > 0 && pixels <= kSideMax && pixels % unit == 0) return {};
  std::string why = std::to_string(token_pixels) + " pixels a token";
  if (cuts > 1) why += ", " + std::to_string(cuts) + " cuts";
  return InvalidArgument("[size] " + name + " is " + std::to_string(pixels) +
                         ", need a multiple of " + std::to_string(unit) + " up to " +
                         std::to_string(kSideMax) + " (" + why +
                         "); nearest: " + NearestMultiples(std::clamp(pixels, 1, kSideMax), unit));
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

// Fills window_frames and sink_frames. A window that holds the whole video never evicts anything.
Status ResolveWindow(const StreamOptions& options, VideoPlan* plan) {
  const int64_t all = plan->chunks * kChunkLatentFrames;
  const int64_t window = options.window_frames == -1 ? all : options.window_frames;
  const int64_t f_tied =
      plan->attention.mode == ops::AttentionMode::kMonarch ? plan->attention.f_tied : 1;
  if (options.sink_frames < 0)
    return InvalidArgument("[window] sink is " + std::to_string(options.sink_frames) +
                           ", need 0 or more latent frames");
  if (window < kChunkLatentFrames ||
      (window < all && window - options.sink_frames < kChunkLatentFrames))
    return InvalidArgument("[window] got " + std::to_string(window) +
                           " latent frames with a sink of " + std::to_string(options.sink_frames) +
                           ", need room for a chunk of " + std::to_string(kChunkLatentFrames) +
                           " beside the sink");
  if (window < all && window % f_tied != 0)
    return InvalidArgument("[window] got " + std::to_string(window) +
                           " latent frames, need a multiple of f_tied " + std::to_string(f_tied) +
                           "; nearest: " + NearestMultiples(window, f_tied));
  plan->window_frames = std::min(window, all);
  plan->sink_frames = window < all ? options.sink_frames : 0;
  return {};
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
  MRT_RETURN_IF_ERROR(CheckSide("width", options.width, kPixelsPerLatent * config.patch_size[2],
                                monarch ? plan.attention.w_reduce : 1));
  MRT_RETURN_IF_ERROR(CheckSide("height", options.height, kPixelsPerLatent * config.patch_size[1],
                                monarch ? plan.attention.h_reduce : 1));
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
  MRT_RETURN_IF_ERROR(ResolveWindow(options, &plan));
  MRT_RETURN_IF_ERROR(ops::ValidateAttention(plan.attention, plan.grid,
                                             static_cast<int>(kChunkLatentFrames),
                                             static_cast<int>(plan.window_frames), precision));
  return plan;
}

MemoryPlan PlanMemory(const WanConfig& config, const Umt5Encoder& encoder,
                      const VideoDecoder& decoder, const VideoPlan& plan,
                      ops::Precision precision) {
  // x264 keeps this many frames while it looks ahead ("veryfast": 10, and its threads and
  // references).
  constexpr int64_t kEncoderFrames = 24;
  const DType dtype = precision == ops::Precision::kBF16 ? DType::kBF16 : DType::kF32;
  const int64_t frame_pixels =
      plan.latent_rows * plan.latent_cols * kPixelsPerLatent * kPixelsPerLatent;
  const int64_t chunk_frames_bytes =
      kChunkLatentFrames * kFramesPerLatent * frame_pixels * 3 * (DTypeSize(DType::kF32) + 1);
  const int64_t encoder_bytes = kEncoderFrames * frame_pixels * 3 / 2;  // yuv420p
  MemoryPlan memory;
  memory.weights_bytes = WanTransformer::WeightBytes(config, precision) + decoder.weight_bytes();
  memory.text_bytes = encoder.PeakBytes(precision, config.text_len);
  memory.generating_bytes =
      2 * config.num_layers * config.text_len * config.dim * DTypeSize(dtype) +
      KvCache::Bytes(config, plan.grid.rows, plan.grid.cols, plan.window_frames, dtype) +
      WanTransformer::ScratchBytes(config, kChunkLatentFrames, plan.grid.rows, plan.grid.cols,
                                   precision) +
      ops::AttentionScratchBytes(plan.attention, plan.grid, static_cast<int>(kChunkLatentFrames),
                                 static_cast<int>(plan.window_frames), precision) +
      decoder.WorkingBytes(plan.latent_rows, plan.latent_cols, precision) + chunk_frames_bytes +
      encoder_bytes;
  return memory;
}

Status CheckMemory(int64_t needed_bytes) {
  const int64_t available = std::min(AvailableMemoryBytes(), AddressSpaceLeft());
  if (needed_bytes <= available) return {};
  return OutOfMemory("[memory] needs " + Gigabytes(needed_bytes) + ", " + Gigabytes(available) +
                     " are available; a smaller size, a smaller window or --vae taehv needs less");
}

Status CheckThreads(int threads) {
  constexpr int kThreadsMax = 1024;
  if (threads >= 0 && threads <= kThreadsMax) return {};
  return InvalidArgument("[threads] got " + std::to_string(threads) + ", need 0.." +
                         std::to_string(kThreadsMax));
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
