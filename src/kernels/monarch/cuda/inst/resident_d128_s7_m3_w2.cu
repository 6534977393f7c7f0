#include "kernels/monarch/cuda/resident.cuh"

namespace mrt {
template cudaError_t LaunchResident<0>(const MonarchKernelArgs&, cudaStream_t);
}  // namespace mrt
