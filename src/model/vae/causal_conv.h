// Convolutions over a stream of frames: one frame in, one frame out, the frames before it
// remembered.
#pragma once

#include <cstdint>
#include <vector>

#include "ops/context.h"
#include "ops/conv.h"
#include "tensor/tensor.h"

namespace mrt {

/// The newest frames of a stream, as many as a convolution looks at; zeros before its start. The
/// newest frame is written where the oldest one was, so nothing is ever moved.
class FrameRing {
 public:
  FrameRing() = default;
  /// `frames` slots of [rows, cols, channels] in that memory, or the host's.
  FrameRing(DType dtype, int64_t frames, int64_t rows, int64_t cols, int64_t channels,
            Memory* memory)
      : frames_(dtype, {frames, rows, cols, channels}, memory) {}

  /// act [1, rows, cols, channels]: the newest frame. To be written before a convolution runs.
  TensorView Newest() const { return frames_.view().Slice(newest_, newest_ + 1); }
  /// Its slot.
  int64_t newest() const { return newest_; }
  /// act [frames, rows, cols, channels]: all slots. The oldest frame is in the slot after the
  /// newest.
  ConstTensorView slots() const { return frames_; }
  /// The slot of the oldest frame becomes that of the newest.
  void Advance() { newest_ = (newest_ + 1) % frames_.shape()[0]; }

 private:
  Tensor frames_;
  int64_t newest_ = 0;
};

/// A convolution whose kernel covers the newest `time` frames of a stream. The weight is packed
/// once for every rotation of the ring: `time` times the memory, but no frame is copied. With
/// full-size video a frame is far larger than a weight.
class CausalConv {
 public:
  CausalConv() = default;
  /// `weight` [out, in, time, rows, cols], oldest frame first; odd rows and cols, padded with
  /// zeros to keep the size of the frame. `bias` [out] or empty.
  CausalConv(ops::Context& context, const ConstTensorView& weight, const ConstTensorView& bias);

  /// y [1, rows, cols, out] act or F32 from the frames of the ring; does not advance it.
  void Run(ops::Context& context, const FrameRing& ring, const TensorView& y,
           ops::Activation activation = ops::Activation::kNone,
           ops::Output output = ops::Output::kActivation) const;

  /// A ring for frames of that size.
  FrameRing NewRing(DType dtype, int64_t rows, int64_t cols) const {
    return {dtype, static_cast<int64_t>(by_newest_.size()), rows, cols, in_channels(), memory_};
  }
  /// Its bytes.
  int64_t RingBytes(DType dtype, int64_t rows, int64_t cols) const {
    return static_cast<int64_t>(by_newest_.size()) * rows * cols * in_channels() * DTypeSize(dtype);
  }
  int64_t in_channels() const { return by_newest_.front().in_channels(); }
  int64_t out_channels() const { return by_newest_.front().out_channels(); }
  int64_t bytes() const;
  bool empty() const { return by_newest_.empty(); }

 private:
  Memory* memory_ = nullptr;          // of rings
  std::vector<ops::Conv> by_newest_;  // by the slot of the newest frame
};

}  // namespace mrt
