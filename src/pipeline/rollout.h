// The autoregressive loop over latents: chunk by chunk from noise, a few denoising steps each, then
// one pass of the clean chunk at t = 0 that leaves its keys and values in the cache.
#pragma once

#include <cstdint>
#include <vector>

#include "base/threads.h"
#include "model/wan/kv_cache.h"
#include "model/wan/transformer.h"
#include "pipeline/attention_table.h"
#include "pipeline/sampler.h"

namespace mrt {

/// Writes the noise for latent frames first_frame ... before denoising step `step` (0: the start)
/// to `out`, F32 [frames, channels, rows, cols]. Called in the order of use.
using NoiseSource = FunctionRef<void(int64_t first_frame, int step, const TensorView& out)>;

/// Sees the velocity of every denoising step, F32 [frames, channels, rows, cols]. For verification.
using FlowObserver = FunctionRef<void(int64_t first_frame, int step, const ConstTensorView& flow)>;

struct RolloutOptions {
  AttentionTable attention;
  int64_t window_frames =
      21;  // latent frames the keys and values of which are kept, current chunk included
  DType kv_dtype = DType::kF32;  // of these keys and values
  int64_t sink_frames = 0;       // of these, the first ones that always stay
  int64_t final_frames = 0;      // of the chunk after which nothing comes; 0: there is none
  int64_t latent_rows = 0;       // of a latent frame; patch_size times the token grid
  int64_t latent_cols = 0;
  Memory* memory = nullptr;  // of the context it will run with
};

/// Every call returns Cancelled if the context was stopped meanwhile. The cache is then without the
/// chunk, and the latents are of no use.
class Rollout {
 public:
  /// The transformer must outlive the rollout. Allocates the cache.
  Rollout(const WanTransformer& transformer, const RolloutOptions& options);

  /// What the host computes for the first step of the next chunk, which has that many frames, so
  /// that Next need not.
  void Prepare(ops::Context& context, const Schedule& schedule, int64_t frames) {
    transformer_.Prepare(context, cache_, frames, schedule.steps().front().timestep);
  }

  /// Puts given clean latents, F32 [frames, channels, rows, cols], into the cache as one chunk: the
  /// start of a continuation or of image to video.
  Status Remember(ops::Context& context, const ConstTensorView& latents, const CrossKv& text);

  /// Generates the next chunk into `latents`, F32 [frames, channels, rows, cols]. Its keys and
  /// values are not yet those of the clean chunk: before any other call comes Finish, unless it was
  /// the last one.
  Status Next(ops::Context& context, const Schedule& schedule, const CrossKv& text,
              NoiseSource noise, const TensorView& latents) {
    return Generate(context, schedule, text, noise, latents, nullptr);
  }
  Status NextObserved(ops::Context& context, const Schedule& schedule, const CrossKv& text,
                      NoiseSource noise, const TensorView& latents, FlowObserver observer) {
    return Generate(context, schedule, text, noise, latents, &observer);
  }

  /// The clean pass of what Next generated with that text; nothing if there is none to finish. A
  /// device may still be at work.
  Status Finish(ops::Context& context, const CrossKv& text);

  /// Computes the keys and values of all frames in the window anew with another text: each chunk of
  /// it once at t = 0, in the order of time, each seeing what lies before it. The last two
  /// arguments are those of ChunkAt.
  Status Recache(ops::Context& context, const CrossKv& text, int64_t chunk_frames,
                 bool single_first);

  /// Latent frames generated or remembered so far.
  int64_t frames_done() const { return cache_.chunk_position() + cache_.chunk_frames(); }
  /// Of a latent frame.
  int64_t channels() const { return clean_.shape()[1]; }

 private:
  Status Generate(ops::Context& context, const Schedule& schedule, const CrossKv& text,
                  NoiseSource noise, const TensorView& latents, const FlowObserver* observer);
  Status Denoise(ops::Context& context, const Schedule& schedule, const CrossKv& text,
                 NoiseSource noise, const TensorView& patches, const FlowObserver* observer);
  Status CleanPass(ops::Context& context, const ConstTensorView& patches, const CrossKv& text);
  Shape PatchesShape() const;
  TensorView NewPatches(ops::Context& context) const { return context.Float(PatchesShape()); }
  void SaveClean(const ConstTensorView& latents);
  TensorView CleanOf(int64_t f) const;

  const WanTransformer& transformer_;
  RolloutOptions options_;
  KvCache cache_;
  Tensor clean_;  // F32 [window frames, channels, rows, cols]: clean latents, by the cache's slots
  Tensor patches_;                // where the context computes: of the chunk in the cache
  std::vector<float> timesteps_;  // of each frame of a chunk
};

}  // namespace mrt
