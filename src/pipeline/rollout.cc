#include "pipeline/rollout.h"

#include <cstring>

#include "model/wan/patches.h"
#include "ops/transfer.h"
#include "pipeline/chunks.h"

namespace mrt {
namespace {

// The cache holds tokens: a latent frame divided into patches.
KvCache MakeCache(const WanConfig& config, const RolloutOptions& options) {
  return KvCache(config, options.latent_rows / config.patch_size[1],
                 options.latent_cols / config.patch_size[2], options.window_frames,
                 options.sink_frames, options.kv_dtype, options.memory, options.final_frames);
}

// A chunk of the cache that is forgotten unless Keep() or Leave(), which lets it be the current
// one, is reached: on errors, exceptions, cancellation.
class ChunkInCache {
 public:
  explicit ChunkInCache(KvCache& cache) : cache_(cache) {}
  ~ChunkInCache() {
    if (!left_) cache_.AbandonChunk();
  }
  ChunkInCache(const ChunkInCache&) = delete;
  ChunkInCache& operator=(const ChunkInCache&) = delete;
  void Keep() { cache_.EndChunk(); }
  void Leave() { left_ = true; }

 private:
  KvCache& cache_;
  bool left_ = false;
};

/// `to`: where the context computes.
void PatchifyTo(ops::Context& context, const WanConfig& config, const ConstTensorView& latents,
                const TensorView& to) {
  const ArenaScope scope(context.host_arena());
  const TensorView patches = context.HostFloat(to.shape);
  Patchify(config, latents, patches);
  ops::Copy(context, patches, to);
}

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
  const ArenaScope scope(context.arena()), host_scope(context.host_arena());
  const TensorView patches = NewPatches(context);
  PatchifyTo(context, transformer_.config(), latents, patches);
  MRT_RETURN_IF_ERROR(CleanPass(context, patches, text));
  ops::Wait(context);
  SaveClean(latents);
  chunk.Keep();
  return {};
}

Status Rollout::Generate(ops::Context& context, const Schedule& schedule, const CrossKv& text,
                         NoiseSource noise, const TensorView& latents,
                         const FlowObserver* observer) {
  MRT_RETURN_IF_ERROR(cache_.BeginChunk(latents.shape[0]));
  ChunkInCache chunk(cache_);
  if (patches_.empty() || !(patches_.shape() == PatchesShape()))
    patches_ = Tensor(DType::kF32, PatchesShape(), context.memory());
  MRT_RETURN_IF_ERROR(Denoise(context, schedule, text, noise, patches_, observer));
  const ArenaScope scope(context.host_arena());
  Unpatchify(transformer_.config(), ops::Download(context, patches_), latents);
  MRT_RETURN_IF_ERROR(CheckStopped(context));
  SaveClean(latents);
  chunk.Leave();
  return {};
}

Status Rollout::Finish(ops::Context& context, const CrossKv& text) {
  if (cache_.chunk_frames() == 0) return {};
  ChunkInCache chunk(cache_);
  MRT_RETURN_IF_ERROR(CleanPass(context, patches_, text));
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
    const ArenaScope patches_scope(context.arena());
    const TensorView patches = NewPatches(context);
    PatchifyTo(context, transformer_.config(), latents.Slice(0, frames), patches);
    const Status status = CleanPass(context, patches, text);
    cache_.EndRevisit();
    MRT_RETURN_IF_ERROR(status);
  }
  return {};
}

/// Of the chunk in the cache.
Shape Rollout::PatchesShape() const {
  const WanConfig& config = transformer_.config();
  return {cache_.chunk_frames() * cache_.rows() * cache_.cols(),
          config.out_dim * config.patch_elements()};
}

Status Rollout::Denoise(ops::Context& context, const Schedule& schedule, const CrossKv& text,
                        NoiseSource noise, const TensorView& patches,
                        const FlowObserver* observer) {
  const int64_t first_frame = cache_.chunk_position(), frames = cache_.chunk_frames();
  const ArenaScope scope(context.arena()), host_scope(context.host_arena());
  const TensorView latents =
      context.HostFloat({frames, channels(), options_.latent_rows, options_.latent_cols});
  const TensorView flow = NewPatches(context), fresh = NewPatches(context);
  const auto make_noise = [&](int step, const TensorView& to) {
    noise(first_frame, step, latents);
    PatchifyTo(context, transformer_.config(), latents, to);
  };
  make_noise(0, patches);
  const std::vector<DenoisingStep>& steps = schedule.steps();
  for (size_t s = 0; s < steps.size(); ++s) {
    const int step = static_cast<int>(s);
    const Span span(context.span_log(), "denoising step", SpanKind::kPart, {}, step);
    if (step > 0) {
      make_noise(step, fresh);
      AddNoise(context, patches, fresh, steps[s].sigma);
    }
    timesteps_.assign(static_cast<size_t>(frames), steps[s].timestep);
    transformer_.ForwardPatches(context, patches, timesteps_, text, cache_,
                                options_.attention.Step(step), flow);
    MRT_RETURN_IF_ERROR(CheckStopped(context));
    if (observer != nullptr) {
      Unpatchify(transformer_.config(), ops::Download(context, flow), latents);
      (*observer)(first_frame, step, latents);
    }
    PredictClean(context, patches, flow, steps[s].sigma);
  }
  return {};
}

Status Rollout::CleanPass(ops::Context& context, const ConstTensorView& patches,
                          const CrossKv& text) {
  if (cache_.chunk_is_final()) return {};  // nobody would see what it leaves
  const Span span(context.span_log(), "clean pass", SpanKind::kPart);
  timesteps_.assign(static_cast<size_t>(cache_.chunk_frames()), 0.0f);
  transformer_.ForwardPatches(context, patches, timesteps_, text, cache_,
                              options_.attention.CleanPass(), /*flow=*/{});
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
