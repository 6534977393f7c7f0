// How the CUDA backward pass cuts one call: as plan.h, from a pure function of the shape and the
// GPU's limits.
#pragma once

#include <cstdint>

#include "base/status.h"
#include "kernels/monarch/cuda/plan.h"
#include "kernels/monarch/monarch.h"

namespace mrt {

// BackRuns takes one group for each head, of at most so many columns, and at most so many keys of a
// key row. It is the faster one if its third warpgroup of 64 columns has work.
constexpr int kBackRunColumns = 160, kBackRunKeys = 56, kBackRunColumnsMin = 129;

struct MonarchBackwardCudaPlan {
  MonarchCudaPlan forward;  // of the passes, for one launch of all pairs of some heads, or of one
  int64_t log_sums_begin = 0;  // bytes from the start of scratch
  int64_t deltas_begin = 0;
  int64_t scratch_bytes = 0;
  bool runs = false;  // gradients of queries, keys and values are made by BackRuns
};

/// The plan of a valid shape; Unavailable with a sentence if there is no kernel for it.
Result<MonarchBackwardCudaPlan> PlanMonarchBackwardCuda(const MonarchShape& shape,
                                                        const GpuLimits& gpu);

}  // namespace mrt
