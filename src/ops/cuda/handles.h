// Owners of CUDA's objects. Only here are they destroyed.
#pragma once

#include <memory>
#include <type_traits>

#include "ops/cuda/check.h"
#include "tensor/memory_meter.h"

namespace mrt::ops {

template <auto Destroy>
struct DestroyWith {
  template <typename T>
  void operator()(T* handle) const noexcept {
    static_cast<void>(Destroy(handle));
  }
};
/// Of a handle type that is a pointer.
template <typename Handle, auto Destroy>
using Owner = std::unique_ptr<std::remove_pointer_t<Handle>, DestroyWith<Destroy>>;

using StreamOwner = Owner<cudaStream_t, cudaStreamDestroy>;
using EventOwner = Owner<cudaEvent_t, cudaEventDestroy>;
using PinnedOwner = Owner<void*, static_cast<cudaError_t (*)(void*)>(cudaFreeHost)>;

/// Waits for the work that uses the memory. Nobody could do anything about an error.
struct FreeOnDevice {
  MemoryMeter* meter = nullptr;  // has seen its allocation
  void operator()(void* data) const noexcept {
    meter->Freed(data);
    static_cast<void>(cudaFree(data));
  }
};
using DeviceOwner = std::unique_ptr<void, FreeOnDevice>;

/// The meter outlives the memory. Throws std::bad_alloc.
inline DeviceOwner AllocateOnDevice(int64_t bytes, MemoryMeter& meter) {
  void* data = nullptr;
  CheckCuda("cudaMalloc", cudaMalloc(&data, static_cast<size_t>(bytes)));
  DeviceOwner memory(data, {&meter});
  meter.Allocated(data, bytes);
  return memory;
}

}  // namespace mrt::ops
