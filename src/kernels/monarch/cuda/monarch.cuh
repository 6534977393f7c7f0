// The kernel: every block takes tasks from the queue until there is none.
#pragma once

#include "kernels/monarch/cuda/across.cuh"
#include "kernels/monarch/cuda/average.cuh"

namespace mrt {

template <int kHeadDim, int kScoreTiles, int kAverageRowTiles, int kAcrossRowTiles>
__global__ void __launch_bounds__(kMonarchCudaThreads, 2)
    MonarchKernel(const __grid_constant__ MonarchKernelArgs args) {
  using Average = AverageTask<kHeadDim, kScoreTiles, kAverageRowTiles>;
  using Across = AcrossTask<kHeadDim, kAcrossRowTiles>;
  extern __shared__ __align__(1024) char smem[];
  __shared__ MonarchTask task;
  const uint32_t tickets = static_cast<uint32_t>(args.plan.tickets(args.heads));

  uint32_t ticket = blockIdx.x;  // of thread 0, which decides for all
  while (true) {
    if (threadIdx.x == 0) {
      task = ticket < tickets ? TaskOfTicket(args, ticket) : MonarchTask{};
      WaitBefore(args, task);
    }
    __syncthreads();
    if (task.kind == TaskKind::kAverage) {
      Average(args, *reinterpret_cast<typename Average::Smem*>(smem), task).Run();
    } else if (task.kind == TaskKind::kAcross) {
      Across(args, *reinterpret_cast<typename Across::Smem*>(smem), task).Run();
    } else if (task.kind == TaskKind::kStop) {
      return;
    }
    __syncthreads();
    if (threadIdx.x == 0) {
      SayDone(args, task);
      // Not earlier: tickets in hand but not begun would keep more slices alive at a time.
      ticket = gridDim.x + atomicAdd(reinterpret_cast<uint32_t*>(args.counters), 1u);
    }
  }
}

template <int kHeadDim, int kScoreTiles, int kAverageRowTiles, int kAcrossRowTiles>
cudaError_t LaunchMonarch(const MonarchKernelArgs& args, cudaStream_t stream) {
  const auto kernel = MonarchKernel<kHeadDim, kScoreTiles, kAverageRowTiles, kAcrossRowTiles>;
  const cudaError_t error = cudaFuncSetAttribute(
      kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, args.plan.smem_bytes);
  if (error != cudaSuccess) return error;
  kernel<<<args.plan.blocks, kMonarchCudaThreads, args.plan.smem_bytes, stream>>>(args);
  return cudaGetLastError();
}

}  // namespace mrt
