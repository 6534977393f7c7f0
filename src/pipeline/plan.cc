#include "pipeline/plan.h"

#include <sys/resource.h>

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <string>

#include "base/int8.h"
#include "base/memory_info.h"
#include "model/vae/video_codec.h"
#include "model/wan/kv_cache.h"
#include "model/wan/transformer.h"
#include "tensor/int8_weights.h"

namespace mrt {
namespace {

using monarchrt::StreamOptions;

constexpr int kSideMax = 8192;              // pixels; keeps every product far from overflow
constexpr int64_t kFramesMax = 10'000'000;  // a week of video

// With a GPU: workspaces of its libraries, and the ends of its arenas' blocks; the arenas that the
// host has beside them.
constexpr int64_t kLibraryBytes = int64_t{512} << 20;
constexpr int64_t kHostScratchBytes = int64_t{256} << 20;

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

// Each setting in use must fit the picture.
Status CheckSize(const StreamOptions& options, const WanConfig& config,
                 const AttentionTable& attention) {
  for (const ops::AttentionConfig& a : attention.different()) {
    const bool monarch = a.mode == ops::AttentionMode::kMonarch;
    MRT_RETURN_IF_ERROR(CheckSide("width", options.width, kPixelsPerLatent * config.patch_size[2],
                                  monarch ? a.w_reduce : 1));
    MRT_RETURN_IF_ERROR(CheckSide("height", options.height, kPixelsPerLatent * config.patch_size[1],
                                  monarch ? a.h_reduce : 1));
  }
  return {};
}

// Latent frames of the initial frames: as many whole chunks as they fill and the window holds, but
// one at least.
Result<int64_t> CountInitialLatents(const StreamOptions& options, bool single_first) {
  const int64_t given = options.initial_frames;
  if (given < 0 || given > kFramesMax)
    return InvalidArgument("[initial frames] got " + std::to_string(given) + ", need 0.." +
                           std::to_string(kFramesMax));
  if (given == 0) return 0;
  const auto whole_chunks = [&](int64_t latents) {  // at most that many
    const int64_t first = single_first ? 1 : kChunkLatentFrames;
    if (latents < first) return first;
    return first + (latents - first) / kChunkLatentFrames * kChunkLatentFrames;
  };
  const int64_t filled = 1 + (given - 1) / kFramesPerLatent;
  const int64_t window = options.window_frames == -1 ? filled : options.window_frames;
  return whole_chunks(std::min(filled, window));
}

// Fills the numbers of frames.
Status CountFrames(const StreamOptions& options, VideoPlan* plan) {
  if (options.frames < 1 || options.frames > kFramesMax)
    return InvalidArgument("[frames] got " + std::to_string(options.frames) + ", need 1.." +
                           std::to_string(kFramesMax));
  MRT_ASSIGN_OR_RETURN(plan->initial_latents, CountInitialLatents(options, plan->single_first));
  if (!options.show_initial) plan->hidden_frames = VideoFrames(plan->initial_latents);
  const int64_t needed = LatentsFor(plan->hidden_frames + options.frames);
  const ChunkSpan last = ChunkAt(needed - 1, kChunkLatentFrames, plan->single_first);
  plan->latents = std::max(plan->initial_latents, last.first + last.frames);
  return {};
}

// Fills window_frames and sink_frames. A window that holds the whole video never evicts anything.
Status ResolveWindow(const StreamOptions& options, VideoPlan* plan) {
  const int64_t all = plan->latents, chunk = plan->chunk_frames();
  const int64_t window = options.window_frames == -1 ? all : options.window_frames;
  if (options.sink_frames < 0)
    return InvalidArgument("[window] sink is " + std::to_string(options.sink_frames) +
                           ", need 0 or more latent frames");
  if (window < chunk || (window < all && window - options.sink_frames < chunk))
    return InvalidArgument("[window] got " + std::to_string(window) +
                           " latent frames with a sink of " + std::to_string(options.sink_frames) +
                           ", need room for a chunk of " + std::to_string(chunk) +
                           " beside the sink");
  for (const ops::AttentionConfig& a : plan->attention.different())
    if (a.mode == ops::AttentionMode::kMonarch && window < all && window % a.f_tied != 0)
      return InvalidArgument(
          "[window] got " + std::to_string(window) + " latent frames, need a multiple of f_tied " +
          std::to_string(a.f_tied) + "; nearest: " + NearestMultiples(window, a.f_tied));
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

std::string Gigabytes(int64_t bytes) {
  char text[32];
  std::snprintf(text, sizeof(text), "%.2f GB", static_cast<double>(bytes) * 1e-9);
  return text;
}

Result<VideoPlan> PlanVideo(const WanConfig& config, const StreamOptions& options,
                            ops::Precision precision, ops::Backend* backend) {
  VideoPlan plan;
  plan.kv_dtype = ResolveKvCache(options.kv_cache, precision);
  MRT_ASSIGN_OR_RETURN(
      plan.attention,
      AttentionTable::Make(options.attention, options.attention_rules, config.num_layers,
                           static_cast<int64_t>(options.steps.size())));
  MRT_RETURN_IF_ERROR(CheckSize(options, config, plan.attention));
  plan.latent_rows = options.height / kPixelsPerLatent;
  plan.latent_cols = options.width / kPixelsPerLatent;
  plan.grid = {.rows = static_cast<int>(plan.latent_rows / config.patch_size[1]),
               .cols = static_cast<int>(plan.latent_cols / config.patch_size[2]),
               .heads = static_cast<int>(config.num_heads),
               .head_dim = static_cast<int>(config.head_dim())};
  plan.single_first = options.independent_first_frame || config.independent_first_frame;
  MRT_RETURN_IF_ERROR(CountFrames(options, &plan));
  MRT_RETURN_IF_ERROR(ResolveWindow(options, &plan));
  const int64_t first = ChunkAt(0, kChunkLatentFrames, plan.single_first).frames;
  for (const ops::AttentionConfig& attention : plan.attention.different())
    for (const auto& [queries, keys] :
         {std::pair{first, first}, {plan.chunk_frames(), plan.window_frames}})
      MRT_RETURN_IF_ERROR(ops::ValidateAttention(attention, plan.grid, static_cast<int>(queries),
                                                 static_cast<int>(keys), precision, backend));
  return plan;
}

Status CheckRecache(const VideoPlan& plan) {
  // The window is a multiple of f_tied already, so only the sink can cut a tile.
  for (const ops::AttentionConfig& a : plan.attention.different())
    if (a.mode == ops::AttentionMode::kMonarch && plan.sink_frames % a.f_tied != 0)
      return InvalidArgument("[recache] got a sink of " + std::to_string(plan.sink_frames) +
                             " latent frames, need a multiple of f_tied " +
                             std::to_string(a.f_tied));
  return {};
}

int64_t TransformerScratchBytes(const WanConfig& config, const VideoPlan& plan,
                                ops::Precision precision, ops::WeightType weights,
                                ops::Backend* backend) {
  const int64_t chunk = plan.chunk_frames();
  int64_t attention_bytes = 0;
  for (const ops::AttentionConfig& attention : plan.attention.different())
    attention_bytes = std::max(
        attention_bytes,
        ops::AttentionScratchBytes(attention, plan.grid, static_cast<int>(chunk),
                                   static_cast<int>(plan.window_frames), precision, backend));
  return attention_bytes + WanTransformer::ScratchBytes(config, chunk, plan.grid.rows,
                                                        plan.grid.cols, precision, weights);
}

MemoryPlan PlanMemory(const WanConfig& config, const TextMemory& text, const VideoDecoder& decoder,
                      const VideoEncoder* initial_encoder, const VideoPlan& plan,
                      ops::Precision precision, ops::WeightType weights, ops::Backend* backend) {
  // x264 keeps this many frames while it looks ahead ("veryfast": 10, and its threads and
  // references), with 8 threads.
  constexpr int64_t kEncoderFrames = 30;
  // Where the video encoder has a thread of its own: RGB8, one in it and one that waits for it.
  constexpr int64_t kChunksToEncode = 2;
  constexpr int64_t kTextsMax = 3;  // the prompt, one that waits, and one that is being encoded
  const DType dtype = precision == ops::Precision::kBF16 ? DType::kBF16 : DType::kF32;
  const int64_t latent_frame =
      config.out_dim * plan.latent_rows * plan.latent_cols * DTypeSize(DType::kF32);
  const int64_t frame_pixels =
      plan.latent_rows * plan.latent_cols * kPixelsPerLatent * kPixelsPerLatent;
  const int64_t chunk = plan.chunk_frames();
  const int64_t decoded_bytes = kFramesPerLatent * frame_pixels * 3 * DTypeSize(DType::kF32);
  const int64_t rgb_bytes = chunk * kFramesPerLatent * frame_pixels * 3;
  const int64_t encoder_bytes = kEncoderFrames * frame_pixels * 3 / 2;  // yuv420p
  MemoryPlan memory;
  MemoryUse& models = backend == nullptr ? memory.host : memory.device;
  models.weights_bytes = WanTransformer::WeightBytes(config, precision, weights) +
                         decoder.weight_bytes() + text.weights_bytes;
  if (initial_encoder != nullptr)
    models.initial_bytes =
        initial_encoder->weight_bytes() +
        initial_encoder->WorkingBytes(plan.latent_rows, plan.latent_cols, precision);
  models.generating_bytes =
      kTextsMax * 2 * config.num_layers * config.text_len * config.dim * DTypeSize(dtype) +
      KvCache::Bytes(config, plan.grid.rows, plan.grid.cols, plan.window_frames, plan.kv_dtype,
                     plan.final_frames()) +
      TransformerScratchBytes(config, plan, precision, weights, backend) +
      decoder.WorkingBytes(plan.latent_rows, plan.latent_cols, precision) + decoded_bytes;
  if (text.weights_bytes > 0) {
    models.generating_bytes += text.peak_bytes;  // at the same time
  } else {
    memory.host.text_bytes = text.peak_bytes;
  }
  memory.host.generating_bytes +=
      latent_frame * (plan.window_frames + plan.initial_latents + 5 * chunk) +
      rgb_bytes * (1 + kChunksToEncode) + encoder_bytes;
  if (backend == nullptr) return memory;
  memory.device.generating_bytes += kLibraryBytes + rgb_bytes;
  // What the host computes of the transformer: timesteps, patches, rotary tables.
  memory.host.weights_bytes += WanTransformer::HostWeightBytes(config);
  memory.host.generating_bytes += kHostScratchBytes;
  return memory;
}

int64_t ObtainableMemoryBytes() { return std::min(AvailableMemoryBytes(), AddressSpaceLeft()); }

Status CheckMemory(int64_t needed_bytes) {
  const int64_t available = ObtainableMemoryBytes();
  if (needed_bytes <= available) return {};
  return OutOfMemory("[memory] needs " + Gigabytes(needed_bytes) + ", " + Gigabytes(available) +
                     " are available; a smaller size, a smaller window, --kv-cache bf16 or --vae "
                     "taehv needs less");
}

Result<ops::Precision> ResolvePrecision(monarchrt::Precision precision) {
  const bool native = ops::HasNativeBF16();
  switch (precision) {
    case monarchrt::Precision::kF32: return ops::Precision::kF32;
    case monarchrt::Precision::kAuto:
    case monarchrt::Precision::kInt8: return native ? ops::Precision::kBF16 : ops::Precision::kF32;
    case monarchrt::Precision::kBF16: break;
  }
  if (native) return ops::Precision::kBF16;
  return Unavailable("[dtype] this CPU does not compute with bf16, need --dtype f32");
}

Result<ops::WeightType> ResolveWeights(monarchrt::Precision precision,
                                       const Checkpoint& transformer, const WanConfig& config) {
  const bool stored = HasInt8Weights(transformer);
  const bool wanted = precision == monarchrt::Precision::kInt8;
  if (!stored && !wanted) return ops::WeightType::kActivation;
  if (!wanted && precision != monarchrt::Precision::kAuto)
    return InvalidArgument("[dtype] " + transformer.path() +
                           " holds int8 weights, need --dtype int8 or auto");
  const int64_t in = std::max(config.dim, config.ffn_dim);
  if (in > kInt8ColumnsMax)
    return InvalidArgument("[dtype] got matrices of " + std::to_string(in) +
                           " columns, need at most " + std::to_string(kInt8ColumnsMax) +
                           " for int8");
  return ops::WeightType::kInt8;
}

DType ResolveKvCache(monarchrt::KvCacheType type, ops::Precision precision) {
  const bool bf16 = type == monarchrt::KvCacheType::kBF16 || precision == ops::Precision::kBF16;
  return bf16 ? DType::kBF16 : DType::kF32;
}

const char* DtypeName(ops::Precision precision, ops::WeightType weights) {
  if (weights == ops::WeightType::kInt8) return "int8";
  return precision == ops::Precision::kBF16 ? "bf16" : "f32";
}

}  // namespace mrt
