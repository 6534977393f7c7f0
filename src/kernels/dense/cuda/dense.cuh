// The kernel of dense attention: a block takes kBlockRows queries of one head and streams over the
// keys, a tile at a time, with a running softmax.
//
//   x[i,n] = scale * q[i] . K[n] + bias[i,n]   p = running softmax over n   o[i] += p V[n]
//
// A warp owns 32 queries; scores and output stay in its registers. While one tile of keys and
// values is used the next one is copied to shared memory.
#pragma once

#include "kernels/common/cuda/fragment.cuh"
#include "kernels/common/cuda/ptx.cuh"
#include "kernels/dense/cuda/dense_cuda.h"

namespace mrt {

// The one parameter of the kernel.
struct DenseKernelArgs {
  int heads = 0;
  int tokens_q = 0;
  int tokens_per_frame = 0;
  int tokens_kv = 0;     // of all frames
  float scale_log2 = 0;  // scale * log2(e): logits are in base 2
  const Bits16* q = nullptr;
  Bits16* out = nullptr;
  const float* bias = nullptr;
  int64_t bias_head_stride = 0, bias_query_stride = 0;
  const Bits16* k_frames[kDenseCudaFramesMax] = {};
  const Bits16* v_frames[kDenseCudaFramesMax] = {};
};
static_assert(sizeof(DenseKernelArgs) <= 32764, "kernel parameters");

inline constexpr int kDenseCudaWarps = 4;
inline constexpr int kDenseCudaThreads = 32 * kDenseCudaWarps;

// kQueryBias: heads or queries have biases of their own, which are read where they are used; else
// those of the keys come with the keys.
template <int kHeadDim, bool kQueryBias, StorageType kType>
struct DenseTile {
  static constexpr int kRowTiles = 2;  // 16 queries each, of a warp
  static constexpr int kWarpRows = 16 * kRowTiles;
  static constexpr int kBlockRows = kWarpRows * kDenseCudaWarps;
  // Keys at a time: few enough for no spills with two blocks in a multiprocessor's registers, and
  // for the 99 KB of shared memory of sm_86, sm_89 and sm_120.
  static constexpr int kKeys = kHeadDim > 64 ? 32 : 64;
  static constexpr int kKeysPerWarp = kKeys / kDenseCudaWarps;  // that a warp copies
  static constexpr int kKeyTiles = kKeys / 8;
  static constexpr int kKeySteps = kKeys / 16;
  static constexpr int kChunks = kHeadDim / 8;  // of 16 bytes in a row
  static constexpr int kOutTiles = kHeadDim / 8;
  static constexpr int kPitch = kHeadDim + 8;  // eight rows of a matrix lie in different banks
  static constexpr int kStages = 2;
  static constexpr float kLog2E = 1.44269504f;
  // The running maximum follows only when it grows by more than a factor of 2^8: the sums have
  // room, and the output is rescaled a few times instead of at every tile.
  static constexpr float kMaxLag = 8;
  static constexpr float kShift = kWeightShift<kType>;
  static_assert(kKeysPerWarp <= 16 && kKeysPerWarp * kChunks % 32 == 0);
  static_assert(kHeadDim % 32 == 0 && kKeys % 16 == 0);

  struct Stage {
    alignas(16) Bits16 k[kKeys][kPitch];
    alignas(16) Bits16 v[kKeys][kPitch];
    alignas(16) float bias[kKeys];
  };
  struct Smem {
    alignas(16) Bits16 q[kBlockRows][kPitch];  // at the end the output
    Stage stages[kStages];
  };

  struct Running {
    float out[kRowTiles][kOutTiles][4];
    float max[2 * kRowTiles];  // less kShift
    float sum[2 * kRowTiles];  // of this lane's keys
  };

  const DenseKernelArgs& args;
  Smem& smem;
  int lane = threadIdx.x % 32;
  int warp = threadIdx.x / 32;
  int head = blockIdx.y;
  int query_begin = blockIdx.x * kBlockRows + warp * kWarpRows;  // of this warp
  int tiles = 0;

  __device__ DenseTile(const DenseKernelArgs& a, Smem& shared)
      : args(a), smem(shared), tiles((a.tokens_kv + kKeys - 1) / kKeys) {}

  __device__ void Run() {
    LoadQueries();
    LoadKeys(0);
    Running running = {};
#pragma unroll
    for (float& m : running.max) m = -INFINITY;
    for (int tile = 0; tile < tiles; ++tile) {
      LoadKeys(tile + 1);
      ptx::CopyAsyncWait<1>();
      __syncthreads();
      const Stage& stage = smem.stages[tile % kStages];
      float x[kRowTiles][kKeyTiles][4] = {};
      Score(stage, x);
      if (tile + 1 < tiles) {
        Logits</*kLast=*/false>(stage, tile * kKeys, x);
      } else {
        Logits</*kLast=*/true>(stage, tile * kKeys, x);
      }
      Softmax(x, running);
      Accumulate(stage, x, running);
      __syncthreads();  // the next copies overwrite this stage
    }
    WriteOutput(running);
  }

  // Element 0 of row 0 of this warp's queries, or outputs, in global memory.
  __device__ int64_t QueryOffset(int row, int chunk) const {
    return (int64_t{query_begin + row} * args.heads + head) * kHeadDim + 8 * chunk;
  }

  // Each warp its own rows, zeros past the end; the group of copies is that of the first keys.
  __device__ void LoadQueries() {
#pragma unroll
    for (int n = 0; n < kWarpRows * kChunks; n += 32) {
      const int row = (n + lane) / kChunks, chunk = (n + lane) % kChunks;
      const bool valid = query_begin + row < args.tokens_q;
      ptx::CopyAsync16(&smem.q[warp * kWarpRows + row][8 * chunk],
                       valid ? args.q + QueryOffset(row, chunk) : args.q, valid);
    }
  }

  // One group of copies: keys, values and biases of a tile, zeros past the end.
  __device__ void LoadKeys(int tile) {
    if (tile < tiles) {
      Stage& stage = smem.stages[tile % kStages];
      // Lanes 0 to 15 find this warp's keys, lanes 16 to 31 its values; null past the end.
      const int own = lane % 16;
      const Bits16* source = nullptr;
      const int token = tile * kKeys + warp * kKeysPerWarp + own;
      if (own < kKeysPerWarp && token < args.tokens_kv) {
        const int frame = token / args.tokens_per_frame;
        const int64_t in_frame = token - frame * args.tokens_per_frame;
        source = (lane < 16 ? args.k_frames[frame] : args.v_frames[frame]) +
                 (in_frame * args.heads + head) * kHeadDim;
      }
      CopyRows(stage.k, source, 0);
      CopyRows(stage.v, source, 16);
      if (!kQueryBias && args.bias != nullptr && threadIdx.x < kKeys) {
        const int key = tile * kKeys + threadIdx.x;
        const bool valid = key < args.tokens_kv;
        ptx::CopyAsync4(&stage.bias[threadIdx.x], args.bias + (valid ? key : 0), valid);
      }
    }
    ptx::CopyAsyncCommit();
  }

  // Row r of this warp's part begins at `source` of lane first_lane + r.
  __device__ void CopyRows(Bits16 (&to)[kKeys][kPitch], const Bits16* source, int first_lane) {
#pragma unroll
    for (int n = 0; n < kKeysPerWarp * kChunks; n += 32) {
      const int row = (n + lane) / kChunks, chunk = (n + lane) % kChunks;
      const uint64_t begin = __shfl_sync(~0u, reinterpret_cast<uint64_t>(source), first_lane + row);
      const Bits16* from = reinterpret_cast<const Bits16*>(begin);
      const bool valid = from != nullptr;
      ptx::CopyAsync16(&to[warp * kKeysPerWarp + row][8 * chunk], valid ? from + 8 * chunk : args.q,
                       valid);
    }
  }

  // x [i, n] = q [i, d] . K [n, d]
  __device__ void Score(const Stage& stage, float (&x)[kRowTiles][kKeyTiles][4]) {
#pragma unroll
    for (int d = 0; d < kHeadDim; d += 16) {
      uint32_t a[kRowTiles][4];
#pragma unroll
      for (int t = 0; t < kRowTiles; ++t)
        ptx::LoadMatrix(a[t], &smem.q[warp * kWarpRows + 16 * t + lane % 16][d + lane / 16 * 8]);
#pragma unroll
      for (int n = 0; n < kKeyTiles; n += 2) {
        uint32_t b[4];
        ptx::LoadMatrix(b, &stage.k[8 * n + lane % 8 + lane / 16 * 8][d + lane / 8 % 2 * 8]);
#pragma unroll
        for (int t = 0; t < kRowTiles; ++t) {
          ptx::Mma<kType>(x[t][n], a[t], b[0], b[1]);
          ptx::Mma<kType>(x[t][n + 1], a[t], b[2], b[3]);
        }
      }
    }
  }

  // x = log2(e) * (scale * x + bias), and nothing for keys past the end of the last tile.
  template <bool kLast>
  __device__ void Logits(const Stage& stage, int key_begin, float (&x)[kRowTiles][kKeyTiles][4]) {
    const int keys_left = args.tokens_kv - key_begin;
#pragma unroll
    for (int n = 0; n < kKeyTiles; ++n)
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        const int key = 8 * n + 2 * (lane % 4) + e;
        const bool valid = !kLast || key < keys_left;
        const float of_key = kQueryBias || args.bias == nullptr ? 0 : BiasLog2(stage.bias[key]);
#pragma unroll
        for (int t = 0; t < kRowTiles; ++t)
#pragma unroll
          for (int half = 0; half < 2; ++half) {
            const float bias = kQueryBias && valid
                                   ? BiasLog2(BiasOf(16 * t + 8 * half + lane / 4)[key_begin + key])
                                   : of_key;
            float& logit = x[t][n][2 * half + e];
            logit = valid ? fmaf(logit, args.scale_log2, bias) : kMaskedLogit;
          }
      }
  }

  __device__ static float BiasLog2(float bias) { return fmaxf(kLog2E * bias, kMaskedLogit); }

  // Of the first key, for that row of this warp's queries.
  __device__ const float* BiasOf(int row) const {
    const int query = min(query_begin + row, args.tokens_q - 1);
    return args.bias + head * args.bias_head_stride + query * args.bias_query_stride;
  }

  // x -> weights 2^(x - max); rescales what was summed up before if the maximum moved.
  __device__ void Softmax(float (&x)[kRowTiles][kKeyTiles][4], Running& running) {
    float tile_max[2 * kRowTiles];
    bool moves = false;
#pragma unroll
    for (int row = 0; row < 2 * kRowTiles; ++row) {
      float m = -INFINITY;
#pragma unroll
      for (int n = 0; n < kKeyTiles; ++n)
        m = fmaxf(m, fmaxf(x[row / 2][n][row % 2 * 2], x[row / 2][n][row % 2 * 2 + 1]));
      tile_max[row] = QuadMax(m);
      moves |= tile_max[row] > running.max[row] + (kShift + kMaxLag);
    }
    if (__any_sync(~0u, moves)) Rescale(tile_max, running);
#pragma unroll
    for (int row = 0; row < 2 * kRowTiles; ++row)
#pragma unroll
      for (int n = 0; n < kKeyTiles; ++n)
#pragma unroll
        for (int e = 0; e < 2; ++e) {
          float& p = x[row / 2][n][row % 2 * 2 + e];
          p = ptx::Exp2(p - running.max[row]);
          running.sum[row] += p;
        }
  }

  __device__ void Rescale(const float (&tile_max)[2 * kRowTiles], Running& running) {
#pragma unroll
    for (int row = 0; row < 2 * kRowTiles; ++row) {
      const float moved = fmaxf(running.max[row], tile_max[row] - kShift);
      const float factor = ptx::Exp2(running.max[row] - moved);
      running.max[row] = moved;
      running.sum[row] *= factor;
#pragma unroll
      for (int n = 0; n < kOutTiles; ++n)
#pragma unroll
        for (int e = 0; e < 2; ++e) running.out[row / 2][n][row % 2 * 2 + e] *= factor;
    }
  }

  // out [i, d] += p [i, n] . V [n, d]
  __device__ void Accumulate(const Stage& stage, const float (&x)[kRowTiles][kKeyTiles][4],
                             Running& running) {
#pragma unroll
    for (int step = 0; step < kKeySteps; ++step) {
      uint32_t a[kRowTiles][4];
#pragma unroll
      for (int t = 0; t < kRowTiles; ++t)
#pragma unroll
        for (int r = 0; r < 4; ++r) {
          const float(&y)[4] = x[t][2 * step + r / 2];
          a[t][r] = Pack<kType>(y[r % 2 * 2], y[r % 2 * 2 + 1]);
        }
#pragma unroll
      for (int n = 0; n < kOutTiles; n += 2) {
        uint32_t b[4];
        ptx::LoadMatrixTransposed(b, &stage.v[16 * step + lane % 16][8 * n + lane / 16 * 8]);
#pragma unroll
        for (int t = 0; t < kRowTiles; ++t) {
          ptx::Mma<kType>(running.out[t][n], a[t], b[0], b[1]);
          ptx::Mma<kType>(running.out[t][n + 1], a[t], b[2], b[3]);
        }
      }
    }
  }

  // Through the warp's own queries in shared memory, so that lanes write 16 bytes each.
  __device__ void WriteOutput(Running& running) {
    __syncwarp();
#pragma unroll
    for (int row = 0; row < 2 * kRowTiles; ++row) {
      const float inverse_sum = 1 / QuadSum(running.sum[row]);
      Bits16* to = smem.q[warp * kWarpRows + 8 * row + lane / 4] + 2 * (lane % 4);
#pragma unroll
      for (int n = 0; n < kOutTiles; ++n) {
        const float(&y)[4] = running.out[row / 2][n];
        *reinterpret_cast<uint32_t*>(to + 8 * n) =
            Pack<kType>(y[row % 2 * 2] * inverse_sum, y[row % 2 * 2 + 1] * inverse_sum);
      }
    }
    __syncwarp();
#pragma unroll
    for (int n = 0; n < kWarpRows * kChunks; n += 32) {
      const int row = (n + lane) / kChunks, chunk = (n + lane) % kChunks;
      if (query_begin + row >= args.tokens_q) continue;
      *reinterpret_cast<uint4*>(args.out + QueryOffset(row, chunk)) =
          *reinterpret_cast<const uint4*>(&smem.q[warp * kWarpRows + row][8 * chunk]);
    }
  }
};

template <int kHeadDim, bool kQueryBias, StorageType kType>
__global__ void __launch_bounds__(kDenseCudaThreads, 2)
    DenseKernel(const __grid_constant__ DenseKernelArgs args) {
  using Tile = DenseTile<kHeadDim, kQueryBias, kType>;
  extern __shared__ __align__(16) char smem[];
  Tile(args, *reinterpret_cast<typename Tile::Smem*>(smem)).Run();
}

}  // namespace mrt
