// Softmax over rows: a block for each row, which it reads twice.
#include "base/check.h"
#include "ops/cuda/check.h"
#include "ops/cuda/rowwise_kernels.h"
#include "ops/cuda/vectors.cuh"

namespace mrt::ops::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kWarp = 32;
constexpr unsigned kAllLanes = 0xffffffffu;

/// Over some of the elements: their largest, and the sum of 2^(x - largest).
struct Running {
  float largest = -INFINITY, sum = 0;
};

__device__ __forceinline__ Running Merge(const Running& a, const Running& b) {
  const float largest = fmaxf(a.largest, b.largest);
  if (largest == -INFINITY) return {largest, a.sum + b.sum};  // NaN stays in the sum
  return {largest, a.sum * exp2f(a.largest - largest) + b.sum * exp2f(b.largest - largest)};
}

/// Over all threads of the block, the same in each.
__device__ Running MergeBlock(Running mine) {
  __shared__ Running of_warp[kThreads / kWarp];
  for (int offset = kWarp / 2; offset > 0; offset /= 2) {
    const Running other{__shfl_xor_sync(kAllLanes, mine.largest, offset),
                        __shfl_xor_sync(kAllLanes, mine.sum, offset)};
    mine = Merge(mine, other);
  }
  if (threadIdx.x % kWarp == 0) of_warp[threadIdx.x / kWarp] = mine;
  __syncthreads();
  Running all = of_warp[0];
  for (int warp = 1; warp < kThreads / kWarp; ++warp) all = Merge(all, of_warp[warp]);
  return all;
}

template <typename T>
__global__ void __launch_bounds__(kThreads)
    SoftmaxKernel(T* x, int64_t width, float scale_log2, bool aligned) {
  T* const row = x + int64_t{blockIdx.x} * width;
  const int64_t first = int64_t{threadIdx.x} * kVector;
  constexpr int64_t kStep = int64_t{kThreads} * kVector;
  Running mine;
  for (int64_t column = first; column < width; column += kStep) {
    const int64_t left = width - column;
    float v[kVector];
    Load(row + column, left, aligned && left >= kVector, v);
    Running these;
#pragma unroll
    for (int i = 0; i < kVector; ++i) {
      v[i] = i < left ? v[i] * scale_log2 : -INFINITY;
      these.largest = fmaxf(these.largest, v[i]);
    }
    const float base = these.largest == -INFINITY ? 0.0f : these.largest;
#pragma unroll
    for (int i = 0; i < kVector; ++i) these.sum += exp2f(v[i] - base);
    mine = Merge(mine, these);
  }
  const Running all = MergeBlock(mine);
  const float inverse = 1.0f / all.sum;
  for (int64_t column = first; column < width; column += kStep) {
    const int64_t left = width - column;
    const bool whole = aligned && left >= kVector;
    float v[kVector];
    Load(row + column, left, whole, v);
#pragma unroll
    for (int i = 0; i < kVector; ++i) v[i] = exp2f(v[i] * scale_log2 - all.largest) * inverse;
    Store(row + column, left, whole, v);
  }
}

template <typename T>
void LaunchSoftmax(T* x, const SoftmaxArgs& args, int64_t rows, cudaStream_t stream) {
  constexpr float kLog2E = 1.4426950408889634f;
  MRT_CHECK(rows < int64_t{1} << 31);
  const bool aligned = args.width % kVector == 0 && IsAligned(x);
  SoftmaxKernel<T><<<static_cast<unsigned>(rows), kThreads, 0, stream>>>(
      x, args.width, args.scale * kLog2E, aligned);
  CheckLaunch("the launch of a softmax");
}

}  // namespace

bool HaveKernels() {
  cudaFuncAttributes attributes = {};
  const cudaError_t error = cudaFuncGetAttributes(&attributes, SoftmaxKernel<float>);
  static_cast<void>(cudaGetLastError());
  return error == cudaSuccess;
}

void Softmax(const SoftmaxArgs& args, int64_t rows, cudaStream_t stream) {
  if (rows == 0 || args.width == 0) return;
  if (args.x.storage == StorageType::kF32)
    return LaunchSoftmax(static_cast<float*>(args.x.data), args, rows, stream);
  LaunchSoftmax(static_cast<__nv_bfloat16*>(args.x.data), args, rows, stream);
}

}  // namespace mrt::ops::cuda
