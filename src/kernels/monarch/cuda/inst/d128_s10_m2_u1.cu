#include "kernels/monarch/cuda/monarch.cuh"

namespace mrt {
template cudaError_t LaunchMonarch<128, 10, 2, 1>(const MonarchKernelArgs&, cudaStream_t);
}  // namespace mrt
