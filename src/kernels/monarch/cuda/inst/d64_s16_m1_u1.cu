#include "kernels/monarch/cuda/monarch.cuh"

namespace mrt {
template cudaError_t LaunchMonarch<64, 16, 1, 1>(const MonarchKernelArgs&, cudaStream_t);
}  // namespace mrt
