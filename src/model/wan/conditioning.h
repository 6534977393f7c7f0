// What a forward is conditioned on beside the text: where its tokens are and how noisy they are.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "model/wan/rope.h"
#include "model/wan/time_embedding.h"
#include "ops/context.h"

namespace mrt {

/// The vectors of a forward's timesteps, F32 [groups, dim] and [6, groups, dim]: of TimeEmbedding,
/// but for the operations of the context.
struct TimeVectors {
  TensorView embedding, projection;
};

/// From the context's arenas: they last as long as what is in both.
TimeVectors MakeTimeVectors(ops::Context& context, const TimeEmbedding& embedding, int64_t dim,
                            std::span<const float> timesteps);

/// Keeps what the forwards of a stream would compute again: the steps of a chunk share its rotary
/// table, and all chunks the vectors of the timesteps. For one transformer and contexts of one
/// memory; what it returns is valid until the next call.
class ConditioningMemo {
 public:
  /// MakeRopeTable.
  RopeTable Rope(ops::Context& context, int64_t head_dim, int64_t first_frame, int64_t frames,
                 int64_t rows, int64_t cols);
  /// MakeTimeVectors of one timestep.
  TimeVectors Time(ops::Context& context, const TimeEmbedding& embedding, int64_t dim,
                   float timestep);

 private:
  struct Step {
    float timestep = 0;
    Tensor embedding, projection;
    TimeVectors vectors() const { return {embedding, projection}; }
  };

  int64_t first_frame_ = -1;  // of the table; -1: there is none
  Tensor cos_, sin_;
  std::vector<Step> steps_;
  size_t oldest_ = 0;  // of them, once there are as many as are kept
};

}  // namespace mrt
