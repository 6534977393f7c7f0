#include "pipeline/rollout.h"

#include <cstring>

#include "ops/transfer.h"
#include "pipeline/chunks.h"

namespace mrt {
namespace {

// The cache holds tokens: a latent frame divided into patches.
KvCache MakeCache(const WanConfig& config, const RolloutOptions& options) {
  return KvCache(config, options.latent_rows / config.patch_size[1],
                 options.latent_cols / config.patch_size[2], options.window_frames,
                 options.sink_frames, options.kv_dtype, options.memory);
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

Status CheckStopped(const ops::Context& context) {
  return context.stopped() ? Cancelled("[stream] was cancelled") : Status();
}

}  // namespace

Rollout::Rollout(const WanTransformer& transformer, const RolloutOptions& options)
    : transformer_(transformer),
      options_(options),
      cache_(MakeCache(transformer.config(), options)),
      clean_(DType::kF32, {options.window_frames, transformer.config().out_dim, options.latent_rows,
                           options.latent_cols}) {}

Status Rollout::Remember(ops::Context& context, const ConstTensorView& latents,
                         const CrossKv& text) {
  MRT_RETURN_IF_ERROR(cache_.BeginChunk(latents.shape[0]));
  ChunkInCache chunk(cache_);
  MRT_RETURN_IF_ERROR(CleanPass(context, latents, text));
  SaveClean(latents);
  chunk.Keep();
  return {};
}

Status Rollout::Next(ops::Context& context, const Schedule& schedule, const CrossKv& text,
                     NoiseSource noise, const TensorView& latents) {
  return Next(context, schedule, text, noise, latents, [](int64_t, int, const ConstTensorView&) {});
}

Status Rollout::Next(ops::Context& context, const Schedule& schedule, const CrossKv& text,
                     NoiseSource noise, const TensorView& latents, FlowObserver observer) {
  MRT_RETURN_IF_ERROR(cache_.BeginChunk(latents.shape[0]));
  ChunkInCache chunk(cache_);
  MRT_RETURN_IF_ERROR(Denoise(context, schedule, text, noise, latents, observer));
  MRT_RETURN_IF_ERROR(CleanPass(context, latents, text));
  SaveClean(latents);
  chunk.Keep();
  return {};
}

Status Rollout::Recache(ops::Context& context, const CrossKv& text, int64_t chunk_frames,
                        bool single_first) {
  const int64_t window = cache_.frames_visible();
  const ArenaScope scope(context.host_arena());
  const Shape& shape = clean_.shape();
  const TensorView latents = context.HostFloat({chunk_frames, shape[1], shape[2], shape[3]});
  for (int64_t first = 0, frames = 0; first < window; first += frames) {
    // As many frames as are left of their chunk: the sink and eviction may have cut it.
    const int64_t position = cache_.PositionOf(first);
    const ChunkSpan chunk = ChunkAt(position, chunk_frames, single_first);
    frames = 1;
    while (first + frames < window && cache_.PositionOf(first + frames) == position + frames &&
           position + frames < chunk.first + chunk.frames)
      ++frames;
    for (int64_t f = 0; f < frames; ++f) {
      const ConstTensorView from = CleanOf(first + f);
      std::memcpy(latents.Slice(f, f + 1).data, from.data, static_cast<size_t>(from.bytes()));
    }
    cache_.BeginRevisit(first, frames);
    const Status status = CleanPass(context, latents.Slice(0, frames), text);
    cache_.EndRevisit();
    MRT_RETURN_IF_ERROR(status);
  }
  return {};
}

Status Rollout::Denoise(ops::Context& context, const Schedule& schedule, const CrossKv& text,
                        NoiseSource noise, const TensorView& latents, FlowObserver observer) {
  const int64_t first_frame = cache_.chunk_position();
  const ArenaScope scope(context.host_arena());
  const TensorView flow = context.HostFloat(latents.shape);
  const TensorView fresh = context.HostFloat(latents.shape);
  noise(first_frame, 0, latents);
  const std::vector<DenoisingStep>& steps = schedule.steps();
  for (size_t s = 0; s < steps.size(); ++s) {
    const int step = static_cast<int>(s);
    const Span span(context.span_log(), "denoising step", SpanKind::kPart, {}, step);
    if (step > 0) {
      noise(first_frame, step, fresh);
      AddNoise(latents, fresh, steps[s].sigma);
    }
    timesteps_.assign(static_cast<size_t>(latents.shape[0]), steps[s].timestep);
    transformer_.Forward(context, latents, timesteps_, text, cache_, options_.attention.Step(step),
                         flow);
    MRT_RETURN_IF_ERROR(CheckStopped(context));
    observer(first_frame, step, flow);
    PredictClean(latents, flow, steps[s].sigma, latents);
  }
  return {};
}

Status Rollout::CleanPass(ops::Context& context, const ConstTensorView& latents,
                          const CrossKv& text) {
  const Span span(context.span_log(), "clean pass", SpanKind::kPart);
  timesteps_.assign(static_cast<size_t>(latents.shape[0]), 0.0f);
  transformer_.Forward(context, latents, timesteps_, text, cache_, options_.attention.CleanPass(),
                       /*flow=*/{});
  ops::Wait(context);  // nothing is downloaded: without this the time would be the next one's
  return CheckStopped(context);
}

void Rollout::SaveClean(const ConstTensorView& latents) {
  const int64_t frames = latents.shape[0], past = cache_.frames_visible() - frames;
  for (int64_t f = 0; f < frames; ++f) {
    const ConstTensorView frame = latents.Slice(f, f + 1);
    std::memcpy(CleanOf(past + f).data, frame.data, static_cast<size_t>(frame.bytes()));
  }
}

TensorView Rollout::CleanOf(int64_t f) const {
  const int64_t slot = cache_.slots()[static_cast<size_t>(f)];
  return clean_.view().Slice(slot, slot + 1);
}

}  // namespace mrt
