#include "kernels/monarch/cuda/pass_across.cuh"
#include "kernels/monarch/cuda/pass_refine.cuh"

namespace mrt {
template cudaError_t LaunchPassAcross<128, 1, false>(const MonarchKernelArgs&, int, cudaStream_t);
template cudaError_t LaunchPassAcross<128, 1, true>(const MonarchKernelArgs&, int, cudaStream_t);
template cudaError_t LaunchPassAcross<128, 2, false>(const MonarchKernelArgs&, int, cudaStream_t);
template cudaError_t LaunchPassAcross<128, 2, true>(const MonarchKernelArgs&, int, cudaStream_t);
template cudaError_t LaunchPassAcross<128, 3, false>(const MonarchKernelArgs&, int, cudaStream_t);
template cudaError_t LaunchPassAcross<128, 3, true>(const MonarchKernelArgs&, int, cudaStream_t);
template cudaError_t LaunchPassRefine<128>(const MonarchKernelArgs&, int, cudaStream_t);
}  // namespace mrt
