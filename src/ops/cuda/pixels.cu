// Values of pixels, eight for each thread.
#include "base/check.h"
#include "ops/cuda/check.h"
#include "ops/cuda/rowwise_kernels.h"
#include "ops/cuda/vectors.cuh"

namespace mrt::ops::cuda {
namespace {

constexpr int kThreads = 256;

unsigned BlocksFor(int64_t count) {
  const int64_t per_block = int64_t{kThreads} * kVector;
  MRT_CHECK(count / per_block < int64_t{1} << 31);
  return static_cast<unsigned>((count + per_block - 1) / per_block);
}

__device__ __forceinline__ int64_t FirstOfThread() {
  return (int64_t{blockIdx.x} * kThreads + threadIdx.x) * kVector;
}

__global__ void __launch_bounds__(kThreads) ClampKernel(const ClampArgs args, bool aligned) {
  const int64_t begin = FirstOfThread(), left = args.count - begin;
  if (left <= 0) return;
  const bool whole = aligned && left >= kVector;
  float v[kVector];
  Load(args.x + begin, left, whole, v);
#pragma unroll
  for (int i = 0; i < kVector; ++i)  // leaves NaN
    v[i] = v[i] < args.low ? args.low : v[i] > args.high ? args.high : v[i];
  Store(args.x + begin, left, whole, v);
}

__global__ void __launch_bounds__(kThreads) ToBytesKernel(const ToBytesArgs args, bool aligned) {
  const int64_t begin = FirstOfThread(), left = args.count - begin;
  if (left <= 0) return;
  const bool whole = aligned && left >= kVector;
  float v[kVector];
  Load(args.x + begin, left, whole, v);
  uint32_t bytes[kVector];
#pragma unroll
  for (int i = 0; i < kVector; ++i) {
    const float value = (v[i] - args.low) * args.scale;
    const float above = value > 0.0f ? value : 0.0f;  // false for NaN
    bytes[i] = __float2uint_rn(above < 255.0f ? above : 255.0f);
  }
  if (whole) {
    *reinterpret_cast<uint2*>(args.y + begin) =
        make_uint2(bytes[0] | bytes[1] << 8 | bytes[2] << 16 | bytes[3] << 24,
                   bytes[4] | bytes[5] << 8 | bytes[6] << 16 | bytes[7] << 24);
    return;
  }
#pragma unroll
  for (int i = 0; i < kVector; ++i)
    if (i < left) args.y[begin + i] = static_cast<uint8_t>(bytes[i]);
}

}  // namespace

void Clamp(const ClampArgs& args, cudaStream_t stream) {
  if (args.count == 0) return;
  ClampKernel<<<BlocksFor(args.count), kThreads, 0, stream>>>(args, IsAligned(args.x));
  CheckLaunch("the launch of a clamp");
}

void ToBytes(const ToBytesArgs& args, cudaStream_t stream) {
  if (args.count == 0) return;
  const bool aligned = IsAligned(args.x) && IsAligned(args.y);
  ToBytesKernel<<<BlocksFor(args.count), kThreads, 0, stream>>>(args, aligned);
  CheckLaunch("the launch of a conversion to bytes");
}

}  // namespace mrt::ops::cuda
