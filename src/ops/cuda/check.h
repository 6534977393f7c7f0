// Turns what CUDA's runtime returns into the exceptions of ops/backend.h.
#pragma once

#include <cuda_runtime.h>

namespace mrt::ops {

/// Throws std::bad_alloc for lack of device memory, else std::runtime_error with the call's name
/// and CUDA's words.
void CheckCuda(const char* call, cudaError_t error);

/// After every kernel launch: whether it was accepted.
inline void CheckLaunch(const char* kernel) { CheckCuda(kernel, cudaGetLastError()); }

}  // namespace mrt::ops
