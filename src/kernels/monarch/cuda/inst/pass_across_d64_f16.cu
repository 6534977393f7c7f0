#include "kernels/monarch/cuda/pass_across.cuh"
#include "kernels/monarch/cuda/pass_refine.cuh"

namespace mrt {
template cudaError_t LaunchPassAcross<64, 1, false, StorageType::kF16>(const MonarchKernelArgs&,
                                                                       int, cudaStream_t);
template cudaError_t LaunchPassAcross<64, 1, true, StorageType::kF16>(const MonarchKernelArgs&, int,
                                                                      cudaStream_t);
template cudaError_t LaunchPassAcross<64, 2, false, StorageType::kF16>(const MonarchKernelArgs&,
                                                                       int, cudaStream_t);
template cudaError_t LaunchPassAcross<64, 2, true, StorageType::kF16>(const MonarchKernelArgs&, int,
                                                                      cudaStream_t);
template cudaError_t LaunchPassAcross<64, 3, false, StorageType::kF16>(const MonarchKernelArgs&,
                                                                       int, cudaStream_t);
template cudaError_t LaunchPassAcross<64, 3, true, StorageType::kF16>(const MonarchKernelArgs&, int,
                                                                      cudaStream_t);
template cudaError_t LaunchPassRefine<64, StorageType::kF16>(const MonarchKernelArgs&, int,
                                                             cudaStream_t);
template cudaError_t LaunchPassSumsRefine<64, StorageType::kF16>(const MonarchKernelArgs&, int,
                                                                 cudaStream_t);
}  // namespace mrt
