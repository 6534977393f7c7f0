#include "kernels/monarch/cuda/back_across.cuh"

namespace mrt {
template cudaError_t LaunchBackAcross<64>(const MonarchBackKernelArgs&, int, cudaStream_t);
template cudaError_t LaunchBackMeans<64>(const MonarchBackKernelArgs&, int, cudaStream_t);
}  // namespace mrt
