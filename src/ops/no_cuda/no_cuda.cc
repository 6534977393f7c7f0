// What a build without CUDA says instead of ops/cuda/.
#include "ops/backend.h"

namespace mrt::ops {

std::vector<GpuDescription> ListGpus() { return {}; }

Result<std::unique_ptr<Backend>> MakeCudaBackend(int /*index*/) {
  return Unavailable("[device] this build has no CUDA, need one with -DMRT_CUDA=ON");
}

}  // namespace mrt::ops
