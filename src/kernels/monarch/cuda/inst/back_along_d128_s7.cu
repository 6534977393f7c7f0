#include "kernels/monarch/cuda/back_along.cuh"

namespace mrt {
template cudaError_t LaunchBackAlong<128, 7>(const MonarchBackKernelArgs&, int, cudaStream_t);
}  // namespace mrt
