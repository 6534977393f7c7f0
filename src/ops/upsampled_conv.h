// A 3x3 convolution over a picture of twice the rows and columns, each pixel four times.
#pragma once

#include <array>
#include <memory>

#include "ops/context.h"
#include "ops/conv.h"

namespace mrt::ops {

/// Every second row and column of the result sees only 2x2 different pixels, so where our AMX
/// kernel runs there are four convolutions of 2x2, whose weights are sums of the 3x3 one's, and no
/// large picture: 4 products instead of 9. Else the picture is made, and convolved.
class UpsampledConv {
 public:
  UpsampledConv();
  ~UpsampledConv();
  UpsampledConv(UpsampledConv&&) noexcept;
  UpsampledConv& operator=(UpsampledConv&&) noexcept;

  /// `weight` [out, in, 3, 3]; `bias` [out] or an empty view. Any floating point dtype.
  UpsampledConv(Context& context, const ConstTensorView& weight, const ConstTensorView& bias);

  /// x act [1, rows, columns, in] -> y act [1, 2 rows, 2 columns, out], with zeros around x.
  void Run(Context& context, const ConstTensorView& x, const TensorView& y,
           Activation activation = Activation::kNone) const;

  int64_t in_channels() const;
  int64_t out_channels() const;
  int64_t bytes() const;
  bool empty() const { return impl_ == nullptr; }
  /// What Run takes of the arena for an x of that size.
  int64_t ScratchBytes(DType dtype, int64_t rows, int64_t cols) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace mrt::ops
