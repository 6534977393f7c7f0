// Where tokens lie, on the device: the same as kernels/monarch/tiling.h.
#pragma once

#include "kernels/common/cuda/fragment.cuh"
#include "kernels/monarch/cuda/launch.cuh"

namespace mrt {

struct DeviceTileRow {
  int frame = 0;
  int token = 0;  // of the first column, within the frame
};

__device__ inline DeviceTileRow TileRowOf(const MonarchKernelArgs& args, int tile, int row) {
  const int cut_row = args.by_w_reduce.Quotient(tile);  // frame group and row cut
  const int column_cut = tile - cut_row * static_cast<int>(args.by_w_reduce.divisor);
  const int frame_group = args.by_h_reduce.Quotient(cut_row);
  const int row_cut = cut_row - frame_group * static_cast<int>(args.by_h_reduce.divisor);
  const int frame_in_tile = args.by_tile_rows.Quotient(row);
  const int grid_row = row_cut * args.tile_rows + row - frame_in_tile * args.tile_rows;
  return {frame_group * args.f_tied + frame_in_tile, grid_row * args.cols + column_cut * args.b2};
}

__device__ inline int VisibleTiles(const MonarchKernelArgs& args, int query_tile) {
  if (args.causal_block_tiles == 0) return args.plan.key_tiles;
  return (query_tile / args.causal_block_tiles + 1) * args.causal_block_tiles;
}

// The token of row i, column j of query tile a, counted over all frames.
__device__ inline int QueryToken(const MonarchKernelArgs& args, int tile, int i, int j) {
  const DeviceTileRow row = TileRowOf(args, tile, i);
  return row.frame * args.frame_tokens + row.token + j;
}

// Elements from q or out to a head of a token.
__device__ inline int64_t TokenOffset(const MonarchKernelArgs& args, int head_dim, int token,
                                      int head) {
  return (int64_t{token} * args.heads + head) * head_dim;
}

// Channels of a mean lie in memory so that what a lane holds after a product, 4 times 2 channels
// of 4 tiles of 8, is 16 bytes in a row: within each 32 channels, channel 8p + 2u + e lies at
// 8u + 2p + e. Swapping p and u twice changes nothing, so the output of the across task, whose
// columns are in this order, comes back as 16 bytes of consecutive channels per lane.

}  // namespace mrt
