// The resident kernel: all blocks are on the GPU at once, three per multiprocessor. The first
// blocks are consumers, which keep their output in registers over all slices (resident_across.cuh);
// the others are producers, which take average tasks in order from a queue. A slice may then be
// small, so that little is alive and the means stay in L2.
//
// No deadlock: a producer waits only for slices at least `ring` positions before, and has said that
// its task before is done; a consumer waits for slices a few positions ahead of those it has read
// (MonarchCudaPlan::RingMin).
#pragma once

#include "kernels/monarch/cuda/average.cuh"
#include "kernels/monarch/cuda/resident_across.cuh"

namespace mrt {

template <int kIndex>
struct ResidentProducer {
  static constexpr MonarchResidentKernel kKernel = kMonarchResidentKernels[kIndex];
  using Average = AverageTask<kKernel.head_dim, kKernel.score_tiles, kKernel.row_tiles,
                              /*kStages=*/1, kKernel.query_rows>;
  // Of the task at hand and of the next, in turn.
  struct Queue {
    MonarchTask tasks[2];
    bool ready[2];  // nobody reads any more what the task overwrites
  };
  // Thread 0 says what is done, this one finds what comes next.
  static constexpr int kQueueThread = 32;

  const MonarchKernelArgs& args;
  typename Average::Smem& smem;
  Queue& queue;
  uint32_t ticket = 0;     // of the queue thread
  int read = 0;            // units that have read what the next task overwrites
  int done_position = -1;  // of thread 0: of the task that is done but not yet said so

  __device__ void Run() {
    const int producers = gridDim.x - args.plan.consumers;
    if (threadIdx.x == kQueueThread) {
      ticket = blockIdx.x - args.plan.consumers;
      FindNext(0);
      queue.ready[0] = read >= args.plan.across_tasks;
    }
    __syncthreads();
    for (int now = 0; queue.tasks[now].kind != TaskKind::kStop; now ^= 1) {
      const MonarchTask& task = queue.tasks[now];
      if (!queue.ready[now]) {
        if (threadIdx.x == 0) {
          SayDone();  // before any wait
          WaitFor(AcrossDone(args, task.position - args.plan.ring), args.plan.across_tasks);
        }
        __syncthreads();
      }
      Average average(args, smem, task);
      if (average.tiles > 0) {
        average.LoadQueries();
        average.LoadKeys(0);
      }
      if (threadIdx.x == 0) SayDone();
      const auto find_next = [&](int step) {
        if (threadIdx.x == kQueueThread) {
          if (step == 0) {
            ticket = producers + atomicAdd(reinterpret_cast<uint32_t*>(args.counters), 1u);
          } else {
            FindNext(now ^ 1);
          }
        }
        __syncwarp();
      };
      if (average.tiles > 0) {
        average.RunTileWgmma(0, find_next);
      } else {
        find_next(0);
        find_next(1);
      }
      if (threadIdx.x == 0) done_position = task.position;
      if (threadIdx.x == kQueueThread) queue.ready[now ^ 1] = read >= args.plan.across_tasks;
      __syncthreads();
    }
    if (threadIdx.x == 0) SayDone();
  }

  __device__ void SayDone() {
    if (done_position >= 0) ptx::AddRelease(AverageDone(args, done_position), 1);
    done_position = -1;
  }

  // The task of `ticket`, and how far the slice that it overwrites has been read.
  __device__ void FindNext(int to) {
    const MonarchCudaPlan& plan = args.plan;
    MonarchTask task;
    task.position = static_cast<int>(ticket / static_cast<uint32_t>(plan.average_tasks));
    task.index = static_cast<int>(ticket) - task.position * plan.average_tasks;
    read = plan.across_tasks;
    if (task.position < plan.positions(args.heads)) {
      task.kind = TaskKind::kAverage;
      FindSlice(args, task);
      if (task.position >= plan.ring)
        read = ptx::LoadAcquire(AcrossDone(args, task.position - plan.ring));
    }
    queue.tasks[to] = task;
  }
};

template <int kIndex>
__global__ void __launch_bounds__(kMonarchCudaThreads, kResidentBlocks)
    ResidentKernel(const __grid_constant__ MonarchKernelArgs args) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  using Producer = ResidentProducer<kIndex>;
  using Across = ResidentAcross<Producer::kKernel.head_dim, Producer::kKernel.unit_warps>;
  static_assert(sizeof(typename Producer::Average::Smem) == Producer::kKernel.AverageSmemBytes());
  static_assert(sizeof(typename Across::Smem) == Producer::kKernel.AcrossSmemBytes());
  extern __shared__ __align__(1024) char smem[];
  __shared__ typename Producer::Queue queue;
  if (static_cast<int>(blockIdx.x) < args.plan.consumers) {
    Across(args, *reinterpret_cast<typename Across::Smem*>(smem)).Run();
  } else {
    Producer{args, *reinterpret_cast<typename Producer::Average::Smem*>(smem), queue}.Run();
  }
#else
  __trap();  // plans for other GPUs do not use it
#endif
}

template <int kIndex>
cudaError_t LaunchResident(const MonarchKernelArgs& args, cudaStream_t stream) {
  const auto kernel = ResidentKernel<kIndex>;
  cudaError_t error = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                           args.plan.smem_bytes);
  if (error != cudaSuccess) return error;
  error = cudaFuncSetAttribute(kernel, cudaFuncAttributePreferredSharedMemoryCarveout,
                               cudaSharedmemCarveoutMaxShared);
  if (error != cudaSuccess) return error;
  // Cooperative: the launch fails where not all blocks would be resident.
  void* parameters[] = {const_cast<MonarchKernelArgs*>(&args)};
  error = cudaLaunchCooperativeKernel(reinterpret_cast<const void*>(kernel), dim3(args.plan.blocks),
                                      dim3(kMonarchCudaThreads), parameters,
                                      static_cast<size_t>(args.plan.smem_bytes), stream);
  if (error != cudaSuccess) return error;
  return cudaGetLastError();
}

}  // namespace mrt
