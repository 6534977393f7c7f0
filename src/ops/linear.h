// y = act(x W^T + b), the weight packed once.
#pragma once

#include <memory>

#include "ops/context.h"

namespace mrt::ops {

enum class Activation { kNone, kGeluTanh, kSilu, kRelu };

/// How a Linear stores its weight. The precision says how its inputs and outputs are stored.
enum class WeightType {
  kActivation,  // as the context's activations
  kInt8,      // int8 with a scale for each output channel (base/int8.h); the rows of x are rounded
              // to 8 bits as well. At most kInt8ColumnsMax input channels
  kInt8Fine,  // the same, but with 14 bits for x, in two products
};

/// A weight that is int8 already: weight[o, i] = values[o, i] * scales[o].
struct Int8WeightView {
  ConstTensorView values;  // I8 [out, in]
  ConstTensorView scales;  // F32 [out], finite and positive
};

class Linear {
 public:
  Linear();
  ~Linear();
  Linear(Linear&&) noexcept;
  Linear& operator=(Linear&&) noexcept;

  /// Packs `weight` [out, in] (any floating point dtype) and `bias` [out] (or an empty view) for
  /// the context's precision and `type`. The views are not needed afterwards. Throws on lack of
  /// memory.
  Linear(Context& context, const ConstTensorView& weight, const ConstTensorView& bias,
         WeightType type = WeightType::kActivation);
  /// kInt8 or kInt8Fine of a weight that was quantised before, by QuantizeRow: as if now.
  Linear(const Int8WeightView& weight, const ConstTensorView& bias, WeightType type);

  /// x [..., in] of the activation dtype; y [..., out], same number of rows, activation dtype or
  /// F32. x and y must not overlap. Throws dnnl::error or std::bad_alloc, caught where the library
  /// ends. `output` as in context.h.
  void Run(Context& context, const ConstTensorView& x, const TensorView& y,
           Activation activation = Activation::kNone, Output output = Output::kActivation) const;

  /// residual += gate[g] * (x W^T + b), or += x W^T + b without a gate: x [..., in] of the
  /// activation dtype; residual F32 [..., out], same number of rows; gate F32 [groups, out], each
  /// group for rows / groups consecutive rows. What is added is not rounded to the activation
  /// dtype. x and residual must not overlap. Throws like Run.
  void AddTo(Context& context, const ConstTensorView& x, const TensorView& residual,
             const ConstTensorView& gate = {}) const;

  int64_t in_features() const;
  int64_t out_features() const;
  /// Bytes of the packed weight and bias.
  int64_t bytes() const;
  /// Of these, what a kInt8 weight takes, but for padding and without the bias.
  static int64_t Int8Bytes(int64_t in, int64_t out);
  /// How much Run of a kInt8 one takes of the context's arena.
  static int64_t Int8ScratchBytes(int64_t rows, int64_t in, int64_t out);
  bool empty() const { return impl_ == nullptr; }

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// y [batch, m, n] = activation(a [batch, m, k] b), where b is [batch, k, n], or [batch, n, k] if
/// `b_transposed`. F32 or activation dtype each, unpacked: for the small products between
/// activations (VAE attention), and for a weight that is used once, where packing would cost more
/// than the product. If a and b differ, or y is narrower than they are, it goes through float32
/// copies.
void BatchedMatmul(Context& context, const ConstTensorView& a, const ConstTensorView& b,
                   bool b_transposed, const TensorView& y, Output output = Output::kActivation,
                   Activation activation = Activation::kNone);

}  // namespace mrt::ops
