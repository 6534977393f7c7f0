// What a generation amounts to, worked out before anything is loaded: grid, chunks, memory.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>

#include "model/vae/video_codec.h"
#include "model/wan/config.h"
#include "monarchrt/engine.h"
#include "ops/attention.h"
#include "ops/context.h"
#include "ops/linear.h"
#include "pipeline/attention_table.h"
#include "pipeline/chunks.h"
#include "tensor/checkpoint.h"

namespace mrt {

struct VideoPlan {
  int64_t latent_rows = 0, latent_cols = 0;  // height / 8, width / 8
  ops::AttentionGrid grid;                   // in tokens
  bool single_first = false;                 // the first chunk is one latent frame
  int64_t latents = 0;           // latent frames in all, the initial ones included: whole chunks
  int64_t initial_latents = 0;   // of these, the first ones, which are given
  int64_t hidden_frames = 0;     // video frames at the start that do not come out
  int64_t window_frames = 0;     // latent frames of the KV cache, at most `latents`
  int64_t sink_frames = 0;       // 0 if nothing is ever evicted
  DType kv_dtype = DType::kF32;  // of the KV cache
  AttentionTable attention;

  /// Latent frames of the largest chunk.
  int64_t chunk_frames() const { return std::min(kChunkLatentFrames, latents); }
  /// Latent frames of the last chunk, if nothing is ever evicted, else 0: as in KvCache.
  int64_t final_frames() const {
    return window_frames < latents ? 0
                                   : ChunkAt(latents - 1, kChunkLatentFrames, single_first).frames;
  }
};

/// Checks every number of `options` against the model and its backend: InvalidArgument with the
/// nearest sizes that fit.
Result<VideoPlan> PlanVideo(const WanConfig& config, const monarchrt::StreamOptions& options,
                            ops::Precision precision, ops::Backend* backend = nullptr);

/// Ok if the window's frames can be computed anew: every part of a chunk that is left in it must be
/// whole tiles.
Status CheckRecache(const VideoPlan& plan);

/// Bytes a generation takes in one memory. The text encoder is gone when the initial frames are
/// encoded, and their encoder when the cache and the decoder's state are made; but a text encoder
/// of a GPU works while they are made.
struct MemoryUse {
  int64_t weights_bytes = 0;     // packed models; there from loading on
  int64_t text_bytes = 0;        // the text encoder's work; on the CPU a matrix at a time is of it
  int64_t initial_bytes = 0;     // the initial frames' encoder
  int64_t generating_bytes = 0;  // KV caches, activations, decoder state, frames, video encoder
  int64_t PeakBytes() const { return weights_bytes + OpenBytes(); }
  /// Beyond the weights.
  int64_t OpenBytes() const { return std::max({text_bytes, initial_bytes, generating_bytes}); }
};
struct MemoryPlan {
  MemoryUse host;
  MemoryUse device;  // of a GPU; else all 0
};
/// The text encoder's weights that stay on a GPU, 0 on the CPU, and what a prompt takes beside
/// them, there or here (PromptEncoder).
struct TextMemory {
  int64_t weights_bytes = 0, peak_bytes = 0;
};
/// `initial_encoder` encodes the initial frames; null if there are none. `backend`: of the models.
MemoryPlan PlanMemory(const WanConfig& config, const TextMemory& text, const VideoDecoder& decoder,
                      const VideoEncoder* initial_encoder, const VideoPlan& plan,
                      ops::Precision precision, ops::WeightType weights,
                      ops::Backend* backend = nullptr);

/// What the arena of the transformer's context grows to.
int64_t TransformerScratchBytes(const WanConfig& config, const VideoPlan& plan,
                                ops::Precision precision, ops::WeightType weights,
                                ops::Backend* backend);

/// "1.23 GB"
std::string Gigabytes(int64_t bytes);

/// Bytes this process can still get: of the machine, its control group and its address space.
int64_t ObtainableMemoryBytes();

/// OutOfMemory with both numbers if `needed_bytes` is more than this process can still get.
Status CheckMemory(int64_t needed_bytes);

/// The engine's precision on this machine; Unavailable if bf16 is asked for and cannot be had.
/// kInt8 leaves the activations to the machine, as kAuto does.
Result<ops::Precision> ResolvePrecision(monarchrt::Precision precision);

/// How the transformer's matrices are stored: kAuto takes int8 if the checkpoint holds that.
/// InvalidArgument if it does and f32 or bf16 is asked for, or if int8 cannot hold its sizes.
Result<ops::WeightType> ResolveWeights(monarchrt::Precision precision,
                                       const Checkpoint& transformer, const WanConfig& config);

/// How the KV cache is stored.
DType ResolveKvCache(monarchrt::KvCacheType type, ops::Precision precision);

/// "f32", "bf16" or "int8": the engine's dtype in reports.
const char* DtypeName(ops::Precision precision, ops::WeightType weights);

}  // namespace mrt
