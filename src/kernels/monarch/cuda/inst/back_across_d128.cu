#include "kernels/monarch/cuda/back_across.cuh"

namespace mrt {
template cudaError_t LaunchBackAcross<128>(const MonarchBackKernelArgs&, int, cudaStream_t);
template cudaError_t LaunchBackMeans<128>(const MonarchBackKernelArgs&, int, cudaStream_t);
}  // namespace mrt
