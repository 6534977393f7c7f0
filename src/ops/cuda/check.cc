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

}  // namespace mrt::ops
