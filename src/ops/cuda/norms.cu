// The norms. A row is kept in registers by a group of lanes: a part of a warp, a warp or a block.
#include <algorithm>
#include <bit>

#include "base/check.h"
#include "ops/cuda/check.h"
#include "ops/cuda/rowwise_kernels.h"
#include "ops/cuda/vectors.cuh"

namespace mrt::ops::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kWarp = 32;
constexpr unsigned kAllLanes = 0xffffffffu;

enum class Norm { kLayer, kRms, kChannel, kRmsRope };

struct NormParams {
  const void* x = nullptr;
  void* y = nullptr;
  const float* scale = nullptr;  // [groups, width]
  const float* shift = nullptr;  // [groups, width]; kLayer
  const float* cos = nullptr;    // [rows, head_dim / 2]; kRmsRope
  const float* sin = nullptr;
  int64_t rows = 0, rows_per_group = 1;
  int width = 0, head_dim = 0;
  int lanes = kWarp;  // of a group: a power of two up to 32, or kThreads
  float scale_offset = 0, eps = 0;
  bool silu = false;
  bool aligned = false;  // every vector of x, y, scale and shift may be read as a whole
};

/// The sum over the lanes of a group, the same in each. All threads of the block call it.
__device__ float GroupSum(float x, int lanes) {
  for (int offset = min(lanes, kWarp) / 2; offset > 0; offset /= 2)
    x += __shfl_xor_sync(kAllLanes, x, offset);
  if (lanes <= kWarp) return x;
  __shared__ float of_warp[kThreads / kWarp];
  __syncthreads();  // nobody reads the sums before these any more
  if (threadIdx.x % kWarp == 0) of_warp[threadIdx.x / kWarp] = x;
  __syncthreads();
  float sum = 0;
#pragma unroll
  for (int warp = 0; warp < kThreads / kWarp; ++warp) sum += of_warp[warp];
  return sum;
}

/// Rotates pairs of channels of a head by the angles of the row.
__device__ __forceinline__ void Rotate(const NormParams& p, int64_t row, int column,
                                       float (&v)[kVector]) {
  const int half = p.head_dim / 2;
  const float* const cos = p.cos + row * half;
  const float* const sin = p.sin + row * half;
  int angle = column % p.head_dim / 2;
#pragma unroll
  for (int i = 0; i < kVector; i += 2) {
    if (column + i < p.width) {
      const float c = cos[angle], s = sin[angle], v0 = v[i], v1 = v[i + 1];
      v[i] = v0 * c - v1 * s;
      v[i + 1] = v0 * s + v1 * c;
    }
    if (++angle == half) angle = 0;
  }
}

/// What a norm multiplies a row with, and subtracts before.
struct RowFactor {
  float mean = 0, factor = 0;
};

template <Norm kNorm, int kVectors>
__device__ RowFactor FactorOf(const NormParams& p, int lane, const float (&x)[kVectors][kVector]) {
  const float width = static_cast<float>(p.width);
  RowFactor row;
  if constexpr (kNorm == Norm::kLayer) {
    float sum = 0;
#pragma unroll
    for (int n = 0; n < kVectors; ++n)
#pragma unroll
      for (int i = 0; i < kVector; ++i) sum += x[n][i];
    row.mean = GroupSum(sum, p.lanes) / width;
  }
  float squares = 0;
#pragma unroll
  for (int n = 0; n < kVectors; ++n)
#pragma unroll
    for (int i = 0; i < kVector; ++i) {
      const bool inside = (lane + n * p.lanes) * kVector + i < p.width;
      const float d = x[n][i] - row.mean;
      squares += inside ? d * d : 0.0f;
    }
  squares = GroupSum(squares, p.lanes);
  if constexpr (kNorm == Norm::kChannel) {
    constexpr float kNormMin = 1e-12f;
    row.factor = sqrtf(width) / fmaxf(sqrtf(squares), kNormMin);
  } else {
    row.factor = 1.0f / sqrtf(squares / width + p.eps);
  }
  return row;
}

template <Norm kNorm, typename X, typename Y, int kVectors>
__global__ void __launch_bounds__(kThreads, 2) NormKernel(const NormParams p) {
  const int groups_per_block = kThreads / p.lanes;
  const int lane = static_cast<int>(threadIdx.x) % p.lanes;
  const int64_t row = int64_t{blockIdx.x} * groups_per_block + threadIdx.x / p.lanes;
  const bool has_row = row < p.rows;  // the others must take part in the sums
  const X* const from = static_cast<const X*>(p.x) + row * p.width;
  float x[kVectors][kVector];
#pragma unroll
  for (int n = 0; n < kVectors; ++n) {
    const int column = (lane + n * p.lanes) * kVector;
    const int count = has_row ? p.width - column : 0;
    Load(from + column, count, p.aligned && count >= kVector, x[n]);
  }
  const RowFactor factor = FactorOf<kNorm, kVectors>(p, lane, x);
  if (!has_row) return;
  const int64_t group = row / p.rows_per_group * p.width;
  Y* const to = static_cast<Y*>(p.y) + row * p.width;
#pragma unroll
  for (int n = 0; n < kVectors; ++n) {
    const int column = (lane + n * p.lanes) * kVector, count = p.width - column;
    if (count <= 0) break;
    const bool whole = p.aligned && count >= kVector;
    float scale[kVector], y[kVector];
    Load(p.scale + group + column, count, whole, scale);
#pragma unroll
    for (int i = 0; i < kVector; ++i)
      y[i] = (x[n][i] - factor.mean) * factor.factor * (scale[i] + p.scale_offset);
    if constexpr (kNorm == Norm::kLayer) {
      float shift[kVector];
      Load(p.shift + group + column, count, whole, shift);
#pragma unroll
      for (int i = 0; i < kVector; ++i) y[i] += shift[i];
    }
    if constexpr (kNorm == Norm::kChannel)
#pragma unroll
      for (int i = 0; i < kVector; ++i) y[i] = p.silu ? Silu(y[i]) : y[i];
    if constexpr (kNorm == Norm::kRmsRope) Rotate(p, row, column, y);
    Store(to + column, count, whole, y);
  }
}

template <Norm kNorm, typename X, typename Y, int kVectors>
void LaunchVectors(NormParams p, int lanes, cudaStream_t stream) {
  p.lanes = lanes;
  const int64_t rows_per_block = kThreads / lanes;
  const int64_t blocks = (p.rows + rows_per_block - 1) / rows_per_block;
  NormKernel<kNorm, X, Y, kVectors><<<static_cast<unsigned>(blocks), kThreads, 0, stream>>>(p);
  CheckLaunch("the launch of a norm");
}

template <Norm kNorm, typename X, typename Y>
void LaunchNorm(NormParams p, cudaStream_t stream) {
  if (p.rows == 0 || p.width == 0) return;
  MRT_CHECK(p.width <= kNormWidthMax);
  p.aligned = p.width % kVector == 0 && IsAligned(p.x) && IsAligned(p.y) && IsAligned(p.scale) &&
              IsAligned(p.shift);
  const int vectors = (p.width + kVector - 1) / kVector;
  if (vectors <= kWarp)
    return LaunchVectors<kNorm, X, Y, 1>(
        p, static_cast<int>(std::bit_ceil(static_cast<unsigned>(vectors))), stream);
  if (vectors <= 2 * kWarp) return LaunchVectors<kNorm, X, Y, 2>(p, kWarp, stream);
  if (vectors <= 3 * kWarp) return LaunchVectors<kNorm, X, Y, 3>(p, kWarp, stream);
  if (vectors <= 6 * kWarp) return LaunchVectors<kNorm, X, Y, 6>(p, kWarp, stream);
  if (vectors <= kThreads) return LaunchVectors<kNorm, X, Y, 1>(p, kThreads, stream);
  if (vectors <= 2 * kThreads) return LaunchVectors<kNorm, X, Y, 2>(p, kThreads, stream);
  if (vectors <= 3 * kThreads) return LaunchVectors<kNorm, X, Y, 3>(p, kThreads, stream);
  LaunchVectors<kNorm, X, Y, 6>(p, kThreads, stream);
}

using Bf16 = __nv_bfloat16;
static_assert(kNormWidthMax == int64_t{6} * kThreads * kVector);

}  // namespace

void LayerNorm(const LayerNormArgs& args, int64_t rows, cudaStream_t stream) {
  MRT_CHECK(args.x.storage == StorageType::kF32 && args.y.storage == StorageType::kBF16);
  LaunchNorm<Norm::kLayer, float, Bf16>({.x = args.x.data,
                                         .y = args.y.data,
                                         .scale = args.scale,
                                         .shift = args.shift,
                                         .rows = rows,
                                         .rows_per_group = args.rows_per_group,
                                         .width = static_cast<int>(args.width),
                                         .scale_offset = args.scale_offset,
                                         .eps = args.eps},
                                        stream);
}

void RmsNorm(const RmsNormArgs& args, int64_t rows, cudaStream_t stream) {
  const NormParams p{.x = args.x.data,
                     .y = args.y.data,
                     .scale = args.weight,
                     .rows = rows,
                     .rows_per_group = std::max<int64_t>(rows, 1),
                     .width = static_cast<int>(args.width),
                     .eps = args.eps};
  const bool to_float = args.y.storage == StorageType::kF32;
  if (args.x.storage == StorageType::kF32)
    return to_float ? LaunchNorm<Norm::kRms, float, float>(p, stream)
                    : LaunchNorm<Norm::kRms, float, Bf16>(p, stream);
  return to_float ? LaunchNorm<Norm::kRms, Bf16, float>(p, stream)
                  : LaunchNorm<Norm::kRms, Bf16, Bf16>(p, stream);
}

void ChannelNorm(const ChannelNormArgs& args, int64_t rows, cudaStream_t stream) {
  MRT_CHECK(args.x.storage == StorageType::kBF16 && args.y.storage == StorageType::kBF16);
  LaunchNorm<Norm::kChannel, Bf16, Bf16>({.x = args.x.data,
                                          .y = args.y.data,
                                          .scale = args.gamma,
                                          .rows = rows,
                                          .rows_per_group = std::max<int64_t>(rows, 1),
                                          .width = static_cast<int>(args.width),
                                          .silu = args.silu},
                                         stream);
}

void RmsNormRope(const RmsNormRopeArgs& args, int64_t tokens, cudaStream_t stream) {
  MRT_CHECK(args.x.storage == StorageType::kBF16 && args.y.storage == StorageType::kBF16);
  MRT_CHECK(args.y_strides.head == args.head_dim &&
            args.y_strides.token == args.heads * args.head_dim);
  LaunchNorm<Norm::kRmsRope, Bf16, Bf16>({.x = args.x.data,
                                          .y = args.y.data,
                                          .scale = args.weight,
                                          .cos = args.cos,
                                          .sin = args.sin,
                                          .rows = tokens,
                                          .rows_per_group = std::max<int64_t>(tokens, 1),
                                          .width = static_cast<int>(args.heads * args.head_dim),
                                          .head_dim = static_cast<int>(args.head_dim),
                                          .eps = args.eps},
                                         stream);
}

}  // namespace mrt::ops::cuda
