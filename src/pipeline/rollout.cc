#include "pipeline/rollout.h"

#include <vector>

namespace mrt {
namespace {

// The cache holds tokens: a latent frame divided into patches.
KvCache MakeCache(const ops::Context& context, const WanConfig& config,
                  const RolloutOptions& options) {
  return KvCache(config, options.latent_rows / config.patch_size[1],
                 options.latent_cols / config.patch_size[2], options.window_frames,
                 options.sink_frames, context.activation());
}

// A chunk of the cache that is forgotten unless Keep() is reached: on errors, exceptions,
// cancellation.
class ChunkInCache {
 public:
  explicit ChunkInCache(KvCache& cache) : cache_(cache) {}
  ~ChunkInCache() { cache_.AbandonChunk(); }
  ChunkInCache(const ChunkInCache&) = delete;
  ChunkInCache& operator=(const ChunkInCache&) = delete;
  void Keep() { cache_.EndChunk(); }

 private:
  KvCache& cache_;
};

}  // namespace

Rollout::Rollout(const ops::Context& context, const WanTransformer& transformer,
                 const RolloutOptions& options)
    : transformer_(transformer),
      options_(options),
      cache_(MakeCache(context, transformer.config(), options)) {}

Status Rollout::Remember(ops::Context& context, const ConstTensorView& latents,
                         const CrossKv& text) {
  MRT_RETURN_IF_ERROR(cache_.BeginChunk(latents.shape[0]));
  ChunkInCache chunk(cache_);
  ArenaScope scope(context.arena());
  const TensorView unused = context.Float(latents.shape);
  const std::vector<float> clean(static_cast<size_t>(latents.shape[0]), 0.0f);
  transformer_.Forward(context, latents, clean, text, cache_, options_.attention, unused);
  chunk.Keep();
  return {};
}

Status Rollout::Next(ops::Context& context, const Schedule& schedule, const CrossKv& text,
                     NoiseSource noise, const TensorView& latents) {
  return Next(context, schedule, text, noise, latents, [](int64_t, int, const ConstTensorView&) {});
}

Status Rollout::Next(ops::Context& context, const Schedule& schedule, const CrossKv& text,
                     NoiseSource noise, const TensorView& latents, FlowObserver observer) {
  const int64_t frames = latents.shape[0];
  MRT_RETURN_IF_ERROR(cache_.BeginChunk(frames));
  ChunkInCache chunk(cache_);
  const int64_t first_frame = cache_.frames_seen();
  ArenaScope scope(context.arena());
  const TensorView flow = context.Float(latents.shape);
  const TensorView fresh = context.Float(latents.shape);
  std::vector<float> timesteps(static_cast<size_t>(frames));
  noise(first_frame, 0, latents);
  const std::vector<DenoisingStep>& steps = schedule.steps();
  for (size_t s = 0; s < steps.size(); ++s) {
    if (options_.cancelled && *options_.cancelled) return Cancelled("[stream] was cancelled");
    const int step = static_cast<int>(s);
    if (step > 0) {
      noise(first_frame, step, fresh);
      AddNoise(latents, fresh, steps[s].sigma);
    }
    timesteps.assign(timesteps.size(), steps[s].timestep);
    transformer_.Forward(context, latents, timesteps, text, cache_, options_.attention, flow);
    observer(first_frame, step, flow);
    PredictClean(latents, flow, steps[s].sigma, latents);
  }
  timesteps.assign(timesteps.size(), 0.0f);
  transformer_.Forward(context, latents, timesteps, text, cache_, options_.attention, flow);
  chunk.Keep();
  return {};
}

}  // namespace mrt
