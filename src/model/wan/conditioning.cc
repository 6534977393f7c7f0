#include "model/wan/conditioning.h"

#include <utility>

#include "ops/transfer.h"

namespace mrt {
namespace {

constexpr size_t kStepsKept = 16;  // 43 KB each at 1.3 B; few-step models have five

}  // namespace

TimeVectors MakeTimeVectors(ops::Context& context, const TimeEmbedding& embedding, int64_t dim,
                            std::span<const float> timesteps) {
  const auto groups = static_cast<int64_t>(timesteps.size());
  const TimeVectors host{context.HostFloat({groups, dim}), context.HostFloat({6, groups, dim})};
  embedding.Run(context, timesteps, host.embedding, host.projection);
  return {ops::Upload(context, host.embedding), ops::Upload(context, host.projection)};
}

RopeTable ConditioningMemo::Rope(ops::Context& context, int64_t head_dim, int64_t first_frame,
                                 int64_t frames, int64_t rows, int64_t cols) {
  const Shape shape{frames * rows * cols, head_dim / 2};
  const bool fits = !cos_.empty() && cos_.shape() == shape;
  if (fits && first_frame_ == first_frame) return {cos_, sin_};
  const ArenaScope scope(context.arena()), host_scope(context.host_arena());
  const RopeTable made = MakeRopeTable(context, head_dim, first_frame, frames, rows, cols);
  first_frame_ = -1;
  if (!fits) {
    cos_ = Tensor(DType::kF32, shape, context.memory());
    sin_ = Tensor(DType::kF32, shape, context.memory());
  }
  ops::Copy(context, made.cos, cos_);
  ops::Copy(context, made.sin, sin_);
  first_frame_ = first_frame;
  return {cos_, sin_};
}

TimeVectors ConditioningMemo::Time(ops::Context& context, const TimeEmbedding& embedding,
                                   int64_t dim, float timestep) {
  for (const Step& step : steps_)
    if (step.timestep == timestep) return step.vectors();
  const ArenaScope scope(context.arena()), host_scope(context.host_arena());
  const TimeVectors made = MakeTimeVectors(context, embedding, dim, {&timestep, 1});
  Step step{.timestep = timestep,
            .embedding = Tensor(DType::kF32, made.embedding.shape, context.memory()),
            .projection = Tensor(DType::kF32, made.projection.shape, context.memory())};
  ops::Copy(context, made.embedding, step.embedding);
  ops::Copy(context, made.projection, step.projection);
  if (steps_.size() < kStepsKept) {
    steps_.push_back(std::move(step));
    return steps_.back().vectors();
  }
  steps_[oldest_] = std::move(step);
  const TimeVectors vectors = steps_[oldest_].vectors();
  oldest_ = (oldest_ + 1) % kStepsKept;
  return vectors;
}

}  // namespace mrt
