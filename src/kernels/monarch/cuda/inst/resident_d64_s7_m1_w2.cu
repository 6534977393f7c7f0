#include "kernels/monarch/cuda/resident.cuh"

namespace mrt {
template cudaError_t LaunchResident<5>(const MonarchKernelArgs&, cudaStream_t);
}  // namespace mrt
