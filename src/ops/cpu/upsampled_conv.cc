#include "ops/upsampled_conv.h"

#include <optional>
#include <vector>

#include "base/check.h"
#include "ops/cpu/tile_conv.h"
#include "ops/operation_span.h"
#include "ops/rowwise.h"

namespace mrt::ops {
namespace {

constexpr int64_t kTaps = 3;

/// Row `p` of two sees the rows before and at (p = 0), or at and after (p = 1) that of x: which of
/// the two does tap `b` fall on? Columns alike.
int64_t PhaseTap(int64_t p, int64_t b) { return p == 0 ? (b == 0 ? 0 : 1) : (b == 2 ? 1 : 0); }

/// [out, in, 3, 3] -> F32 [out, in, 2, 2] for the rows p and columns q.
Tensor PhaseWeight(const Tensor& weight, int64_t p, int64_t q) {
  const int64_t filters = weight.shape()[0] * weight.shape()[1];
  Tensor phase(DType::kF32, {weight.shape()[0], weight.shape()[1], 2, 2});
  for (int64_t f = 0; f < filters; ++f)
    for (int64_t b = 0; b < kTaps; ++b)
      for (int64_t d = 0; d < kTaps; ++d)
        phase.as<float>()[f * 4 + PhaseTap(p, b) * 2 + PhaseTap(q, d)] +=
            weight.as<float>()[(f * kTaps + b) * kTaps + d];
  return phase;
}

ConvShape PhaseShape(const ConstTensorView& weight, int64_t p, int64_t q) {
  return {.in = weight.shape[1],
          .out = weight.shape[0],
          .kernel_rows = 2,
          .kernel_cols = 2,
          .pad_top = 1 - p,
          .pad_left = 1 - q};
}

}  // namespace

struct UpsampledConv::Impl {
  int64_t in = 0, out = 0;
  std::vector<TileConv> phases;  // four, or none: then
  Conv whole;                    // over the large picture
};

UpsampledConv::UpsampledConv() = default;
UpsampledConv::~UpsampledConv() = default;
UpsampledConv::UpsampledConv(UpsampledConv&&) noexcept = default;
UpsampledConv& UpsampledConv::operator=(UpsampledConv&&) noexcept = default;

UpsampledConv::UpsampledConv(Context& context, const ConstTensorView& weight,
                             const ConstTensorView& bias) {
  const Shape& s = weight.shape;
  MRT_CHECK(s.rank() == 4 && s[2] == kTaps && s[3] == kTaps);
  impl_.reset(new Impl{.in = s[1], .out = s[0]});
  if (context.backend() != nullptr || !TileConv::Takes(context, PhaseShape(weight, 0, 0))) {
    impl_->whole =
        Conv(context, weight, bias, {.pad_top = 1, .pad_left = 1, .pad_bottom = 1, .pad_right = 1});
    return;
  }
  const Tensor float_weight = ToFloat32(weight);
  for (const int64_t p : {0, 1})
    for (const int64_t q : {0, 1})
      impl_->phases.emplace_back(PhaseShape(weight, p, q), PhaseWeight(float_weight, p, q), bias);
}

void UpsampledConv::Run(Context& context, const ConstTensorView& x, const TensorView& y,
                        Activation activation) const {
  const Shape& s = x.shape;
  MRT_CHECK(impl_ != nullptr && x.dtype == context.activation() && s[0] == 1 && s[3] == impl_->in);
  MRT_CHECK((y.shape == Shape{1, 2 * s[1], 2 * s[2], impl_->out}));
  if (impl_->phases.empty()) {
    const ArenaScope scope(context.arena());
    const TensorView large = context.Activation({1, 2 * s[1], 2 * s[2], impl_->in});
    UpsampleNearest2x(context, x, large);
    return impl_->whole.Run(context, large, y, activation);
  }
  if (y.shape.elements() == 0) return;
  const OperationSpan span(
      context, "upsampled convolution", SpanKind::kMatrix,
      {.flop = 2.0 * 4 * static_cast<double>(y.shape.elements()) * static_cast<double>(impl_->in),
       .bytes = static_cast<double>(x.bytes() + y.bytes() + bytes())});
  for (const int64_t p : {0, 1})
    for (const int64_t q : {0, 1})
      impl_->phases[static_cast<size_t>(2 * p + q)].Run(
          context, {&x, 1}, y,
          {.activation = activation, .spread = 2, .first_row = p, .first_col = q});
}

int64_t UpsampledConv::in_channels() const { return impl_->in; }
int64_t UpsampledConv::out_channels() const { return impl_->out; }
int64_t UpsampledConv::bytes() const {
  if (!impl_->whole.empty()) return impl_->whole.bytes();
  int64_t sum = 0;
  for (const TileConv& phase : impl_->phases) sum += phase.bytes();
  return sum;
}

int64_t UpsampledConv::ScratchBytes(DType dtype, int64_t rows, int64_t cols) const {
  return impl_->whole.empty() ? 0 : 4 * rows * cols * impl_->in * DTypeSize(dtype);
}

}  // namespace mrt::ops
