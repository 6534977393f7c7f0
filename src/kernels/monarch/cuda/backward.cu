// RunMonarchBackwardCuda: the passes of back_columns.cuh or back_across.cuh, then back_runs.cuh
// or back_along.cuh.
#include <algorithm>
#include <cmath>

#include "kernels/common/cuda/status.h"
#include "kernels/monarch/cuda/back_args.cuh"
#include "kernels/monarch/cuda/backward_plan.h"
#include "kernels/monarch/cuda/monarch_cuda.h"

namespace mrt {
namespace {

using BackLauncher = cudaError_t (*)(const MonarchBackKernelArgs&, int, cudaStream_t);

// The kernels for one of kMonarchPassKernels.
struct BackKernels {
  cudaError_t (*average)(const MonarchKernelArgs&, int, cudaStream_t);
  BackLauncher columns[2];  // of at most 32 and 64 rows
  BackLauncher across;
  BackLauncher means;
  BackLauncher along;
  BackLauncher runs;
};

template <int kIndex>
constexpr BackKernels MakeBackKernels() {
  constexpr MonarchPassKernel kKernel = kMonarchPassKernels[kIndex];
  return {LaunchPassAverage<kIndex, AverageKind::kPass, StorageType::kBF16>,
          {LaunchBackColumns<kKernel.head_dim, 32>, LaunchBackColumns<kKernel.head_dim, 64>},
          LaunchBackAcross<kKernel.head_dim>,
          LaunchBackMeans<kKernel.head_dim>,
          LaunchBackAlong<kKernel.head_dim, kKernel.score_tiles>,
          LaunchBackRuns<kKernel.head_dim>};
}
// Of those for at most 80 columns, with the index of each.
constexpr struct {
  int index;
  BackKernels kernels;
} kBackKernels[] = {{0, MakeBackKernels<0>()},
                    {1, MakeBackKernels<1>()},
                    {3, MakeBackKernels<3>()},
                    {4, MakeBackKernels<4>()}};

cudaError_t LaunchAll(MonarchBackKernelArgs args, cudaStream_t stream) {
  const MonarchCudaPlan& plan = args.forward.plan;
  const auto* found = std::find_if(std::begin(kBackKernels), std::end(kBackKernels),
                                   [&](const auto& k) { return k.index == plan.passes; });
  const BackKernels& kernels = found->kernels;
  const int b1 = args.forward.b1;
  const int pairs = args.forward.heads * plan.groups;
  for (int& first = args.forward.first_pair; first < pairs; first += plan.pass_pairs) {
    const int count = std::min(plan.pass_pairs, pairs - first);
    cudaError_t error = kernels.average(args.forward, count, stream);
    const auto run = [&](BackLauncher pass) {
      if (error == cudaSuccess) error = pass(args, count, stream);
    };
    if (args.one_pass) {
      run(kernels.columns[b1 > 32]);
    } else {
      run(kernels.across);
      run(kernels.means);
    }
    run(args.runs ? kernels.runs : kernels.along);
    if (error != cudaSuccess) return error;
  }
  return cudaSuccess;
}

Result<MonarchBackwardCudaPlan> BackwardPlanHere(const MonarchShape& shape) {
  MRT_RETURN_IF_ERROR(ValidateMonarch(shape));
  MRT_ASSIGN_OR_RETURN(const GpuLimits gpu, CurrentGpu());
  return PlanMonarchBackwardCuda(shape, gpu);
}

}  // namespace

Result<int64_t> MonarchBackwardCudaScratchBytes(const MonarchShape& shape) {
  MRT_ASSIGN_OR_RETURN(const MonarchBackwardCudaPlan plan, BackwardPlanHere(shape));
  return plan.scratch_bytes;
}

Status RunMonarchBackwardCuda(const MonarchBackwardArgs& args, CUstream_st* stream) {
  const MonarchShape& s = args.shape;
  MRT_ASSIGN_OR_RETURN(const MonarchBackwardCudaPlan plan, BackwardPlanHere(s));
  // d_q in the place of the output: no kernel of the backward pass writes that.
  const MonarchArgs forward = {.shape = s,
                               .q = args.q,
                               .k_frames = args.k_frames,
                               .v_frames = args.v_frames,
                               .out = args.d_q,
                               .scratch = args.scratch};
  MRT_RETURN_IF_ERROR(ValidateMonarchPointers(forward));
  constexpr uintptr_t kTensorBytes = 16;
  const auto aligned = [](const void* p) {
    return p != nullptr && reinterpret_cast<uintptr_t>(p) % kTensorBytes == 0;
  };
  bool all = aligned(args.d_out) && args.d_k_frames != nullptr && args.d_v_frames != nullptr;
  for (int f = 0; all && f < s.frames_kv; ++f)
    all = aligned(args.d_k_frames[f]) && aligned(args.d_v_frames[f]);
  if (!all) return InvalidArgument("[monarch] got a null or misaligned gradient, need 16 bytes");
  MonarchBackKernelArgs k;
  k.forward = MonarchKernelArgsOf(forward, plan.forward);
  char* scratch = static_cast<char*>(args.scratch);
  k.forward.log_sums = reinterpret_cast<float*>(scratch + plan.log_sums_begin);
  k.deltas = reinterpret_cast<float*>(scratch + plan.deltas_begin);
  k.one_pass = s.b1() <= 64;
  k.runs = plan.runs;
  k.scale = 1 / std::sqrt(static_cast<float>(s.head_dim));
  k.d_out = static_cast<const Bits16*>(args.d_out);
  k.d_q = args.d_q;
  std::copy_n(args.d_k_frames, s.frames_kv, k.d_k_frames);
  std::copy_n(args.d_v_frames, s.frames_kv, k.d_v_frames);
  return FromCuda("monarch", "a kernel launch", LaunchAll(k, stream));
}

}  // namespace mrt
