// What the kernels of the backward pass get, and where they keep what one leaves for the next.
#pragma once

#include "kernels/monarch/cuda/backward_plan.h"
#include "kernels/monarch/cuda/pass_layout.cuh"

namespace mrt {

struct MonarchBackKernelArgs {
  MonarchKernelArgs forward;  // without `out`
  float scale = 0;            // 1 / sqrt(head_dim)
  const Bits16* d_out = nullptr;
  float* d_q = nullptr;
  float* deltas = nullptr;  // [column, stat_rows]: d_out . out of a query row
  int columns = 0;          // of the launch
  bool one_pass = false;    // the gradients of means are made by BackColumns
  bool runs = false;        // of MonarchBackwardCudaPlan
  float* d_k_frames[kMonarchCudaFramesMax] = {};
  float* d_v_frames[kMonarchCudaFramesMax] = {};
};

__device__ inline float* PassDeltas(const MonarchBackKernelArgs& args, int column) {
  return args.deltas + int64_t{column} * args.forward.plan.stat_rows;
}

/// The passes of the backward pass over `pairs` pairs, in this order after an average. All pairs of
/// a head are in one launch, or each is in one of its own. BackColumns for tiles of at most kRows
/// rows, BackAcross and BackMeans for taller ones. BackRuns or BackAlong by `runs`.
template <int kHeadDim, int kRows>
cudaError_t LaunchBackColumns(const MonarchBackKernelArgs& args, int pairs, cudaStream_t stream);
template <int kHeadDim>
cudaError_t LaunchBackAcross(const MonarchBackKernelArgs& args, int pairs, cudaStream_t stream);
template <int kHeadDim>
cudaError_t LaunchBackMeans(const MonarchBackKernelArgs& args, int pairs, cudaStream_t stream);
template <int kHeadDim, int kScoreTiles>
cudaError_t LaunchBackAlong(const MonarchBackKernelArgs& args, int pairs, cudaStream_t stream);
template <int kHeadDim>
cudaError_t LaunchBackRuns(const MonarchBackKernelArgs& args, int pairs, cudaStream_t stream);

}  // namespace mrt
