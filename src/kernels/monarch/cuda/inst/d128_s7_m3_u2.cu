#include "kernels/monarch/cuda/monarch.cuh"

namespace mrt {
template cudaError_t LaunchMonarch<128, 7, 3, 2>(const MonarchKernelArgs&, cudaStream_t);
}  // namespace mrt
