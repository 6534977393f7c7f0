#include "kernels/monarch/cuda/pass_across.cuh"
#include "kernels/monarch/cuda/pass_refine.cuh"

namespace mrt {
template cudaError_t LaunchPassAcross<128, 1, false, StorageType::kBF16>(const MonarchKernelArgs&,
                                                                         int, cudaStream_t);
template cudaError_t LaunchPassAcross<128, 1, true, StorageType::kBF16>(const MonarchKernelArgs&,
                                                                        int, cudaStream_t);
template cudaError_t LaunchPassAcross<128, 2, false, StorageType::kBF16>(const MonarchKernelArgs&,
                                                                         int, cudaStream_t);
template cudaError_t LaunchPassAcross<128, 2, true, StorageType::kBF16>(const MonarchKernelArgs&,
                                                                        int, cudaStream_t);
template cudaError_t LaunchPassAcross<128, 3, false, StorageType::kBF16>(const MonarchKernelArgs&,
                                                                         int, cudaStream_t);
template cudaError_t LaunchPassAcross<128, 3, true, StorageType::kBF16>(const MonarchKernelArgs&,
                                                                        int, cudaStream_t);
template cudaError_t LaunchPassRefine<128, StorageType::kBF16>(const MonarchKernelArgs&, int,
                                                               cudaStream_t);
template cudaError_t LaunchPassSumsRefine<128, StorageType::kBF16>(const MonarchKernelArgs&, int,
                                                                   cudaStream_t);
}  // namespace mrt
