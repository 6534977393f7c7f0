// The last pass of a step: attention across rows, for one column over all its keys.
//
//   x[i,n] = q[i] . kbar[n] - c[n]   L = running softmax over n   o[i] += L vbar[n]
//
// A block owns a column of a query tile and up to 64 query rows for each of its warpgroups, which
// share the items of means; queries, weights and output stay in registers.
#pragma once

#include "kernels/common/cuda/bulk.cuh"
#include "kernels/common/cuda/wgmma.cuh"
#include "kernels/monarch/cuda/pass_layout.cuh"
#include "kernels/monarch/cuda/tile.cuh"

namespace mrt {

// kSumsOnly: instead of the output the logarithms of the sums, which the next refinement needs.
template <int kHeadDim, int kWarpgroups, bool kSumsOnly, StorageType kType>
struct PassAcross {
  static constexpr int kThreads = 128 * kWarpgroups;
  static constexpr int kBlocksPerMultiprocessor = kWarpgroups > 1 ? 1 : kSumsOnly ? 4 : 3;
  static constexpr int kPanels = kHeadDim / 64;
  static constexpr int kBlocks = kHeadDim / 32;  // of channels
  static constexpr int kHalves = kSumsOnly ? 1 : 2;
  static constexpr int kStages = kWarpgroups > 1 ? 10 / kHalves : kSumsOnly ? 3 : 2;
  // A slot is filled again so many items after it was read: others may still read the one before.
  static constexpr int kSlack = kWarpgroups == 1 ? 1 : 2;
  static constexpr int kHalfElements = kPassKeys * kHeadDim;
  static constexpr int kScoreTiles = kPassKeys / 8;
  static constexpr float kMaxLag = 8;  // as in AcrossRows
  static constexpr float kShift = kWeightShift<kType>;

  struct Slot {
    alignas(1024) Bits16 means[kHalves][kPanels][kPassKeys][64];
  };
  struct Smem {
    Slot slots[kStages];
    alignas(16) float entropies[kStages][kPassKeys];
    uint64_t full[kStages], empty[kStages];
  };

  const MonarchKernelArgs& args;
  Smem& smem;
  PassPlace place;
  int row_begin = 0;  // of this block
  int keys = 0, items = 0;
  int lane = threadIdx.x % 32;
  using Queries = uint32_t[kBlocks][2][4];  // operands of two k-steps each
  Queries q;
  float out[kSumsOnly ? 1 : kPanels][8][4];
  float max[2], sum[2];  // of rows g and g + 8, less kShift; the sum of this lane's keys

  // Of task `block`.
  __device__ PassAcross(const MonarchKernelArgs& a, Smem& shared, int block)
      : args(a), smem(shared) {
    const int column = block / args.plan.unit_blocks;
    row_begin = (block - column * args.plan.unit_blocks) * 64 * kWarpgroups;
    place = FindPassColumn(args, column);
    if (place.query_tile < args.plan.query_tiles)
      keys = VisibleTiles(args, place.query_tile) * args.b1;
    items = (keys + kPassKeys - 1) / kPassKeys;
  }

  // Row of the query tile that this lane holds in registers 0 and 1; 2 and 3: 8 rows on.
  __device__ int RowOf() const { return row_begin + threadIdx.x / 32 * 16 + lane / 4; }

  __device__ void Run() {
    if (items == 0) return;
    Begin();
    LoadQueries(args.q, q);
    __syncthreads();
    Forward();
    if constexpr (kSumsOnly) {
      WriteSums();
    } else {
      WriteOutput();
    }
  }

  // A barrier of the block must follow.
  __device__ __forceinline__ void Begin() {
    if (threadIdx.x != 0) return;
    for (int n = 0; n < kStages; ++n) {
      ptx::BarrierInit(&smem.full[n], 1);
      ptx::BarrierInit(&smem.empty[n], 4 * kWarpgroups);
    }
    ptx::BarrierInitFence();
    for (int n = 0; n < kStages; ++n) LoadItem(n);
  }

  __device__ __forceinline__ void Forward() {
    Start();
    for (int item = 0; item < items; ++item) {
      const int slot = item % kStages;
      float x[kScoreTiles][4];
      ptx::BarrierWait(&smem.full[slot], item / kStages % 2);
      const int keys_left = keys - ItemAt(item) * kPassKeys;
      if (!kSumsOnly && place.column >= args.first_dropped) Discard(item);
      if (!kSumsOnly && keys_left < kPassKeys) Clear<kHalves - 1>(slot, keys_left);
      Score(slot, 0, q, x);
      ptx::WgmmaWait<0>();
      ptx::WgmmaResult(x);
      Logits(slot, keys_left, x);
      Softmax(x);
      if constexpr (!kSumsOnly) Accumulate(slot, 1, x);
      Release(item);
    }
  }

  // From the last to the first, as the columns: what the average wrote last is still in L2.
  __device__ __forceinline__ int ItemAt(int n) const { return items - 1 - n; }
  // They have been read: their lines need not be written to memory.
  __device__ __forceinline__ void Discard(int item) {
    Bits16* begin = PassHalf<kHeadDim>(args, place.column, ItemAt(item) * kPassKeys, 0);
    for (int line = threadIdx.x; line < 2 * kPassKeys * kHeadDim / 64; line += kThreads)
      ptx::DiscardLine(begin + 64 * line);
  }

  __device__ __forceinline__ void LoadItem(int item) {
    if (item >= items) return;
    const int slot = item % kStages, key = ItemAt(item) * kPassKeys;
    constexpr int kMeansBytes = kHalves * kHalfElements * 2, kEntropyBytes = kPassKeys * 4;
    ptx::BarrierArriveExpect(&smem.full[slot], kMeansBytes + kEntropyBytes);
    ptx::BulkCopy(&smem.slots[slot], PassHalf<kHeadDim>(args, place.column, key, 0), kMeansBytes,
                  &smem.full[slot], kSumsOnly ? ptx::PolicyEvictNormal() : ptx::PolicyEvictFirst());
    ptx::BulkCopy(smem.entropies[slot], PassEntropies(args, place.column) + key, kEntropyBytes,
                  &smem.full[slot]);
  }

  // This warp has read the item; one thread fills its slot, or that of an item before, again.
  __device__ __forceinline__ void Release(int item) {
    __syncwarp();
    if (lane == 0) ptx::BarrierArrive(&smem.empty[item % kStages]);
    const int oldest = item + 1 - kSlack;
    if (threadIdx.x == 0 && oldest >= 0 && oldest + kStages < items) {
      ptx::BarrierWait(&smem.empty[oldest % kStages], oldest / kStages % 2);
      LoadItem(oldest + kStages);
    }
  }

  // 0 times what lies behind the last key must be 0: the halves from kFirst on.
  template <int kFirst>
  __device__ __forceinline__ void Clear(int slot, int keys_left) {
    const int vectors = (kPassKeys - keys_left) * 8;
#pragma unroll
    for (int half = kFirst; half < kHalves; ++half)
#pragma unroll
      for (int panel = 0; panel < kPanels; ++panel) {
        uint4* to = reinterpret_cast<uint4*>(&smem.slots[slot].means[half][panel][keys_left][0]);
        for (int n = threadIdx.x; n < vectors; n += kThreads) to[n] = {};
      }
    ptx::FenceSharedForWgmma();
    __syncthreads();
  }

  // The channels of a mean lie so that 16 bytes of a query are what a lane needs for two k-steps:
  // see tile.cuh.
  __device__ __forceinline__ void LoadQueries(const Bits16* tensor, Queries& to) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int i = RowOf() + 8 * half;
      const Bits16* from = nullptr;
      if (i < args.b1)
        from = tensor + TokenOffset(args, kHeadDim, QueryToken(args, place.query_tile, i, place.j),
                                    place.head);
#pragma unroll
      for (int block = 0; block < kBlocks; ++block) {
        uint4 x = {};
        if (i < args.b1) x = __ldg(reinterpret_cast<const uint4*>(from + 32 * block) + lane % 4);
        to[block][0][half] = x.x, to[block][0][2 + half] = x.y;
        to[block][1][half] = x.z, to[block][1][2 + half] = x.w;
      }
    }
  }

  __device__ __forceinline__ void Start() {
    EachOutput([](float& y, int) { y = 0; });
#pragma unroll
    for (int row = 0; row < 2; ++row) max[row] = -INFINITY, sum[row] = 0;
  }

  // x [i, n] = queries [i, d] . half [n, d]
  __device__ __forceinline__ void Score(int slot, int half, const Queries& queries,
                                        float (&x)[kScoreTiles][4]) {
    ptx::WgmmaFence();
#pragma unroll
    for (int block = 0; block < kBlocks; ++block)
#pragma unroll
      for (int step = 0; step < 2; ++step)
        ptx::WgmmaOfRegisters<kType>(
            x, queries[block][step],
            ptx::SwizzledTile(
                &smem.slots[slot].means[half][block / 2][0][block % 2 * 32 + step * 16]),
            block + step > 0);
    ptx::WgmmaCommit();
  }

  // x = s * log2(e) * x - c, and nothing for keys past the end.
  __device__ __forceinline__ void Logits(int slot, int keys_left, float (&x)[kScoreTiles][4]) {
#pragma unroll
    for (int n = 0; n < kScoreTiles; ++n) {
      const int key = 8 * n + 2 * (lane % 4);
      const float2 c = *reinterpret_cast<const float2*>(&smem.entropies[slot][key]);
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        float &first = x[n][2 * half], &second = x[n][2 * half + 1];
        first = fmaf(first, args.scale_log2, -c.x);
        second = fmaf(second, args.scale_log2, -c.y);
        if (keys_left < kPassKeys) {
          if (key >= keys_left) first = kMaskedLogit;
          if (key + 1 >= keys_left) second = kMaskedLogit;
        }
      }
    }
  }

  // x -> weights 2^(x - max); rescales what was summed up before if the maximum moved.
  __device__ __forceinline__ void Softmax(float (&x)[kScoreTiles][4]) {
    float tile_max[2];
    bool moves = false;
#pragma unroll
    for (int row = 0; row < 2; ++row) {
      float y = kMaskedLogit;
#pragma unroll
      for (int n = 0; n < kScoreTiles; ++n) y = fmaxf(y, fmaxf(x[n][2 * row], x[n][2 * row + 1]));
      tile_max[row] = QuadMax(y);
      moves |= tile_max[row] > max[row] + (kShift + kMaxLag);
    }
    if (__any_sync(~0u, moves)) Rescale(tile_max);
#pragma unroll
    for (int row = 0; row < 2; ++row)
#pragma unroll
      for (int n = 0; n < kScoreTiles; ++n)
#pragma unroll
        for (int e = 0; e < 2; ++e) {
          float& p = x[n][2 * row + e];
          p = ptx::Exp2(p - max[row]);
          sum[row] += p;
        }
  }

  __device__ __forceinline__ void Rescale(const float (&tile_max)[2]) {
    float factor[2];
#pragma unroll
    for (int row = 0; row < 2; ++row) {
      const float moved = fmaxf(max[row], tile_max[row] - kShift);
      factor[row] = ptx::Exp2(max[row] - moved);
      max[row] = moved;
      sum[row] *= factor[row];
    }
    EachOutput([&](float& y, int row) { y *= factor[row]; });
  }

  template <typename Body>
  __device__ __forceinline__ void EachOutput(Body&& body) {
    constexpr int kOutPanels = kSumsOnly ? 1 : kPanels;
#pragma unroll
    for (int n = 0; n < kOutPanels * 32; ++n) body(out[n / 32][n / 4 % 8][n % 4], n % 4 / 2);
  }

  __device__ __forceinline__ static void Operand(const float (&x)[kScoreTiles][4],
                                                 uint32_t (&weights)[kPassKeys / 16][4]) {
#pragma unroll
    for (int n = 0; n < kScoreTiles; ++n)
#pragma unroll
      for (int row = 0; row < 2; ++row)
        weights[n / 2][n % 2 * 2 + row] = Pack<kType>(x[n][2 * row], x[n][2 * row + 1]);
  }

  // y [i, d] += weights [i, n] . half [n, d]
  __device__ __forceinline__ void AddProduct(int slot, int half,
                                             const uint32_t (&weights)[kPassKeys / 16][4],
                                             float (&y)[kPanels][8][4]) {
#pragma unroll
    for (int step = 0; step < kPassKeys / 16; ++step)
#pragma unroll
      for (int panel = 0; panel < kPanels; ++panel)
        ptx::WgmmaRowsOfB<kType>(
            y[panel], weights[step],
            ptx::SwizzledTile(&smem.slots[slot].means[half][panel][16 * step][0]), true);
  }

  // out [i, d] += x [i, n] . half [n, d], as operands of 16 bits
  __device__ __forceinline__ void Accumulate(int slot, int half, const float (&x)[kScoreTiles][4]) {
    uint32_t weights[kPassKeys / 16][4];
    Operand(x, weights);
    ptx::WgmmaFence();
    AddProduct(slot, half, weights, out);
    ptx::WgmmaCommit();
    // The next product waits for the others of the multiprocessor anyway, and has no room for
    // these weights beside its own.
    ptx::WgmmaWait<0>();
#pragma unroll
    for (auto& panel : out) ptx::WgmmaResult(panel);
  }

  __device__ void WriteOutput() {
#pragma unroll
    for (int row = 0; row < 2; ++row) {
      const float inverse_sum = 1 / QuadSum(sum[row]);
      const int i = RowOf() + 8 * row;
      if (i >= args.b1) continue;
      const int token = QueryToken(args, place.query_tile, i, place.j);
      Bits16* to = args.out + TokenOffset(args, kHeadDim, token, place.head);
#pragma unroll
      for (int block = 0; block < kBlocks; ++block) {
        uint32_t packed[4];
#pragma unroll
        for (int u = 0; u < 4; ++u) {
          const float(&y)[4] = out[block / 2][block % 2 * 4 + u];
          packed[u] = Pack<kType>(y[2 * row] * inverse_sum, y[2 * row + 1] * inverse_sum);
        }
        *reinterpret_cast<uint4*>(to + 32 * block + lane % 4 * 8) =
            make_uint4(packed[0], packed[1], packed[2], packed[3]);
      }
    }
  }

  __device__ void WriteSums() {
#pragma unroll
    for (int row = 0; row < 2; ++row) {
      const float log_sum = max[row] + log2f(QuadSum(sum[row]));
      const int i = RowOf() + 8 * row;
      if (i < args.b1 && lane % 4 == 0) PassLogSums(args, place.column)[i] = log_sum;
    }
  }
};

template <int kHeadDim, int kWarpgroups, bool kSumsOnly, StorageType kType>
__global__ void __launch_bounds__(
    128 * kWarpgroups,
    PassAcross<kHeadDim, kWarpgroups, kSumsOnly, kType>::kBlocksPerMultiprocessor)
    PassAcrossKernel(const __grid_constant__ MonarchKernelArgs args) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  using Across = PassAcross<kHeadDim, kWarpgroups, kSumsOnly, kType>;
  extern __shared__ __align__(1024) char smem[];
  FollowGridBefore();
  const int block = gridDim.x - 1 - blockIdx.x;
  Across(args, *reinterpret_cast<typename Across::Smem*>(smem), block).Run();
#else
  __trap();  // plans for other GPUs do not use it
#endif
}

template <int kHeadDim, int kWarpgroups, bool kSumsOnly, StorageType kType>
cudaError_t LaunchPassAcross(const MonarchKernelArgs& args, int pairs, cudaStream_t stream) {
  using Across = PassAcross<kHeadDim, kWarpgroups, kSumsOnly, kType>;
  const int columns = pairs * args.plan.group_tiles * args.b2;
  return LaunchPass(PassAcrossKernel<kHeadDim, kWarpgroups, kSumsOnly, kType>,
                    columns * args.plan.unit_blocks, Across::kThreads,
                    int{sizeof(typename Across::Smem)}, args, stream, args.plan.dependent != 0);
}

}  // namespace mrt
