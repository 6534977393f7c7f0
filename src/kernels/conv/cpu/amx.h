// One task of a convolution on AMX: a box of output pixels, all output channels.
#pragma once

#include <cstdint>

#include "kernels/conv/conv.h"

namespace mrt {

/// Pixels of a block: two tiles, one below the other, of so many columns.
inline constexpr int64_t kConvBlockRows = 2;
inline constexpr int64_t kConvBlockCols = 16;
/// Output channels of a panel.
inline constexpr int64_t kConvPanel = 32;
/// Bytes of a block of sums.
inline constexpr int64_t kConvBlockBytes =
    kConvBlockRows * kConvBlockCols * kConvPanel * int64_t{sizeof(float)};
/// Rows of input that one row of output reads: kernel_time * kernel_rows.
inline constexpr int64_t kConvSegmentsMax = 16;
inline constexpr int64_t kConvStrideMax = 2;

/// Rows and columns of the input that a block reads, and their bytes.
constexpr int64_t ConvBlockInputRows(const ConvShape& s) {
  return (kConvBlockRows - 1) * s.stride + s.kernel_rows;
}
constexpr int64_t ConvBlockInputCols(const ConvShape& s) {
  return (kConvBlockCols - 1) * s.stride + s.kernel_cols;
}
constexpr int64_t ConvBlockInputRowBytes(const ConvShape& s) {
  return ConvBlockInputCols(s) * s.in * 2;
}

/// A block of columns that starts with `col` of y looks over the left or right side of a frame.
constexpr bool ConvBlockLeaves(const ConvArgs& args, int64_t col) {
  const int64_t first = col * args.shape.stride - args.shape.pad_left;
  return first < 0 || first + ConvBlockInputCols(args.shape) > args.cols;
}

struct ConvTask {
  int64_t first_row = 0, rows = 0;  // of y; first_row is a multiple of kConvBlockRows
  int64_t first_col = 0, cols = 0;  // first_col is a multiple of kConvBlockCols
  const char* zeros = nullptr;      // a row of a block's input: outside of the frame
  char* edges = nullptr;            // inputs of the blocks that look over a frame's side
  char* results = nullptr;          // two blocks of sums, by turns
};

namespace amx {
void RunConvTask(const ConvArgs& args, const ConvTask& task);
}  // namespace amx

}  // namespace mrt
