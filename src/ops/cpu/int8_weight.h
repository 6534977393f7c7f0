// The int8 form of a Linear: its weight, and a product with activations that are rounded row by
// row.
#pragma once

#include <optional>

#include "ops/cpu/vendor.h"
#include "ops/storage.h"

namespace mrt::ops {

class Int8Weight {
 public:
  /// `weight` as in Int8WeightView, `bias` [out] of any floating point dtype or empty.
  Int8Weight(const Int8WeightView& weight, const ConstTensorView& bias, WeightType type);

  /// x [rows, in] -> y [rows, out], F32 or BF16 each.
  void Run(Context& context, const ConstTensorView& x, const TensorView& y,
           Activation activation) const;

  /// residual += gate * (x W^T + b): residual F32 [rows, out], gate F32 [out] or empty (ones).
  void AddTo(Context& context, const ConstTensorView& x, const TensorView& residual,
             const ConstTensorView& gate) const;

  int64_t bytes() const;

 private:
  /// Of `finish` its y is not looked at, but the epilogue and what follows it.
  void Run(Context& context, const ConstTensorView& x, const TensorView& y,
           const DequantizeArgs& finish) const;
  /// The product of the rows that were rounded to `x`, and what `finish` does with it.
  void MultiplyByVendor(Context& context, const QuantizeArgs& x, int64_t rows,
                        DequantizeArgs finish) const;
  void MultiplyByTiles(Context& context, const QuantizeArgs& x, int64_t rows,
                       const DequantizeArgs& finish) const;
  Prepared& Prepare(Context& context, int64_t rows) const;

  int64_t in_, out_;
  bool two_digits_;                     // of the rounded activations
  std::optional<PackedWeight> weight_;  // I8: either this one
  TileBytes tiles_;                     // or that of our AMX kernel
  Tensor scales_;                       // F32 [out]
  Tensor weight_sums_;                  // I32 [out]
  Tensor bias_;                         // F32 [out], zeros if there is none
};

/// `weight` [out, in] of any floating point dtype as int8 (QuantizeRow).
struct QuantizedWeight {
  explicit QuantizedWeight(const ConstTensorView& weight);
  operator Int8WeightView() const { return {values, scales}; }  // NOLINT: implicit on purpose

  Tensor values, scales;
};

}  // namespace mrt::ops
