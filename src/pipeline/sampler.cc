#include "pipeline/sampler.h"

#include <algorithm>
#include <cmath>

namespace mrt {
namespace {

constexpr int kTableSize = 1000;

double TableSigma(int index, double shift) {
  index = std::min(index, kTableSize - 1);  // step 0 is not in the table: the nearest entry
  const double u = 1.0 - static_cast<double>(index) / kTableSize;
  return shift * u / (1 + (shift - 1) * u);
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

void PredictClean(const ConstTensorView& x, const ConstTensorView& velocity, float sigma,
                  const TensorView& x0) {
  MRT_CHECK(x.shape == velocity.shape && x.shape == x0.shape);
  const float *from = x.as<float>(), *v = velocity.as<float>();
  float* to = x0.as<float>();
  for (int64_t i = 0; i < x.shape.elements(); ++i) to[i] = from[i] - sigma * v[i];
}

void AddNoise(const TensorView& x, const ConstTensorView& noise, float sigma) {
  MRT_CHECK(x.shape == noise.shape);
  float* to = x.as<float>();
  const float* n = noise.as<float>();
  for (int64_t i = 0; i < x.shape.elements(); ++i) to[i] = (1 - sigma) * to[i] + sigma * n[i];
}

}  // namespace mrt
