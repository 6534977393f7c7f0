#include "kernels/monarch/cuda/monarch.cuh"

namespace mrt {
template cudaError_t LaunchMonarch<64, 7, 1, 2>(const MonarchKernelArgs&, cudaStream_t);
}  // namespace mrt
