// What lanes do with the parts of a matrix product that ptx::Mma leaves in their registers.
#pragma once

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/common/cuda/ptx.cuh"

namespace mrt {

__device__ inline uint32_t PackBf16(float low, float high) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
  return *reinterpret_cast<const uint32_t*>(&pair);
}

template <StorageType kType>
__device__ __forceinline__ uint32_t Pack(float low, float high) {
  return kType == StorageType::kF16 ? ptx::PackF16(low, high) : PackBf16(low, high);
}

// What weights of a running softmax are multiplied by, as a power of two, so that small ones are
// not lost: with the lag of the maximum, 2^8, the largest are 2^15.
template <StorageType kType>
constexpr float kWeightShift = kType == StorageType::kF16 ? 7 : 0;

// Maximum or sum over the four lanes that hold a row.
__device__ inline float QuadMax(float x) {
  x = fmaxf(x, __shfl_xor_sync(~0u, x, 1));
  return fmaxf(x, __shfl_xor_sync(~0u, x, 2));
}
__device__ inline float QuadSum(float x) {
  x += __shfl_xor_sync(~0u, x, 1);
  return x + __shfl_xor_sync(~0u, x, 2);
}

// A logit that no key has: 2^(x - maximum) is 0, and 0 * x is not NaN.
constexpr float kMaskedLogit = -1e30f;

}  // namespace mrt
