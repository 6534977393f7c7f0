// What a generation amounts to, worked out before anything is loaded: grid, chunks, memory.
#pragma once

#include <algorithm>
#include <cstdint>

#include "model/umt5/umt5.h"
#include "model/vae/video_codec.h"
#include "model/wan/config.h"
#include "monarchrt/engine.h"
#include "ops/attention.h"
#include "ops/context.h"

namespace mrt {

/// Latent frames denoised together; the released models are trained for 3.
inline constexpr int64_t kChunkLatentFrames = 3;

struct VideoPlan {
  int64_t latent_rows = 0, latent_cols = 0;  // height / 8, width / 8
  ops::AttentionGrid grid;                   // in tokens
  int64_t chunks = 0;
  int64_t window_frames = 0;  // latent frames of the KV cache, at most those of the video
  int64_t sink_frames = 0;    // 0 if nothing is ever evicted
  ops::AttentionConfig attention;
};

/// Checks every number of `options` against the model: InvalidArgument with the nearest sizes that
/// fit.
Result<VideoPlan> PlanVideo(const WanConfig& config, const monarchrt::StreamOptions& options,
                            ops::Precision precision);

/// Bytes a generation takes. The text encoder is gone when the cache and the decoder's state are
/// made.
struct MemoryPlan {
  int64_t weights_bytes = 0;     // packed transformer and decoder; there from loading on
  int64_t text_bytes = 0;        // while the prompt is encoded
  int64_t generating_bytes = 0;  // KV caches, activations, decoder state, frames, video encoder
  int64_t PeakBytes() const { return weights_bytes + OpenBytes(); }
  int64_t OpenBytes() const {
    return std::max(text_bytes, generating_bytes);
  }  // beyond the weights
};
MemoryPlan PlanMemory(const WanConfig& config, const Umt5Encoder& encoder,
                      const VideoDecoder& decoder, const VideoPlan& plan, ops::Precision precision);

/// OutOfMemory with both numbers if `needed_bytes` is more than this process can still get.
Status CheckMemory(int64_t needed_bytes);

/// 0 (all CPUs) to 1024; InvalidArgument otherwise.
Status CheckThreads(int threads);

/// The engine's precision on this machine; Unavailable if bf16 is asked for and cannot be had.
Result<ops::Precision> ResolvePrecision(monarchrt::Precision precision);

}  // namespace mrt
