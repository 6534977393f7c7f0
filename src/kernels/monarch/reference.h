// Monarch attention as monarch.h defines it, in doubles, one loop per sum: what every fast path is
// tested against. Slow, and its memory grows with frames_kv.
#pragma once

#include <span>
#include <vector>

#include "kernels/common/rounding.h"
#include "kernels/monarch/monarch.h"

namespace mrt {

/// q [frames_q, rows, cols, heads, head_dim], k and v [frames_kv, rows, cols, heads, head_dim] ->
/// out, of q's shape. The shape must be valid; its storage is not looked at.
std::vector<double> MonarchReference(const MonarchShape& shape, std::span<const double> q,
                                     std::span<const double> k, std::span<const double> v,
                                     Rounding rounding = Rounding::kNone);

struct MonarchGradients {
  std::vector<double> q, k, v;  // of the shapes of q, k and v
};

/// The derivatives of sum(grad_out * out), through all refinement steps; grad_out has out's shape.
MonarchGradients MonarchReferenceBackward(const MonarchShape& shape, std::span<const double> q,
                                          std::span<const double> k, std::span<const double> v,
                                          std::span<const double> grad_out);

/// The last rows of the dispatch tables: the same on stored tensors. They allocate.
void RunMonarchReference(const MonarchArgs& args);
void RunMonarchReferenceBackward(const MonarchBackwardArgs& args);

}  // namespace mrt
