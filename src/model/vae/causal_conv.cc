#include "model/vae/causal_conv.h"

#include <algorithm>

#include "base/check.h"
#include "ops/rowwise.h"

namespace mrt {
namespace {

/// The weight [out, in, time, rows, cols] for a ring whose newest frame is in slot `newest`: frame
/// k, counted from the oldest, lies in slot (newest + 1 + k) % time.
Tensor RotateTime(const Tensor& weight, int64_t newest) {
  const Shape& shape = weight.shape();
  const int64_t time = shape[2], tap = shape[3] * shape[4];
  Tensor rotated(DType::kF32, shape);
  for (int64_t filter = 0; filter < shape[0] * shape[1]; ++filter) {
    const float* from = weight.as<float>() + filter * time * tap;
    float* to = rotated.as<float>() + filter * time * tap;
    for (int64_t k = 0; k < time; ++k)
      std::copy_n(from + k * tap, tap, to + (newest + 1 + k) % time * tap);
  }
  return rotated;
}

}  // namespace

Tensor FrameSpares::Take(DType dtype, const Shape& shape, Memory* memory) {
  for (Tensor& frame : frames_)
    if (frame.dtype() == dtype && frame.shape() == shape) {
      std::swap(frame, frames_.back());
      Tensor found = std::move(frames_.back());
      frames_.pop_back();
      return found;
    }
  return {dtype, shape, memory};
}

FrameRing::FrameRing(DType dtype, int64_t frames, int64_t rows, int64_t cols, int64_t channels,
                     Memory* memory, FrameSpares* spares)
    : dtype_(dtype), frame_{1, rows, cols, channels}, spares_(spares), memory_(memory) {
  if (spares == nullptr) {
    together_ = Tensor(dtype, {frames, rows, cols, channels}, memory);
    return;
  }
  for (int64_t i = 0; i + 1 < frames; ++i) apart_.emplace_back(dtype, frame_, memory);
  apart_.emplace_back();
}

TensorView FrameRing::Newest() {
  if (spares_ == nullptr) return together_.view().Slice(newest_, newest_ + 1);
  if (apart_.back().empty()) apart_.back() = spares_->Take(dtype_, frame_, memory_);
  return apart_.back();
}

void FrameRing::Advance() {
  if (spares_ == nullptr) {
    newest_ = (newest_ + 1) % together_.shape()[0];
    return;
  }
  spares_->Give(std::exchange(apart_.front(), {}));
  std::rotate(apart_.begin(), apart_.begin() + 1, apart_.end());
}

std::span<const ConstTensorView> FrameRing::Frames(Views& room) const {
  const bool apart = spares_ != nullptr;
  const int64_t count = apart ? static_cast<int64_t>(apart_.size()) : together_.shape()[0];
  MRT_CHECK(count <= ops::Conv::kFramesMax);
  for (int64_t k = 0; k < count; ++k) {
    const int64_t slot = (newest_ + 1 + k) % count;
    room[static_cast<size_t>(k)] = apart ? ConstTensorView(apart_[static_cast<size_t>(k)])
                                         : ConstTensorView(together_.view().Slice(slot, slot + 1));
  }
  return {room.data(), static_cast<size_t>(count)};
}

CausalConv::CausalConv(ops::Context& context, const ConstTensorView& weight,
                       const ConstTensorView& bias)
    : memory_(context.memory()), time_(weight.shape[2]) {
  const int pad_rows = static_cast<int>(weight.shape[3] / 2);
  const int pad_cols = static_cast<int>(weight.shape[4] / 2);
  const ops::ConvParams params{
      .pad_top = pad_rows, .pad_left = pad_cols, .pad_bottom = pad_rows, .pad_right = pad_cols};
  const Tensor float_weight = ToFloat32(weight);
  for (int64_t newest = time_ - 1; newest >= 0; --newest) {
    by_newest_.emplace_back(context, RotateTime(float_weight, newest), bias, params);
    if (by_newest_.front().takes_frames()) break;
  }
  std::reverse(by_newest_.begin(), by_newest_.end());
}

void CausalConv::Run(ops::Context& context, const FrameRing& ring, const TensorView& y,
                     ops::Activation activation, ops::Output output) const {
  FrameRing::Views room;
  if (takes_frames())
    return by_newest_[0].RunFrames(context, ring.Frames(room), y, /*add=*/false, activation);
  by_newest_[static_cast<size_t>(ring.newest())].Run(context, ring.slots(), y, activation, output);
}

void CausalConv::AddTo(ops::Context& context, const FrameRing& ring, const TensorView& sum) const {
  FrameRing::Views room;
  if (takes_frames()) return by_newest_[0].RunFrames(context, ring.Frames(room), sum, /*add=*/true);
  const ArenaScope scope(context.arena());
  const TensorView y = context.Activation(sum.shape);
  Run(context, ring, y);
  ops::Add(context, sum, y);
}

int64_t CausalConv::bytes() const {
  int64_t sum = 0;
  for (const ops::Conv& conv : by_newest_) sum += conv.bytes();
  return sum;
}

}  // namespace mrt
