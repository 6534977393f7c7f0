#include "model/vae/causal_conv.h"

#include <algorithm>

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

CausalConv::CausalConv(ops::Context& context, const ConstTensorView& weight,
                       const ConstTensorView& bias)
    : memory_(context.memory()) {
  const Tensor float_weight = ToFloat32(weight);
  const int pad_rows = static_cast<int>(weight.shape[3] / 2);
  const int pad_cols = static_cast<int>(weight.shape[4] / 2);
  const ops::ConvParams params{
      .pad_top = pad_rows, .pad_left = pad_cols, .pad_bottom = pad_rows, .pad_right = pad_cols};
  for (int64_t newest = 0; newest < weight.shape[2]; ++newest)
    by_newest_.emplace_back(context, RotateTime(float_weight, newest), bias, params);
}

void CausalConv::Run(ops::Context& context, const FrameRing& ring, const TensorView& y,
                     ops::Activation activation, ops::Output output) const {
  by_newest_[static_cast<size_t>(ring.newest())].Run(context, ring.slots(), y, activation, output);
}

int64_t CausalConv::bytes() const {
  int64_t sum = 0;
  for (const ops::Conv& conv : by_newest_) sum += conv.bytes();
  return sum;
}

}  // namespace mrt
