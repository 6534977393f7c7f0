// Device memory for tests and benchmarks.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <memory>

#include "base/check.h"

namespace mrt {

struct DeviceFree {
  void operator()(void* p) const { static_cast<void>(cudaFree(p)); }
};
using DeviceBuffer = std::unique_ptr<void, DeviceFree>;

inline DeviceBuffer AllocateDevice(int64_t bytes) {
  void* p = nullptr;
  MRT_CHECK(cudaMalloc(&p, static_cast<size_t>(bytes)) == cudaSuccess);
  return DeviceBuffer(p);
}

inline DeviceBuffer ToDevice(const void* host, int64_t bytes) {
  DeviceBuffer buffer = AllocateDevice(bytes);
  MRT_CHECK(cudaMemcpy(buffer.get(), host, static_cast<size_t>(bytes), cudaMemcpyHostToDevice) ==
            cudaSuccess);
  return buffer;
}

}  // namespace mrt
