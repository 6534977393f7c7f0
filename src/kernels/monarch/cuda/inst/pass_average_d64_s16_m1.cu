#include "kernels/monarch/cuda/pass_average.cuh"

namespace mrt {
template cudaError_t LaunchPassAverage<5, AverageKind::kPass, StorageType::kBF16>(
    const MonarchKernelArgs&, int, cudaStream_t);
template cudaError_t LaunchPassAverage<5, AverageKind::kPassKbar, StorageType::kBF16>(
    const MonarchKernelArgs&, int, cudaStream_t);
template cudaError_t LaunchPassAverage<5, AverageKind::kPassRefined, StorageType::kBF16>(
    const MonarchKernelArgs&, int, cudaStream_t);
}  // namespace mrt
