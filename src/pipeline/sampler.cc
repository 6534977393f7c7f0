#include "pipeline/sampler.h"

#include <algorithm>
#include <cmath>

#include "ops/rowwise.h"
#include "ops/transfer.h"

namespace mrt {
namespace {

constexpr int kTableSize = 1000;

double TableSigma(int index, double shift) {
  index = std::min(index, kTableSize - 1);  // step 0 is not in the table: the nearest entry
  const double u = 1.0 - static_cast<double>(index) / kTableSize;
  return shift * u / (1 + (shift - 1) * u);
}

// x *= factor
void Scale(ops::Context& context, const TensorView& x, float factor) {
  const ArenaScope scope(context.arena()), host_scope(context.host_arena());
  const Shape row{x.shape.back()};
  const TensorView factors = context.HostFloat(row), zeros = context.HostFloat(row);
  std::fill_n(factors.as<float>(), row[0], factor);
  std::fill_n(zeros.as<float>(), row[0], 0.0f);
  ops::ScaleBias(context, x, ops::Upload(context, factors), ops::Upload(context, zeros), x,
                 ops::Output::kFloat);
}

}  // namespace

Result<Schedule> Schedule::Make(const std::vector<int>& steps, double shift) {
  if (steps.empty()) return InvalidArgument("[steps] got none, need at least one denoising step");
  if (!(shift > 0) || !std::isfinite(shift))
    return InvalidArgument("[steps] timestep shift is " + std::to_string(shift) +
                           ", need a positive number");
  Schedule schedule;
  for (size_t i = 0; i < steps.size(); ++i) {
    if (steps[i] < 0 || steps[i] > kTableSize)
      return InvalidArgument("[steps] got " + std::to_string(steps[i]) + ", need 0..1000");
    if (i > 0 && steps[i] >= steps[i - 1])
      return InvalidArgument("[steps] got " + std::to_string(steps[i]) + " after " +
                             std::to_string(steps[i - 1]) + ", need strictly decreasing steps");
    const double sigma = TableSigma(kTableSize - steps[i], shift);
    const double timestep = steps[i] == 0 ? 0 : 1000 * sigma;
    schedule.steps_.push_back({static_cast<float>(timestep), static_cast<float>(sigma)});
  }
  return schedule;
}

void PredictClean(ops::Context& context, const TensorView& x, const TensorView& velocity,
                  float sigma) {
  Scale(context, velocity, -sigma);
  ops::Add(context, x, velocity, /*relu=*/false, ops::Output::kFloat);
}

void AddNoise(ops::Context& context, const TensorView& x, const TensorView& noise, float sigma) {
  Scale(context, x, 1 - sigma);
  Scale(context, noise, sigma);
  ops::Add(context, x, noise, /*relu=*/false, ops::Output::kFloat);
}

}  // namespace mrt
