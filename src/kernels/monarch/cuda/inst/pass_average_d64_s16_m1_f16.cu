#include "kernels/monarch/cuda/pass_average.cuh"

namespace mrt {
template cudaError_t LaunchPassAverage<5, AverageKind::kPass, StorageType::kF16>(
    const MonarchKernelArgs&, int, cudaStream_t);
template cudaError_t LaunchPassAverage<5, AverageKind::kPassKbar, StorageType::kF16>(
    const MonarchKernelArgs&, int, cudaStream_t);
template cudaError_t LaunchPassAverage<5, AverageKind::kPassRefined, StorageType::kF16>(
    const MonarchKernelArgs&, int, cudaStream_t);
}  // namespace mrt
