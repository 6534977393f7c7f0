// Channels-last convolution over (time, rows, columns) in bfloat16 on AMX: contract. Other CPUs and
// shapes have oneDNN (src/ops/cpu/conv.cc).
//
//   y[r,c,o] = epilogue(bias[o] + sum over (a,b,d,i) of
//              frame a[r*stride + b - pad_top, c*stride + d - pad_left, i] * w[o,i,a,b,d])
//
// with 0 outside the rows and columns of a frame.
#pragma once

#include <cstdint>

#include "base/cpu_features.h"
#include "kernels/rowwise/rowwise.h"

namespace mrt {

struct ConvShape {
  int64_t in = 0, out = 0;
  int64_t kernel_time = 1, kernel_rows = 1, kernel_cols = 1;
  int64_t stride = 1;  // of rows and columns: 1 or 2
  int64_t pad_top = 0, pad_left = 0;

  int64_t taps() const { return kernel_time * kernel_rows * kernel_cols; }
};

/// Output channels are packed, and sums made, as if there were so many.
constexpr int64_t PaddedConvOut(int64_t out) { return (out + 31) / 32 * 32; }

/// Sums are float32, in an order that neither the size of the frames nor the number of threads
/// change.
struct ConvArgs {
  ConvShape shape;
  const void* const* frames = nullptr;  // kernel_time of BF16 [rows, cols, in]
  int64_t rows = 0, cols = 0;           // of a frame
  const void* weight = nullptr;         // what PackConvWeight made
  const float* bias = nullptr;          // [PaddedConvOut(out)]
  RowsOut y;                            // any [out_rows, out_cols, out]; must not overlap a frame
  int64_t out_rows = 0, out_cols = 0;
  int64_t y_row = 0, y_col = 0;  // elements from one row, and column, of y to the next
  Epilogue epilogue = Epilogue::kNone;
  bool add = false;         // y += the sums with their bias; then the epilogue is kNone
  void* scratch = nullptr;  // ConvScratchBytes, 64-byte aligned
};

/// Null, or why it does not run.
const char* ConvRefuses(const ConvShape& shape, const CpuFeatures& cpu);

/// `packed` = `weight` BF16 [PaddedConvOut(out), time, rows, cols, in] in the order in which the
/// tiles read it; as many bytes.
void PackConvWeight(const ConvShape& shape, const void* weight, void* packed);

/// Looks at the shape and sizes of `args` only.
int64_t ConvScratchBytes(const ConvArgs& args, int threads);

void RunConv(const ConvArgs& args);

}  // namespace mrt
