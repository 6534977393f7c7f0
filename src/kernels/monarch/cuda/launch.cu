#include "kernels/monarch/cuda/launch.cuh"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <iterator>
#include <numbers>
#include <string>
#include <utility>

#include "kernels/common/cuda/status.h"
#include "kernels/monarch/cuda/monarch_cuda.h"
#include "kernels/monarch/tiling.h"

namespace mrt {
namespace {

using Launcher = cudaError_t (*)(const MonarchKernelArgs&, cudaStream_t);

template <size_t... n>
constexpr std::array<Launcher, sizeof...(n)> MakeLaunchers(std::index_sequence<n...>) {
  return {LaunchMonarch<kMonarchCudaKernels[n].head_dim, kMonarchCudaKernels[n].score_tiles,
                        kMonarchCudaKernels[n].average_row_tiles,
                        kMonarchCudaKernels[n].across_row_tiles>...};
}
constexpr auto kLaunchers =
    MakeLaunchers(std::make_index_sequence<std::size(kMonarchCudaKernels)>());

template <size_t... n>
constexpr std::array<Launcher, sizeof...(n)> MakeResidentLaunchers(std::index_sequence<n...>) {
  return {LaunchResident<static_cast<int>(n)>...};
}
constexpr auto kResidentLaunchers =
    MakeResidentLaunchers(std::make_index_sequence<std::size(kMonarchResidentKernels)>());

using PassLauncher = cudaError_t (*)(const MonarchKernelArgs&, int, cudaStream_t);

template <AverageKind kKind, StorageType kType, size_t... n>
constexpr std::array<PassLauncher, sizeof...(n)> MakePassLaunchers(std::index_sequence<n...>) {
  return {LaunchPassAverage<static_cast<int>(n), kKind, kType>...};
}
template <AverageKind kKind, StorageType kType>
constexpr auto kPassAverages =
    MakePassLaunchers<kKind, kType>(std::make_index_sequence<std::size(kMonarchPassKernels)>());

// By whether only sums are asked for, and warpgroups - 1.
template <int kHeadDim, StorageType kType>
constexpr PassLauncher kPassAcross[2][3] = {
    {LaunchPassAcross<kHeadDim, 1, false, kType>, LaunchPassAcross<kHeadDim, 2, false, kType>,
     LaunchPassAcross<kHeadDim, 3, false, kType>},
    {LaunchPassAcross<kHeadDim, 1, true, kType>, LaunchPassAcross<kHeadDim, 2, true, kType>,
     LaunchPassAcross<kHeadDim, 3, true, kType>}};

// All passes over all pairs, one after another on the stream.
template <StorageType kType>
cudaError_t LaunchPasses(MonarchKernelArgs args, cudaStream_t stream) {
  const MonarchCudaPlan& plan = args.plan;
  const bool wide = kMonarchPassKernels[plan.passes].head_dim == 128;
  const auto& across = wide ? kPassAcross<128, kType> : kPassAcross<64, kType>;
  const PassLauncher sums = across[1][plan.warpgroups - 1];
  const PassLauncher refine = wide ? LaunchPassRefine<128, kType> : LaunchPassRefine<64, kType>;
  const PassLauncher sums_refine =
      wide ? LaunchPassSumsRefine<128, kType> : LaunchPassSumsRefine<64, kType>;
  const auto& first = plan.iterations == 1 ? kPassAverages<AverageKind::kPass, kType>
                                           : kPassAverages<AverageKind::kPassKbar, kType>;
  const int pairs = args.heads * plan.groups;
  for (; args.first_pair < pairs; args.first_pair += plan.pass_pairs) {
    const int count = std::min(plan.pass_pairs, pairs - args.first_pair);
    const int columns = count * plan.group_tiles * args.b2;
    args.first_kept = columns - plan.kept, args.first_dropped = columns - plan.dropped;
    cudaError_t error = cudaSuccess;
    const auto run = [&](PassLauncher pass) {
      if (error == cudaSuccess) error = pass(args, count, stream);
    };
    run(first[plan.passes]);
    for (int n = 1; n < plan.iterations; ++n) {
      if (plan.own_sums) {
        run(sums_refine);
      } else {
        run(sums);
        run(refine);
      }
      run(kPassAverages<AverageKind::kPassRefined, kType>[plan.passes]);
    }
    run(across[0][plan.warpgroups - 1]);
    if (error != cudaSuccess) return error;
  }
  return cudaSuccess;
}

Result<MonarchCudaPlan> PlanHere(const MonarchShape& shape) {
  MRT_RETURN_IF_ERROR(ValidateMonarch(shape));
  MRT_ASSIGN_OR_RETURN(const GpuLimits gpu, CurrentGpu());
  const char* forced = std::getenv("MRT_MONARCH_CUDA_IMPL");
  return PickMonarchCudaPlan(shape, gpu, forced == nullptr ? "" : forced);
}

}  // namespace

Status ValidateMonarchPointers(const MonarchArgs& args) {
  constexpr uintptr_t kTensorBytes = 16, kScratchBytes = 256;
  const auto aligned = [](const void* p, uintptr_t bytes) {
    return p != nullptr && reinterpret_cast<uintptr_t>(p) % bytes == 0;
  };
  bool all = aligned(args.q, kTensorBytes) && aligned(args.out, kTensorBytes) &&
             aligned(args.scratch, kScratchBytes) && args.k_frames != nullptr &&
             args.v_frames != nullptr;
  for (int f = 0; all && f < args.shape.frames_kv; ++f)
    all = aligned(args.k_frames[f], kTensorBytes) && aligned(args.v_frames[f], kTensorBytes);
  if (all) return {};
  return InvalidArgument(
      "[monarch] got a null or misaligned pointer, need tensors at 16 bytes and scratch at 256");
}

MonarchKernelArgs MonarchKernelArgsOf(const MonarchArgs& args, const MonarchCudaPlan& plan) {
  const MonarchShape& s = args.shape;
  char* scratch = static_cast<char*>(args.scratch);
  MonarchKernelArgs k;
  k.plan = plan;
  k.heads = s.heads;
  k.b1 = s.b1(), k.b2 = s.b2();
  k.cols = s.cols;
  k.frame_tokens = s.rows * s.cols;
  k.f_tied = s.f_tied;
  k.tile_rows = s.rows / s.h_reduce;
  k.causal_block_tiles = static_cast<int>(TileCount(s, s.causal_block_frames));
  k.scale_log2 = static_cast<float>(std::numbers::log2e / std::sqrt(double(s.head_dim)));
  k.by_b1 = FastDivisor(s.b1()), k.by_b2 = FastDivisor(s.b2());
  k.by_tile_rows = FastDivisor(k.tile_rows);
  k.by_h_reduce = FastDivisor(s.h_reduce), k.by_w_reduce = FastDivisor(s.w_reduce);
  k.q = static_cast<const Bits16*>(args.q);
  k.out = static_cast<Bits16*>(args.out);
  k.means = reinterpret_cast<Bits16*>(scratch);
  k.entropies = reinterpret_cast<float*>(scratch + plan.entropies_begin);
  k.state = reinterpret_cast<float4*>(scratch + plan.state_begin);
  k.log_sums = reinterpret_cast<float*>(scratch + plan.state_begin);
  k.counters = reinterpret_cast<int*>(scratch + plan.counters_begin);
  for (int f = 0; f < s.frames_kv; ++f) {
    k.k_frames[f] = static_cast<const Bits16*>(args.k_frames[f]);
    k.v_frames[f] = static_cast<const Bits16*>(args.v_frames[f]);
  }
  return k;
}

Result<GpuLimits> CurrentGpu() {
  int device = 0;
  MRT_RETURN_IF_ERROR(FromCuda("monarch", "cudaGetDevice", cudaGetDevice(&device)));
  GpuLimits gpu;
  int major = 0, minor = 0;
  const std::pair<cudaDeviceAttr, int*> attributes[] = {
      {cudaDevAttrComputeCapabilityMajor, &major},
      {cudaDevAttrComputeCapabilityMinor, &minor},
      {cudaDevAttrMultiProcessorCount, &gpu.multiprocessors},
      {cudaDevAttrMaxSharedMemoryPerBlockOptin, &gpu.smem_bytes_per_block},
      {cudaDevAttrMaxSharedMemoryPerMultiprocessor, &gpu.smem_bytes_per_multiprocessor}};
  for (const auto& [attribute, value] : attributes)
    MRT_RETURN_IF_ERROR(FromCuda("monarch", "cudaDeviceGetAttribute",
                                 cudaDeviceGetAttribute(value, attribute, device)));
  // The kernels for other GPUs compile, but nobody has run their tests on one.
  if (major != 9 || minor != 0)
    return Unavailable("[monarch] got a GPU of compute capability " + std::to_string(major) + "." +
                       std::to_string(minor) + ", need 9.0 (H100, H200)");
#ifdef MRT_CUDA_SM90A
  gpu.wgmma = true;
#endif
  return gpu;
}

Status LaunchMonarchPlan(const MonarchArgs& args, const MonarchCudaPlan& plan,
                         cudaStream_t stream) {
  const MonarchKernelArgs kernel_args = MonarchKernelArgsOf(args, plan);
  if (plan.passes >= 0)
    return FromCuda("monarch", "the kernel launch",
                    args.shape.storage == StorageType::kF16
                        ? LaunchPasses<StorageType::kF16>(kernel_args, stream)
                        : LaunchPasses<StorageType::kBF16>(kernel_args, stream));
  const int64_t counter_bytes = plan.scratch_bytes - plan.counters_begin;
  MRT_RETURN_IF_ERROR(FromCuda(
      "monarch", "cudaMemsetAsync",
      cudaMemsetAsync(kernel_args.counters, 0, static_cast<size_t>(counter_bytes), stream)));
  const Launcher launch =
      plan.resident >= 0 ? kResidentLaunchers[plan.resident] : kLaunchers[plan.kernel];
  return FromCuda("monarch", "the kernel launch", launch(kernel_args, stream));
}

Result<int64_t> MonarchCudaScratchBytes(const MonarchShape& shape) {
  MRT_ASSIGN_OR_RETURN(const MonarchCudaPlan plan, PlanHere(shape));
  return plan.scratch_bytes;
}

Status RunMonarchCuda(const MonarchArgs& args, CUstream_st* stream) {
  MRT_ASSIGN_OR_RETURN(const MonarchCudaPlan plan, PlanHere(args.shape));
  MRT_RETURN_IF_ERROR(ValidateMonarchPointers(args));
  return LaunchMonarchPlan(args, plan, stream);
}

Result<std::string> DescribeMonarchCuda(const MonarchShape& shape) {
  MRT_ASSIGN_OR_RETURN(const MonarchCudaPlan plan, PlanHere(shape));
  return Describe(plan);
}

}  // namespace mrt
