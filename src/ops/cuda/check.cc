#include "ops/cuda/check.h"

#include <new>
#include <stdexcept>
#include <string>

namespace mrt::ops {

void CheckCuda(const char* call, cudaError_t error) {
  if (error == cudaSuccess) return;
  static_cast<void>(cudaGetLastError());  // else the next check would see it again
  if (error == cudaErrorMemoryAllocation) throw std::bad_alloc();
  throw std::runtime_error(std::string("[cuda] ") + call + " says " + cudaGetErrorString(error));
}

void CheckCublas(const char* call, cublasStatus_t status) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  if (status == CUBLAS_STATUS_ALLOC_FAILED) throw std::bad_alloc();
  throw std::runtime_error(std::string("[cuda] ") + call + " says " +
                           cublasLtGetStatusString(status));
}

}  // namespace mrt::ops
