// Which GPUs there are, and a backend on one of them.
#include <exception>
#include <new>
#include <string>

#include "ops/cuda/cuda_backend.h"
#include "ops/cuda/rowwise_kernels.h"

namespace mrt::ops {
namespace {

/// How many devices; 0 with the reason if CUDA cannot say.
int CountDevices(std::string& reason) {
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error == cudaSuccess && count > 0) return count;
  static_cast<void>(cudaGetLastError());
  reason = error == cudaSuccess
               ? "CUDA finds no GPU"
               : std::string("cudaGetDeviceCount says ") + cudaGetErrorString(error);
  return 0;
}

}  // namespace

std::vector<GpuDescription> ListGpus() {
  std::vector<GpuDescription> gpus;
  std::string reason;
  const int count = CountDevices(reason);
  int current = 0;
  if (count > 0) static_cast<void>(cudaGetDevice(&current));
  for (int index = 0; index < count; ++index) {
    cudaDeviceProp properties = {};
    size_t available = 0, total = 0;
    // One that is lent to somebody else refuses: then it is not for us.
    if (cudaGetDeviceProperties(&properties, index) == cudaSuccess &&
        cudaSetDevice(index) == cudaSuccess && cudaMemGetInfo(&available, &total) == cudaSuccess)
      gpus.push_back({.index = index,
                      .name = properties.name,
                      .memory_total_bytes = static_cast<int64_t>(total),
                      .memory_available_bytes = static_cast<int64_t>(available)});
    static_cast<void>(cudaGetLastError());
  }
  if (count > 0) static_cast<void>(cudaSetDevice(current));
  return gpus;
}

Result<std::unique_ptr<Backend>> MakeCudaBackend(int index) {
  std::string reason;
  const int count = CountDevices(reason);
  if (count == 0) return Unavailable("[device] " + reason);
  if (index < 0 || index >= count)
    return Unavailable("[device] got GPU " + std::to_string(index) + ", need 0 to " +
                       std::to_string(count - 1));
  try {
    auto backend = std::make_unique<CudaBackend>(index);
    if (!cuda::HaveKernels())
      return Unavailable("[device] this build has no kernels for GPU " + std::to_string(index));
    return std::unique_ptr<Backend>(std::move(backend));
  } catch (const std::bad_alloc&) {
    return OutOfMemory("[device] GPU " + std::to_string(index) + " has no memory left");
  } catch (const std::exception& error) {
    return Unavailable(error.what());
  }
}

}  // namespace mrt::ops
