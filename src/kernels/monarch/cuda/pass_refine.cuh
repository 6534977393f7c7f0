// The pass between two refinement steps: what the next step asks each key row with.
//
//   L[i,n] = 2^(q[i] . kbar[n] - c[n] - log sum[i])   count[n] = sum_i L   qbar[n] = sum_i L q[i]
//
// and qbar * min(1 / (count + 1e-6), 1e4) takes the place of kbar. A block owns a column.
#pragma once

#include <algorithm>

#include "kernels/common/cuda/bulk.cuh"
#include "kernels/common/cuda/wgmma.cuh"
#include "kernels/monarch/cuda/pass_across.cuh"
#include "kernels/monarch/cuda/tile.cuh"

namespace mrt {

template <int kHeadDim, StorageType kType>
struct PassRefine {
  // L is far below 1 where there are many keys: it is multiplied by 2^15 where an f16 holds it.
  static constexpr float kShift = kType == StorageType::kF16 ? 15 : 0;
  static constexpr int kPanels = kHeadDim / 64;
  static constexpr int kChunks = kHeadDim / 8;  // of 16 bytes
  static constexpr int kStages = 2;
  static constexpr int kStepRows = 32;  // query rows at a time
  static constexpr int kRowsMax = 160;  // in shared memory; taller tiles are loaded for every item

  struct Fixed {
    alignas(1024) Bits16 kbar[kStages][kPanels][kPassKeys][64];
    alignas(16) float entropies[kStages][kPassKeys];
    float log_sums[kRowsMax];
    uint64_t full[kStages];
  };

  // Query rows of a tile in shared memory.
  __host__ __device__ static int RowsHeld(int b1) {
    return b1 > kRowsMax ? kRowsMax : (b1 + kStepRows - 1) / kStepRows * kStepRows;
  }
  static int SmemBytes(int b1) {
    return int{sizeof(Fixed)} + 2 * RowsHeld(b1) * kHeadDim * int{sizeof(Bits16)};
  }

  const MonarchKernelArgs& args;
  Fixed& smem;
  Bits16* natural;   // [panel, row, 64 channels], swizzled: queries as they are
  Bits16* permuted;  // the same with the channels in the order of the means
  PassPlace place;
  int keys = 0, items = 0, rows_held = 0;
  int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  float y[kPanels][8][4];  // qbar of keys g and g + 8 of this warp's 16
  float count[2];

  // Of a column of the launch.
  __device__ PassRefine(const MonarchKernelArgs& a, char* shared, int column)
      : args(a), smem(*reinterpret_cast<Fixed*>(shared)) {
    place = FindPassColumn(args, column);
    if (place.query_tile < args.plan.query_tiles)
      keys = VisibleTiles(args, place.query_tile) * args.b1;
    items = (keys + kPassKeys - 1) / kPassKeys;
    rows_held = RowsHeld(args.b1);
    natural = reinterpret_cast<Bits16*>(shared + sizeof(Fixed));
    permuted = natural + rows_held * kHeadDim;
  }

  __device__ void Run() {
    if (items == 0) return;
    if (threadIdx.x == 0) {
      for (uint64_t& barrier : smem.full) ptx::BarrierInit(&barrier, 1);
      ptx::BarrierInitFence();
      for (int n = 0; n < kStages; ++n) LoadItem(n);
    }
    const bool all_held = args.b1 <= rows_held;
    if (all_held) LoadQueries(0);
    __syncthreads();
    for (int item = 0; item < items; ++item) {
      ptx::BarrierWait(&smem.full[item % kStages], item / kStages % 2);
      Start();
      for (int begin = 0; begin < args.b1; begin += rows_held) {
        if (!all_held) {
          __syncthreads();  // nobody reads those before
          LoadQueries(begin);
          __syncthreads();
        }
        AddRows(item % kStages);
      }
      Store(item);
      __syncthreads();
      if (threadIdx.x == 0) LoadItem(item + kStages);
    }
  }

  __device__ void LoadItem(int item) {
    if (item >= items) return;
    const int slot = item % kStages, key = item * kPassKeys;
    constexpr int kMeansBytes = kPassKeys * kHeadDim * 2, kEntropyBytes = kPassKeys * 4;
    ptx::BarrierArriveExpect(&smem.full[slot], kMeansBytes + kEntropyBytes);
    ptx::BulkCopy(smem.kbar[slot], PassHalf<kHeadDim>(args, place.column, key, 0), kMeansBytes,
                  &smem.full[slot]);
    ptx::BulkCopy(smem.entropies[slot], PassEntropies(args, place.column) + key, kEntropyBytes,
                  &smem.full[slot]);
  }

  // Rows `begin` to begin + rows_held of the query tile, in both orders of channels; those past the
  // end are zero and weigh nothing.
  __device__ void LoadQueries(int begin) {
    for (int n = threadIdx.x; n < rows_held * kChunks; n += kMonarchCudaThreads) {
      const int row = n / kChunks, chunk = n % kChunks, i = begin + row;
      uint4 x = {};
      if (i < args.b1) {
        const int token = QueryToken(args, place.query_tile, i, place.j);
        x = __ldg(reinterpret_cast<const uint4*>(args.q +
                                                 TokenOffset(args, kHeadDim, token, place.head)) +
                  chunk);
      }
      StoreBothOrders(x, row, chunk, rows_held, natural, permuted);
    }
    for (int row = threadIdx.x; row < rows_held; row += kMonarchCudaThreads)
      smem.log_sums[row] =
          begin + row < args.b1 ? PassLogSums(args, place.column)[begin + row] - kShift : INFINITY;
    ptx::FenceSharedForWgmma();
  }

  __device__ void Start() {
#pragma unroll
    for (auto& panel : y)
#pragma unroll
      for (auto& tile : panel)
#pragma unroll
        for (float& sum : tile) sum = 0;
    count[0] = count[1] = 0;
  }

  // The rows in shared memory: z [n, i] = kbar . q, then y [n, d] += L^T . q.
  __device__ void AddRows(int slot) {
    const float c[2] = {smem.entropies[slot][16 * warp + lane / 4],
                        smem.entropies[slot][16 * warp + lane / 4 + 8]};
    for (int row = 0; row < rows_held; row += kStepRows) {
      float z[kStepRows / 8][4];
      ptx::WgmmaFence();
#pragma unroll
      for (int d = 0; d < kHeadDim; d += 16)
        ptx::Wgmma<kType>(z, ptx::SwizzledTile(&smem.kbar[slot][d / 64][0][d % 64]),
                          ptx::SwizzledTile(permuted + (d / 64 * rows_held + row) * 64 + d % 64),
                          d > 0);
      ptx::WgmmaCommit();
      ptx::WgmmaWait<0>();
      ptx::WgmmaResult(z);
      uint32_t weights[kStepRows / 16][4];
      Weigh(row, c, z, weights);
      ptx::WgmmaFence();
#pragma unroll
      for (int step = 0; step < kStepRows / 16; ++step)
#pragma unroll
        for (int panel = 0; panel < kPanels; ++panel)
          ptx::WgmmaRowsOfB<kType>(
              y[panel], weights[step],
              ptx::SwizzledTile(natural + (panel * rows_held + row + 16 * step) * 64), true);
      ptx::WgmmaCommit();
    }
    ptx::WgmmaWait<0>();
#pragma unroll
    for (auto& panel : y) ptx::WgmmaResult(panel);
  }

  __device__ void Weigh(int row, const float (&c)[2], const float (&z)[kStepRows / 8][4],
                        uint32_t (&weights)[kStepRows / 16][4]) {
#pragma unroll
    for (int n = 0; n < kStepRows / 8; ++n) {
      const float2 log_sum =
          *reinterpret_cast<const float2*>(&smem.log_sums[row + 8 * n + lane % 4 * 2]);
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const float first = ptx::Exp2(fmaf(z[n][2 * half], args.scale_log2, -c[half]) - log_sum.x);
        const float second =
            ptx::Exp2(fmaf(z[n][2 * half + 1], args.scale_log2, -c[half]) - log_sum.y);
        count[half] += first + second;
        weights[n / 2][n % 2 * 2 + half] = Pack<kType>(first, second);
      }
    }
  }

  __device__ void Store(int item) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      constexpr float kEpsilon = kMonarchDampingEpsilon, kMax = kMonarchDampingMax;
      constexpr float kScale = 1 / static_cast<float>(1 << static_cast<int>(kShift));
      const float damping = fminf(1 / (QuadSum(count[half]) * kScale + kEpsilon), kMax) * kScale;
      const int key = item * kPassKeys + 16 * warp + lane / 4 + 8 * half;
      StoreNatural<kHeadDim, kType>(y, half, damping, key < keys,
                                    PassHalf<kHeadDim>(args, place.column, key, 0), key);
    }
  }
};

template <int kHeadDim, StorageType kType>
__global__ void __launch_bounds__(kMonarchCudaThreads, 4)
    PassRefineKernel(const __grid_constant__ MonarchKernelArgs args) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  extern __shared__ __align__(1024) char smem[];
  FollowGridBefore();
  PassRefine<kHeadDim, kType>(args, smem, blockIdx.x).Run();
#else
  __trap();  // plans for other GPUs do not use it
#endif
}

// Both passes between two steps, for one column of at most 64 rows, which must exist (its barriers
// are taken down): part of what the first one reads is still in L2 for the second, which goes the
// other way.
template <int kHeadDim, StorageType kType>
struct PassSumsRefine {
  using Sums = PassAcross<kHeadDim, 1, /*kSumsOnly=*/true, kType>;
  using Refine = PassRefine<kHeadDim, kType>;
  static int SmemBytes(int b1) {
    return std::max(int{sizeof(typename Sums::Smem)}, Refine::SmemBytes(b1));
  }
  __device__ static void Run(const MonarchKernelArgs& args, char* smem, int column) {
    typename Sums::Smem& shared = *reinterpret_cast<typename Sums::Smem*>(smem);
    Sums(args, shared, column).Run();
    __syncthreads();
    if (threadIdx.x == 0) {
      for (uint64_t& barrier : shared.full) ptx::BarrierInvalidate(&barrier);
      for (uint64_t& barrier : shared.empty) ptx::BarrierInvalidate(&barrier);
    }
    __syncthreads();
    Refine(args, smem, column).Run();
  }
};

template <int kHeadDim, StorageType kType>
__global__ void __launch_bounds__(kMonarchCudaThreads, 4)
    PassSumsRefineKernel(const __grid_constant__ MonarchKernelArgs args) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  extern __shared__ __align__(1024) char smem[];
  FollowGridBefore();
  PassSumsRefine<kHeadDim, kType>::Run(args, smem, gridDim.x - 1 - blockIdx.x);
#else
  __trap();  // plans for other GPUs do not use it
#endif
}

template <int kHeadDim, StorageType kType>
cudaError_t LaunchPassSumsRefine(const MonarchKernelArgs& args, int pairs, cudaStream_t stream) {
  const int columns = pairs * args.plan.group_tiles * args.b2;
  return LaunchPass(PassSumsRefineKernel<kHeadDim, kType>, columns, kMonarchCudaThreads,
                    PassSumsRefine<kHeadDim, kType>::SmemBytes(args.b1), args, stream,
                    args.plan.dependent != 0);
}

template <int kHeadDim, StorageType kType>
cudaError_t LaunchPassRefine(const MonarchKernelArgs& args, int pairs, cudaStream_t stream) {
  const int columns = pairs * args.plan.group_tiles * args.b2;
  return LaunchPass(PassRefineKernel<kHeadDim, kType>, columns, kMonarchCudaThreads,
                    PassRefine<kHeadDim, kType>::SmemBytes(args.b1), args, stream,
                    args.plan.dependent != 0);
}

}  // namespace mrt
