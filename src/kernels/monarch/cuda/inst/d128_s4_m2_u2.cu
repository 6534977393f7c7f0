#include "kernels/monarch/cuda/monarch.cuh"

namespace mrt {
template cudaError_t LaunchMonarch<128, 4, 2, 2>(const MonarchKernelArgs&, cudaStream_t);
}  // namespace mrt
