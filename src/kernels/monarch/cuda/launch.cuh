// From the plan to the kernel. Launchers are host functions so that each is compiled in a file of
// its own (inst/) and called from launch.cu.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/monarch/cuda/plan.h"

namespace mrt {

// x / divisor by a multiplication: exact where x and divisor are below 2^16.
struct FastDivisor {
  uint32_t divisor = 1;
  uint32_t magic = 0;  // ceil(2^32 / divisor)

  FastDivisor() = default;
  explicit FastDivisor(int d)
      : divisor(static_cast<uint32_t>(d)),
        magic(static_cast<uint32_t>(((uint64_t{1} << 32) + divisor - 1) / divisor)) {}
#ifdef __CUDACC__
  __device__ int Quotient(int x) const {
    return divisor == 1 ? x : static_cast<int>(__umulhi(static_cast<uint32_t>(x), magic));
  }
#endif
};

// The one parameter of the kernel; everything is on the device or a number.
struct MonarchKernelArgs {
  MonarchCudaPlan plan;
  int heads = 0;
  int b1 = 0, b2 = 0;
  int cols = 0;          // of the grid
  int frame_tokens = 0;  // of the grid
  int f_tied = 0;
  int tile_rows = 0;           // grid rows of a tile
  int causal_block_tiles = 0;  // tiles of a causal block; 0 = not causal
  FastDivisor by_b1, by_b2, by_tile_rows, by_h_reduce, by_w_reduce;
  float scale_log2 = 0;  // log2(e) / sqrt(head_dim): logits are in base 2
  const Bits16* q = nullptr;
  Bits16* out = nullptr;
  // [ring, column, key of the slice, (kbar, vbar), head_dim], channels as in Permuted().
  Bits16* means = nullptr;
  float* entropies = nullptr;  // [ring, column, key of the slice padded to kAcrossKeys], log2
  float4* state = nullptr;     // [interleave, unit, register / 4, lane]
  float* log_sums = nullptr;   // passes: [column, stat_rows], log2
  int first_pair = 0;          // passes: of this launch
  // passes: columns from which on L2 keeps the means, and from which on they are dropped once read.
  int first_kept = 1 << 30, first_dropped = 1 << 30;
  int* counters = nullptr;  // next ticket, then of each position: average done, across done
  const Bits16* k_frames[kMonarchCudaFramesMax] = {};
  const Bits16* v_frames[kMonarchCudaFramesMax] = {};
};
static_assert(sizeof(MonarchKernelArgs) <= 4096, "kernel parameters");

// Where the means of an average go, which of them, and what asks for them: the ring's are kbar and
// vbar of a slice; those of the passes are of all keys, without vbar if only the next refinement
// needs them; and its queries are what the pass before left in the places of kbar.
enum class AverageKind { kRing, kPass, kPassKbar, kPassRefined };

template <int kHeadDim, int kScoreTiles, int kAverageRowTiles, int kAcrossRowTiles>
cudaError_t LaunchMonarch(const MonarchKernelArgs& args, cudaStream_t stream);

/// Of kMonarchResidentKernels[kIndex].
template <int kIndex>
cudaError_t LaunchResident(const MonarchKernelArgs& args, cudaStream_t stream);

/// The passes over `pairs` (head, group) pairs from args.first_pair on; the first of
/// kMonarchPassKernels[kIndex].
template <int kIndex, AverageKind kKind, StorageType kType>
cudaError_t LaunchPassAverage(const MonarchKernelArgs& args, int pairs, cudaStream_t stream);
template <int kHeadDim, int kWarpgroups, bool kSumsOnly, StorageType kType>
cudaError_t LaunchPassAcross(const MonarchKernelArgs& args, int pairs, cudaStream_t stream);
template <int kHeadDim, StorageType kType>
cudaError_t LaunchPassSumsRefine(const MonarchKernelArgs& args, int pairs, cudaStream_t stream);
template <int kHeadDim, StorageType kType>
cudaError_t LaunchPassRefine(const MonarchKernelArgs& args, int pairs, cudaStream_t stream);

/// Of the current device; Unavailable with the reason if the kernels do not run there.
Result<GpuLimits> CurrentGpu();

/// What the contract asks of the caller, but for the sizes of the tensors.
Status ValidateMonarchPointers(const MonarchArgs& args);

MonarchKernelArgs MonarchKernelArgsOf(const MonarchArgs& args, const MonarchCudaPlan& plan);

/// Runs `args` as planned: RunMonarchCuda once it has a plan, and benchmarks that vary it.
Status LaunchMonarchPlan(const MonarchArgs& args, const MonarchCudaPlan& plan, cudaStream_t stream);

}  // namespace mrt
