// Convolutions over a stream of frames: one frame in, one frame out, the frames before it
// remembered.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "ops/context.h"
#include "ops/conv.h"
#include "tensor/tensor.h"

namespace mrt {

/// Frames that no ring remembers any more. Rings of one stream share them: one that needs room for
/// its newest frame takes it from here, and gives its oldest one back.
class FrameSpares {
 public:
  /// Any contents.
  Tensor Take(DType dtype, const Shape& shape, Memory* memory);
  void Give(Tensor frame) { frames_.push_back(std::move(frame)); }

 private:
  std::vector<Tensor> frames_;
};

/// The newest frames of a stream, as many as a convolution looks at; zeros before its start. No
/// frame is ever moved.
class FrameRing {
 public:
  FrameRing() = default;
  /// `frames` of [rows, cols, channels] in that memory, or the host's. With `spares`, which must
  /// outlive it, it holds one less between Advance() and Newest(); without, all of them lie
  /// together, and the newest one is written where the oldest one was.
  FrameRing(DType dtype, int64_t frames, int64_t rows, int64_t cols, int64_t channels,
            Memory* memory, FrameSpares* spares = nullptr);

  /// act [1, rows, cols, channels]: the newest frame. To be written before a convolution runs.
  TensorView Newest();
  /// The newest frame will be remembered, the oldest one not.
  void Advance();
  /// All frames, each as Newest(), the oldest one first; in `room`.
  using Views = std::array<ConstTensorView, ops::Conv::kFramesMax>;
  std::span<const ConstTensorView> Frames(Views& room) const;

  /// Without spares. The slot of the newest frame; the oldest frame is in the slot after it.
  int64_t newest() const { return newest_; }
  /// Without spares. act [frames, rows, cols, channels]: all slots.
  ConstTensorView slots() const { return together_; }

 private:
  DType dtype_ = DType::kF32;
  Shape frame_;
  Tensor together_;  // all frames, or:
  int64_t newest_ = 0;
  std::vector<Tensor> apart_;  // the oldest one first, the newest one last: empty until Newest()
  FrameSpares* spares_ = nullptr;
  Memory* memory_ = nullptr;
};

/// A convolution whose kernel covers the newest `time` frames of a stream. Where an operation wants
/// its frames to lie together, the weight is packed once for every rotation of the ring: `time`
/// times the memory, but no frame is copied. With full-size video a frame is far larger than a
/// weight.
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

  /// sum += the same, both [1, rows, cols, out] act.
  void AddTo(ops::Context& context, const FrameRing& ring, const TensorView& sum) const;

  /// A ring for frames of that size. Takes its newest frame from `spares` if it can.
  FrameRing NewRing(DType dtype, int64_t rows, int64_t cols, FrameSpares* spares = nullptr) const {
    return {dtype, time_, rows, cols, in_channels(), memory_, takes_frames() ? spares : nullptr};
  }
  /// Its bytes, between Advance() and Newest() if there are spares.
  int64_t RingBytes(DType dtype, int64_t rows, int64_t cols, bool spares = false) const {
    const int64_t frames = takes_frames() && spares ? time_ - 1 : time_;
    return frames * rows * cols * in_channels() * DTypeSize(dtype);
  }
  /// The frames of a ring need not lie together.
  bool takes_frames() const { return by_newest_.front().takes_frames(); }
  int64_t in_channels() const { return by_newest_.front().in_channels(); }
  int64_t out_channels() const { return by_newest_.front().out_channels(); }
  int64_t bytes() const;
  bool empty() const { return by_newest_.empty(); }

 private:
  Memory* memory_ = nullptr;          // of rings
  int64_t time_ = 0;                  // frames
  std::vector<ops::Conv> by_newest_;  // by the slot of the newest frame; one if it takes frames
};

}  // namespace mrt
