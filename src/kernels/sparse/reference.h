// Sparse attention as sparse.h defines it, in doubles: what every fast path is tested against.
#pragma once

#include <span>
#include <vector>

#include "kernels/common/rounding.h"
#include "kernels/sparse/sparse.h"

namespace mrt {

/// q [frames_q, rows, cols, heads, head_dim], k and v the same with frames_kv -> out, of q's shape.
/// The shape must be valid; its storage is not looked at. Only the output is ever rounded.
std::vector<double> SparseReference(const SparseShape& shape, std::span<const double> q,
                                    std::span<const double> k, std::span<const double> v,
                                    Rounding rounding = Rounding::kNone);

/// The last row of the dispatch table: the same on stored tensors. Allocates.
void RunSparseReference(const SparseArgs& args);

}  // namespace mrt
