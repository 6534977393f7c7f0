// What a generation amounts to, worked out before anything is loaded: grid, chunks, memory.
#pragma once

#include <cstdint>

#include "model/wan/config.h"
#include "monarchrt/engine.h"
#include "ops/attention.h"
#include "ops/context.h"
#include "pipeline/model_files.h"

namespace mrt {

/// Latent frames denoised together; the released models are trained for 3.
inline constexpr int64_t kChunkLatentFrames = 3;

struct VideoPlan {
  int64_t latent_rows = 0, latent_cols = 0;  // height / 8, width / 8
  ops::AttentionGrid grid;                   // in tokens
  int64_t chunks = 0;
  int64_t window_frames = 0;  // latent frames of the KV cache
  ops::AttentionConfig attention;
};

/// Checks every number of `options` against the model: InvalidArgument with the nearest sizes that
/// fit.
Result<VideoPlan> PlanVideo(const WanConfig& config, const monarchrt::StreamOptions& options,
                            ops::Precision precision);

/// Bytes at the peak of loading and generating: weights, KV cache, activations, autoencoder, text
/// encoder.
Result<int64_t> PlanMemory(const ModelFiles& files, const VideoDecoder& decoder,
                           const VideoPlan& plan, ops::Precision precision);

/// OutOfMemory with both numbers if `needed_bytes` is more than this process can still get.
Status CheckMemory(int64_t needed_bytes);

/// The engine's precision on this machine; Unavailable if bf16 is asked for and cannot be had.
Result<ops::Precision> ResolvePrecision(monarchrt::Precision precision);

}  // namespace mrt
