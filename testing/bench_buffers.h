// Memory with something in it, for the kernel benchmarks.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <memory>

#include "base/check.h"
#include "base/float16.h"

namespace mrt::testing {

struct FreeBuffer {
  void operator()(void* p) const { std::free(p); }
};
using BenchBuffer = std::unique_ptr<void, FreeBuffer>;

/// 64-byte aligned.
inline BenchBuffer AllocateBuffer(int64_t bytes) {
  constexpr int64_t kAlignment = 64;
  const int64_t rounded = (bytes / kAlignment + 1) * kAlignment;
  BenchBuffer buffer(std::aligned_alloc(kAlignment, static_cast<size_t>(rounded)));
  MRT_CHECK(buffer != nullptr);
  return buffer;
}

/// Values in [-1, 1); a linear congruential generator is random enough for timing.
inline BenchBuffer RandomBuffer(int64_t elements, bool bf16, uint32_t seed) {
  BenchBuffer buffer = AllocateBuffer(elements * (bf16 ? 2 : 4));
  for (int64_t i = 0; i < elements; ++i) {
    seed = seed * 1664525u + 1013904223u;
    const float x = static_cast<float>(static_cast<int32_t>(seed)) * 0x1p-31f;
    if (bf16) {
      static_cast<BFloat16*>(buffer.get())[i] = ToBFloat16(x);
    } else {
      static_cast<float*>(buffer.get())[i] = x;
    }
  }
  return buffer;
}

}  // namespace mrt::testing
