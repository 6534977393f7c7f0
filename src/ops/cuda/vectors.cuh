// Eight elements of a row at a time: 16 bytes of bfloat16, 32 of float32.
#pragma once

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <cstdint>

namespace mrt::ops::cuda {

inline constexpr int kVector = 8;  // elements

/// Whether rows of `width` elements at `data` start where whole vectors may be read.
inline bool IsAligned(const void* data) { return reinterpret_cast<uintptr_t>(data) % 16 == 0; }

__device__ __forceinline__ float ToFloat(float x) { return x; }
__device__ __forceinline__ float ToFloat(__nv_bfloat16 x) { return __bfloat162float(x); }
__device__ __forceinline__ void FromFloat(float x, float* y) { *y = x; }
__device__ __forceinline__ void FromFloat(float x, __nv_bfloat16* y) {
  *y = __float2bfloat16_rn(x);
}

__device__ __forceinline__ void LoadVector(const float* p, float (&v)[kVector]) {
  const float4 a = reinterpret_cast<const float4*>(p)[0];
  const float4 b = reinterpret_cast<const float4*>(p)[1];
  v[0] = a.x, v[1] = a.y, v[2] = a.z, v[3] = a.w;
  v[4] = b.x, v[5] = b.y, v[6] = b.z, v[7] = b.w;
}

__device__ __forceinline__ void LoadVector(const __nv_bfloat16* p, float (&v)[kVector]) {
  const uint4 words = *reinterpret_cast<const uint4*>(p);
  const uint32_t pairs[4] = {words.x, words.y, words.z, words.w};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    v[2 * i] = __uint_as_float(pairs[i] << 16);
    v[2 * i + 1] = __uint_as_float(pairs[i] & 0xffff0000u);
  }
}

__device__ __forceinline__ void StoreVector(float* p, const float (&v)[kVector]) {
  reinterpret_cast<float4*>(p)[0] = make_float4(v[0], v[1], v[2], v[3]);
  reinterpret_cast<float4*>(p)[1] = make_float4(v[4], v[5], v[6], v[7]);
}

__device__ __forceinline__ void StoreVector(__nv_bfloat16* p, const float (&v)[kVector]) {
  uint32_t pairs[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const __nv_bfloat162 pair = __floats2bfloat162_rn(v[2 * i], v[2 * i + 1]);
    pairs[i] = *reinterpret_cast<const uint32_t*>(&pair);
  }
  *reinterpret_cast<uint4*>(p) = make_uint4(pairs[0], pairs[1], pairs[2], pairs[3]);
}

/// The first `count` of eight elements; zeros for the rest. `whole`: count is at least 8, and p is
/// aligned to 16 bytes.
template <typename T>
__device__ __forceinline__ void Load(const T* p, int64_t count, bool whole, float (&v)[kVector]) {
  if (whole) return LoadVector(p, v);
#pragma unroll
  for (int i = 0; i < kVector; ++i) v[i] = i < count ? ToFloat(p[i]) : 0.0f;
}

template <typename T>
__device__ __forceinline__ void Store(T* p, int64_t count, bool whole, const float (&v)[kVector]) {
  if (whole) return StoreVector(p, v);
#pragma unroll
  for (int i = 0; i < kVector; ++i)
    if (i < count) FromFloat(v[i], p + i);
}

__device__ __forceinline__ float Silu(float x) { return x / (1.0f + __expf(-x)); }

}  // namespace mrt::ops::cuda
