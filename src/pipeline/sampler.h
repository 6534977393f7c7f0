// The few-step flow-matching schedule of the generation loop.
//
//   sigma table   u = 1 - n/1000, n = 0..999;  sigma = shift u / (1 + (shift - 1) u)
//   timestep      1000 sigma
//   a step S      stands for table[1000 - S]; step 0 for timestep 0 with the last entry's sigma
//   velocity v    x0 = x - sigma v;  x' = (1 - sigma') x0 + sigma' noise
#pragma once

#include <string>
#include <vector>

#include "base/status.h"
#include "ops/context.h"
#include "tensor/tensor.h"

namespace mrt {

struct DenoisingStep {
  float timestep = 0;  // 0..1000, what the transformer is told
  float sigma = 0;     // 0..1, the share of noise
};

class Schedule {
 public:
  /// `steps` strictly decreasing, each 0..1000; shift > 0. InvalidArgument otherwise.
  static Result<Schedule> Make(const std::vector<int>& steps, double shift);

  const std::vector<DenoisingStep>& steps() const { return steps_; }

 private:
  std::vector<DenoisingStep> steps_;
};

/// x = x - sigma * velocity. Both F32 [rows, width] where the context computes; the velocity is
/// scaled in its place.
void PredictClean(ops::Context& context, const TensorView& x, const TensorView& velocity,
                  float sigma);

/// x = (1 - sigma) * x + sigma * noise. Likewise; the noise is scaled in its place.
void AddNoise(ops::Context& context, const TensorView& x, const TensorView& noise, float sigma);

}  // namespace mrt
