// Errors of the CUDA runtime as Status.
#pragma once

#include <cuda_runtime.h>

#include <string>

#include "base/status.h"

namespace mrt {

/// Ok for cudaSuccess; else "[where] call says ...": Unavailable if there is no device or driver,
/// or the program has no code for the device.
inline Status FromCuda(const char* where, const char* call, cudaError_t error) {
  if (error == cudaSuccess) return {};
  const std::string message =
      std::string("[") + where + "] " + call + " says " + cudaGetErrorString(error);
  if (error == cudaErrorNoDevice || error == cudaErrorInsufficientDriver ||
      error == cudaErrorNoKernelImageForDevice)
    return Unavailable(message);
  return Internal(message);
}

}  // namespace mrt
