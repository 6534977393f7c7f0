#include "kernels/monarch/cuda/back_columns.cuh"

namespace mrt {
template cudaError_t LaunchBackColumns<128, 32>(const MonarchBackKernelArgs&, int, cudaStream_t);
template cudaError_t LaunchBackColumns<128, 64>(const MonarchBackKernelArgs&, int, cudaStream_t);
}  // namespace mrt
