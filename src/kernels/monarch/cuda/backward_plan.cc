#include "kernels/monarch/cuda/backward_plan.h"

#include <algorithm>

namespace mrt {

Result<MonarchBackwardCudaPlan> PlanMonarchBackwardCuda(const MonarchShape& s,
                                                        const GpuLimits& gpu) {
  constexpr int kColumnsMax = 80;
  if (s.iterations != 1)
    return Unavailable("[monarch] the CUDA backward pass takes one refinement step only");
  if (s.storage == StorageType::kF16)
    return Unavailable("[monarch] the CUDA backward pass takes bf16 only");
  if (s.b2() > kColumnsMax)
    return Unavailable("[monarch] the CUDA backward pass takes tiles of at most 80 columns");
  MonarchBackwardCudaPlan plan;
  MRT_ASSIGN_OR_RETURN(plan.forward, PlanMonarchPasses(s, gpu));
  MonarchCudaPlan& forward = plan.forward;
  // All query tiles of a head add to the same gradients of keys and values.
  forward.pass_pairs = std::max(1, forward.pass_pairs / forward.groups * forward.groups);
  // More would leave registers to nobody.
  forward.warpgroups = std::min(forward.warpgroups, 2);
  FinishMonarchCudaPlan(s, forward);
  forward.blocks = gpu.multiprocessors;  // of BackColumns
  forward.stat_rows = (s.b1() + 3) / 4 * 4;
  const int64_t stat_bytes =
      int64_t{forward.pass_pairs} * forward.group_tiles * s.b2() * forward.stat_rows * 4;
  plan.log_sums_begin = forward.scratch_bytes;
  plan.deltas_begin = plan.log_sums_begin + stat_bytes;
  plan.scratch_bytes = plan.deltas_begin + stat_bytes;
  const int columns = forward.query_tiles * s.b2();
  plan.runs = forward.groups == 1 && columns >= kBackRunColumnsMin && columns <= kBackRunColumns &&
              s.b2() <= kBackRunKeys;
  return plan;
}

}  // namespace mrt
