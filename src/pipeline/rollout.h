// The autoregressive loop over latents: chunk by chunk from noise, a few denoising steps each, then
// one pass of the clean chunk at t = 0 that leaves its keys and values in the cache.
#pragma once

#include <atomic>
#include <cstdint>

#include "base/threads.h"
#include "model/wan/kv_cache.h"
#include "model/wan/transformer.h"
#include "ops/attention.h"
#include "pipeline/sampler.h"

namespace mrt {

/// Writes the noise for latent frames first_frame ... before denoising step `step` (0: the start)
/// to `out`, F32 [frames, channels, rows, cols]. Called in the order of use.
using NoiseSource = FunctionRef<void(int64_t first_frame, int step, const TensorView& out)>;

/// Sees the velocity of every denoising step, F32 [frames, channels, rows, cols]. For verification.
using FlowObserver = FunctionRef<void(int64_t first_frame, int step, const ConstTensorView& flow)>;

struct RolloutOptions {
  ops::AttentionConfig attention;
  int64_t window_frames =
      21;  // latent frames the keys and values of which are kept, current chunk included
  int64_t sink_frames = 0;  // of these, the first ones that always stay
  int64_t latent_rows = 0;  // of a latent frame; patch_size times the token grid
  int64_t latent_cols = 0;
  const std::atomic<bool>* cancelled =
      nullptr;  // if set and true, Next returns Cancelled before a step
};

class Rollout {
 public:
  /// The transformer must outlive the rollout. Allocates the cache.
  Rollout(const ops::Context& context, const WanTransformer& transformer,
          const RolloutOptions& options);

  /// Puts given clean latents, F32 [frames, channels, rows, cols], into the cache as one chunk: the
  /// start of a continuation or of image to video.
  Status Remember(ops::Context& context, const ConstTensorView& latents, const CrossKv& text);

  /// Generates the next chunk into `latents`, F32 [frames, channels, rows, cols].
  Status Next(ops::Context& context, const Schedule& schedule, const CrossKv& text,
              NoiseSource noise, const TensorView& latents);
  Status Next(ops::Context& context, const Schedule& schedule, const CrossKv& text,
              NoiseSource noise, const TensorView& latents, FlowObserver observer);

  /// Latent frames generated or remembered so far.
  int64_t frames_done() const { return cache_.frames_seen(); }

 private:
  const WanTransformer& transformer_;
  RolloutOptions options_;
  KvCache cache_;
};

}  // namespace mrt
