#include "kernels/monarch/cuda/monarch.cuh"

namespace mrt {
template cudaError_t LaunchMonarch<128, 16, 1, 1>(const MonarchKernelArgs&, cudaStream_t);
}  // namespace mrt
