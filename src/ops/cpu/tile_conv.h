// A convolution in bfloat16 by our own AMX kernel.
#pragma once

#include <span>

#include "kernels/conv/conv.h"
#include "ops/context.h"
#include "ops/conv.h"
#include "ops/storage.h"

namespace mrt::ops {

/// What a result is added to, or goes through, on its way to y, and where it lies there.
struct ConvEnd {
  Activation activation = Activation::kNone;
  bool add = false;                      // y += the result; then there is no activation
  int64_t spread = 1;                    // y has so many rows and columns for each of the result,
  int64_t first_row = 0, first_col = 0;  // of which these are written
};

class TileConv {
 public:
  static bool Takes(const Context& context, const ConvShape& shape);

  /// `weight` [out, in, time, rows, columns], `bias` [out] or empty.
  TileConv(const ConvShape& shape, const ConstTensorView& weight, const ConstTensorView& bias);

  /// y any [1, rows, columns, out] from kernel_time frames, each act [1, rows, columns, in], the
  /// oldest first.
  void Run(Context& context, std::span<const ConstTensorView> frames, const TensorView& y,
           const ConvEnd& end) const;

  int64_t bytes() const { return weight_.bytes() + bias_.bytes(); }

 private:
  ConvShape shape_;
  TileBytes weight_;  // BF16
  Tensor bias_;       // of all outputs of the kernel, zeros where there is none
};

}  // namespace mrt::ops
