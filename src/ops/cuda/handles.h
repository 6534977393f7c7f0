// Owners of CUDA's objects. Only here are they destroyed.
#pragma once

#include <memory>
#include <type_traits>

#include "ops/cuda/check.h"

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
using DeviceOwner = Owner<void*, static_cast<cudaError_t (*)(void*)>(cudaFree)>;
using PinnedOwner = Owner<void*, static_cast<cudaError_t (*)(void*)>(cudaFreeHost)>;

/// Throws std::bad_alloc.
inline DeviceOwner AllocateOnDevice(int64_t bytes) {
  void* data = nullptr;
  CheckCuda("cudaMalloc", cudaMalloc(&data, static_cast<size_t>(bytes)));
  return DeviceOwner(data);
}

}  // namespace mrt::ops
