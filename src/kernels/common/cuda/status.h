// Errors of the CUDA runtime as Status.
#pragma once

#include <cuda_runtime.h>

#include <string>

#include "base/status.h"

namespace mrt {

/// Ok for cudaSuccess; else "[where] call says ...": Unavailable if there is no device or driver,
/// or the program has no code for the device; OutOfMemory for lack of the device's.
inline Status FromCuda(const char* where, const char* call, cudaError_t error) {
  if (error == cudaSuccess) return {};
  static_cast<void>(cudaGetLastError());  // else whoever asks next would take it for theirs
  const std::string message =
      std::string("[") + where + "] " + call + " says " + cudaGetErrorString(error);
  if (error == cudaErrorNoDevice || error == cudaErrorInsufficientDriver ||
      error == cudaErrorNoKernelImageForDevice)
    return Unavailable(message);
  if (error == cudaErrorMemoryAllocation) return OutOfMemory(message);
  return Internal(message);
}

}  // namespace mrt
