// The memory block of TAEHV: 2D convolutions over a frame and the one before it.
#pragma once

#include <cstdint>

#include "model/taehv/taehv_weights.h"
#include "model/vae/causal_conv.h"
#include "ops/linear.h"

namespace mrt {

class MemoryBlock {
 public:
  MemoryBlock(ops::Context& context, const MemoryWeights& weights);

  /// The newest frame of the ring and the one before it -> y act [1, rows, cols, out]. Advances the
  /// ring: its newest frame may then be overwritten.
  void Run(ops::Context& context, FrameRing& ring, const TensorView& y) const;

  FrameRing NewRing(DType dtype, int64_t rows, int64_t cols) const {
    return conv_0_.NewRing(dtype, rows, cols);
  }
  int64_t RingBytes(DType dtype, int64_t rows, int64_t cols) const {
    return conv_0_.RingBytes(dtype, rows, cols);
  }
  int64_t out_channels() const { return conv_0_.out_channels(); }
  int64_t bytes() const;

 private:
  CausalConv conv_0_;
  ops::Conv conv_2_, conv_4_;
  ops::Linear skip_;  // empty if in == out
};

/// A 3x3 convolution of single frames that keeps their size.
ops::Conv SameSizeConv(ops::Context& context, const ConvWeights& weights);

}  // namespace mrt
