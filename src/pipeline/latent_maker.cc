#include "pipeline/latent_maker.h"

#include <chrono>
#include <cstring>
#include <utility>

#include "pipeline/noise.h"

namespace mrt {
namespace {

using Clock = std::chrono::steady_clock;

double SecondsSince(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

}  // namespace

LatentMaker::LatentMaker(ops::Context& context, const WanTransformer& transformer,
                         const VideoPlan& plan, Schedule schedule, uint64_t seed, Tensor initial)
    : context_(context),
      plan_(plan),
      schedule_(std::move(schedule)),
      seed_(seed),
      initial_(std::move(initial)),
      rollout_(transformer, {.attention = plan.attention,
                             .window_frames = plan.window_frames,
                             .kv_dtype = plan.kv_dtype,
                             .sink_frames = plan.sink_frames,
                             .final_frames = plan.final_frames(),
                             .latent_rows = plan.latent_rows,
                             .latent_cols = plan.latent_cols,
                             .memory = context.memory()}) {
  first_noise_ = NewChunk().buffer;
}

LatentChunk LatentMaker::NewChunk() const {
  LatentChunk chunk;
  chunk.buffer = Tensor(DType::kF32, {plan_.chunk_frames(), rollout_.channels(), plan_.latent_rows,
                                      plan_.latent_cols});
  return chunk;
}

void LatentMaker::Prepare() {
  PrepareNoise(plan_.initial_latents);
  if (plan_.initial_latents == 0) rollout_.Prepare(context_, schedule_, NextSpan().frames);
}

Status LatentMaker::Make(LatentChunk& chunk) {
  MRT_RETURN_IF_ERROR(Finish());
  const Clock::time_point start = Clock::now();
  const Span span(context_.span_log(), "transformer", SpanKind::kStage, {}, chunks_++);
  if (std::exchange(recache_, false))
    MRT_RETURN_IF_ERROR(rollout_.Recache(context_, text_, kChunkLatentFrames, plan_.single_first));
  chunk.span = NextSpan();
  chunk.prompt = prompt_;
  chunk.given = chunk.span.first < plan_.initial_latents;
  const TensorView latents = chunk.latents();
  if (chunk.given) {
    const TensorView from =
        initial_.view().Slice(chunk.span.first, chunk.span.first + chunk.span.frames);
    std::memcpy(latents.data, from.data, static_cast<size_t>(from.bytes()));
    MRT_RETURN_IF_ERROR(rollout_.Remember(context_, latents, text_));
  } else {
    const auto noise = [this](int64_t first_frame, int step, const TensorView& out) {
      if (step > 0 || first_frame != first_noise_position_)
        return FillNoise(seed_, first_frame, step, out);
      std::memcpy(out.data, first_noise_.view().data, static_cast<size_t>(out.bytes()));
    };
    MRT_RETURN_IF_ERROR(rollout_.Next(context_, schedule_, text_, noise, latents));
  }
  finished_ = false;
  chunk.transformer_s = SecondsSince(start) + std::exchange(finish_s_, 0);
  return {};
}

Status LatentMaker::Finish() {
  if (std::exchange(finished_, true)) return {};
  const Clock::time_point start = Clock::now();
  const Span span(context_.span_log(), "transformer", SpanKind::kStage, {}, chunks_ - 1);
  MRT_RETURN_IF_ERROR(rollout_.Finish(context_, text_));
  PrepareNoise(rollout_.frames_done());  // while a device is at work
  finish_s_ = SecondsSince(start);
  return {};
}

void LatentMaker::PrepareNoise(int64_t position) {
  if (position >= plan_.latents) return;
  const ChunkSpan next = ChunkAt(position, kChunkLatentFrames, plan_.single_first);
  FillNoise(seed_, position, /*step=*/0, first_noise_.view().Slice(0, next.frames));
  first_noise_position_ = position;
}

void LatentMaker::SetText(CrossKv text, int prompt, bool recache) {
  text_ = std::move(text);
  prompt_ = prompt;
  recache_ = recache_ || recache;
}

}  // namespace mrt
