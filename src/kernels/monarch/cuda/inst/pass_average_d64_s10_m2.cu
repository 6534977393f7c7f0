#include "kernels/monarch/cuda/pass_average.cuh"

namespace mrt {
template cudaError_t LaunchPassAverage<4, AverageKind::kPass>(const MonarchKernelArgs&, int,
                                                              cudaStream_t);
template cudaError_t LaunchPassAverage<4, AverageKind::kPassKbar>(const MonarchKernelArgs&, int,
                                                                  cudaStream_t);
template cudaError_t LaunchPassAverage<4, AverageKind::kPassRefined>(const MonarchKernelArgs&, int,
                                                                     cudaStream_t);
}  // namespace mrt
