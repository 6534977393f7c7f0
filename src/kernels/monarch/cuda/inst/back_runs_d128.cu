#include "kernels/monarch/cuda/back_runs.cuh"

namespace mrt {
template cudaError_t LaunchBackRuns<128>(const MonarchBackKernelArgs&, int, cudaStream_t);
}  // namespace mrt
