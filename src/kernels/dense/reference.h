// Dense attention as dense.h defines it, in doubles: what every fast path is tested against.
#pragma once

#include <span>
#include <vector>

#include "kernels/common/rounding.h"
#include "kernels/dense/dense.h"

namespace mrt {

/// q [tokens_q, heads, head_dim], k and v [frames_kv * tokens_per_frame, heads, head_dim], bias
/// [heads, tokens_q, frames_kv * tokens_per_frame] or empty -> out, of q's shape. The shape must be
/// valid; its storage is not looked at.
std::vector<double> DenseReference(const DenseShape& shape, std::span<const double> q,
                                   std::span<const double> k, std::span<const double> v,
                                   std::span<const float> bias,
                                   Rounding rounding = Rounding::kNone);

/// The last row of the dispatch table: the same on stored tensors. Allocates.
void RunDenseReference(const DenseArgs& args);

}  // namespace mrt
