#include "kernels/monarch/cuda/back_across.cuh"

namespace mrt {
template cudaError_t LaunchBackAcross<64, 1>(const MonarchBackKernelArgs&, int, cudaStream_t);
template cudaError_t LaunchBackAcross<64, 2>(const MonarchBackKernelArgs&, int, cudaStream_t);
template cudaError_t LaunchBackMeans<64>(const MonarchBackKernelArgs&, int, cudaStream_t);
}  // namespace mrt
