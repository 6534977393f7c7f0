// What benchmarks of CUDA kernels share.
#pragma once

#include <algorithm>
#include <cstdio>
#include <vector>

#include "base/float16.h"
#include "kernels/common/cuda/device_buffer.cuh"

namespace mrt {

/// Numbers between -1 and 1 that repeat after a million.
inline DeviceBuffer RandomOnDevice(int64_t elements) {
  constexpr int64_t kPeriod = 1 << 20;
  std::vector<BFloat16> period(static_cast<size_t>(std::min(elements, kPeriod)));
  uint32_t seed = 1;
  for (BFloat16& x : period) {
    seed = seed * 1664525u + 1013904223u;
    x = ToBFloat16(static_cast<float>(static_cast<int32_t>(seed)) * 0x1p-31f);
  }
  DeviceBuffer buffer = AllocateDevice(2 * elements);
  for (int64_t begin = 0; begin < elements; begin += kPeriod) {
    const int64_t bytes = 2 * std::min(kPeriod, elements - begin);
    MRT_CHECK(cudaMemcpy(static_cast<char*>(buffer.get()) + 2 * begin, period.data(),
                         static_cast<size_t>(bytes), cudaMemcpyHostToDevice) == cudaSuccess);
  }
  return buffer;
}

/// Median of 20 runs after 3, in milliseconds, between events of the default stream. `run` returns
/// a Status.
template <typename Run>
double MedianMs(Run&& run) {
  constexpr int kWarmUp = 3, kRuns = 20;
  cudaEvent_t begin = nullptr, end = nullptr;
  MRT_CHECK(cudaEventCreate(&begin) == cudaSuccess && cudaEventCreate(&end) == cudaSuccess);
  std::vector<float> times;
  for (int n = 0; n < kWarmUp + kRuns; ++n) {
    MRT_CHECK(cudaEventRecord(begin, nullptr) == cudaSuccess);
    MRT_CHECK(run().ok());
    MRT_CHECK(cudaEventRecord(end, nullptr) == cudaSuccess);
    MRT_CHECK(cudaEventSynchronize(end) == cudaSuccess);
    float ms = 0;
    MRT_CHECK(cudaEventElapsedTime(&ms, begin, end) == cudaSuccess);
    if (n >= kWarmUp) times.push_back(ms);
  }
  static_cast<void>(cudaEventDestroy(begin));
  static_cast<void>(cudaEventDestroy(end));
  std::sort(times.begin(), times.end());
  return times[times.size() / 2];
}

}  // namespace mrt
