// The layers that the encoder and the decoder of the Wan VAE share. Each takes one frame at a time.
#pragma once

#include <cstdint>

#include "model/vae/causal_conv.h"
#include "model/vae/wan_weights.h"
#include "ops/linear.h"

namespace mrt {

/// What a residual block remembers of a stream.
struct ResidualState {
  FrameRing ring_1;
  FrameRing ring_2;
};

/// x + conv_2(SiLU(norm(conv_1(SiLU(norm(x)))))), or shortcut(x) + ... when the widths differ.
class ResidualBlock {
 public:
  ResidualBlock(ops::Context& context, const ResidualWeights& weights);

  /// x act [1, rows, cols, in] -> act [1, rows, cols, out]: x itself, changed, if in == out, else
  /// from the arena.
  TensorView Run(ops::Context& context, ResidualState& state, const TensorView& x) const;

  /// As CausalConv::NewRing.
  ResidualState NewState(DType dtype, int64_t rows, int64_t cols,
                         FrameSpares* spares = nullptr) const;
  int64_t StateBytes(DType dtype, int64_t rows, int64_t cols, bool spares = false) const {
    return conv_1_.RingBytes(dtype, rows, cols, spares) +
           conv_2_.RingBytes(dtype, rows, cols, spares);
  }
  /// What Run takes of the spares at a time.
  int64_t SpareBytes(DType dtype, int64_t rows, int64_t cols) const;
  /// What Run takes of the arena, the sum not counted.
  int64_t ScratchBytes(DType dtype, int64_t rows, int64_t cols) const {
    return conv_2_.takes_frames() ? 0 : rows * cols * out_channels() * DTypeSize(dtype);
  }
  int64_t in_channels() const { return conv_1_.in_channels(); }
  int64_t out_channels() const { return conv_1_.out_channels(); }
  int64_t bytes() const;

 private:
  Tensor gamma_1_, gamma_2_;  // F32 [in], [out]
  CausalConv conv_1_, conv_2_;
  ops::Linear shortcut_;  // empty if in == out
};

/// x + proj(attention(norm(x))), one head over the pixels of a frame.
class AttentionBlock {
 public:
  AttentionBlock(ops::Context& context, const AttentionBlockWeights& weights);

  /// x act [1, rows, cols, c], in place.
  void Run(ops::Context& context, const TensorView& x) const;

  int64_t bytes() const;
  /// What Run takes of the arena.
  int64_t ScratchBytes(DType dtype, int64_t rows, int64_t cols) const;

 private:
  Tensor gamma_;  // F32 [c]
  ops::Linear q_, k_, v_, proj_;
};

/// A convolution of one pixel as a matrix: weight [out, in, 1, ...].
ops::Linear PixelLinear(ops::Context& context, const ConvWeights& weights);

/// The scale of a norm as F32 [c], for the operations of the context.
Tensor Gamma(ops::Context& context, const ConstTensorView& gamma);

}  // namespace mrt
