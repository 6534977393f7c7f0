// Monarch attention in passes: each is a kernel of its own over the columns of a few (head, group)
// pairs and all keys, and leaves its means in global memory for the next one (pass_layout.cuh).
//
//   average                            kbar, vbar, c
//   sums, refine, average (refined)    for each step after the first
//   across                             the output
//
// Nothing waits within a kernel. Tall tiles have few columns for what they compute, so their means
// are a small part of the traffic: there this is faster than the ring, whose running output leaves
// the registers after every slice.
#pragma once

#include "kernels/monarch/cuda/average.cuh"

namespace mrt {

template <int kIndex, AverageKind kKind, StorageType kType>
__global__ void __launch_bounds__(kMonarchCudaThreads, kMonarchPassKernels[kIndex].blocks)
    PassAverageKernel(const __grid_constant__ MonarchKernelArgs args) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  constexpr MonarchPassKernel kKernel = kMonarchPassKernels[kIndex];
  using Average = AverageTask<kKernel.head_dim, kKernel.score_tiles, kKernel.row_tiles,
                              /*kStages=*/1, kKernel.query_rows, kKind, kType>;
  static_assert(sizeof(typename Average::Smem) == kKernel.AverageSmemBytes());
  extern __shared__ __align__(1024) char smem[];
  const MonarchCudaPlan& plan = args.plan;
  FollowGridBefore();
  MonarchTask task;
  task.ring_slot = blockIdx.x / plan.average_tasks;
  task.index = blockIdx.x - task.ring_slot * plan.average_tasks;
  const int pair = args.first_pair + task.ring_slot;
  task.head = pair / plan.groups;
  task.group_begin = (pair - task.head * plan.groups) * plan.group_tiles;
  task.group_tiles = min(plan.group_tiles, plan.query_tiles - task.group_begin);
  task.tiles_end = plan.key_tiles;
  Average(args, *reinterpret_cast<typename Average::Smem*>(smem), task).Run();
#else
  __trap();  // plans for other GPUs do not use it
#endif
}

template <int kIndex, AverageKind kKind, StorageType kType>
cudaError_t LaunchPassAverage(const MonarchKernelArgs& args, int pairs, cudaStream_t stream) {
  return LaunchPass(
      PassAverageKernel<kIndex, kKind, kType>, pairs * args.plan.average_tasks, kMonarchCudaThreads,
      kMonarchPassKernels[kIndex].AverageSmemBytes(), args, stream,
      args.plan.dependent != 0 && (kKind == AverageKind::kPassRefined || args.first_pair > 0));
}

}  // namespace mrt
