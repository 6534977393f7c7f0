#include "ops/conv.h"

#include <algorithm>
#include <array>
#include <optional>
#include <span>

#include "base/check.h"
#include "base/threads.h"
#include "ops/backend.h"
#include "ops/cpu/tile_conv.h"
#include "ops/cpu/vendor.h"
#include "ops/operation_span.h"

namespace mrt::ops {
namespace {

using Desc = dnnl::memory::desc;
using Dims = dnnl::memory::dims;
using Tag = dnnl::memory::format_tag;
using ConvDescriptor = dnnl::convolution_forward::primitive_desc;

/// The input the layout is chosen for; other sizes then use the same one.
constexpr int64_t kPackingFrameRows = 60, kPackingFrameCols = 104;

struct VendorConvShape {
  int64_t out = 0, in = 0;
  int64_t kernel_time = 0;  // 0: a 2d convolution, each frame on its own
  int64_t kernel_rows = 0, kernel_cols = 0;
  ConvParams params;

  bool is_3d() const { return kernel_time > 0; }
  Dims weight_dims() const {
    return is_3d() ? Dims{out, in, kernel_time, kernel_rows, kernel_cols}
                   : Dims{out, in, kernel_rows, kernel_cols};
  }
  /// Of x or y [time, rows, columns, channels], in oneDNN's order.
  Dims activation_dims(const Shape& x) const {
    return is_3d() ? Dims{1, x[3], x[0], x[1], x[2]} : Dims{x[0], x[3], x[1], x[2]};
  }
  Tag activation_tag() const { return is_3d() ? Tag::ndhwc : Tag::nhwc; }
  Dims spatial(int64_t time, int64_t rows, int64_t cols) const {
    return is_3d() ? Dims{time, rows, cols} : Dims{rows, cols};
  }
  Desc AnyLayout(DType dtype) const { return Desc(weight_dims(), VendorType(dtype), Tag::any); }
};

Shape OutputShapeOf(const VendorConvShape& s, const Shape& x) {
  MRT_CHECK(x.rank() == 4 && x[3] == s.in);
  const ConvParams& p = s.params;
  const int64_t time = s.is_3d() ? (x[0] - s.kernel_time) / p.stride_time + 1 : x[0];
  const int64_t rows = x[1] + p.pad_top + p.pad_bottom - s.kernel_rows;
  const int64_t cols = x[2] + p.pad_left + p.pad_right - s.kernel_cols;
  MRT_CHECK(x[0] >= s.kernel_time && rows >= 0 && cols >= 0);
  return {time, rows / p.stride_space + 1, cols / p.stride_space + 1, s.out};
}

struct ConvCall {
  Shape x;
  DType x_dtype, y_dtype;
  bool bias;
  Activation activation;
};

/// Empty if oneDNN has no implementation.
ConvDescriptor DescribeConv(const VendorConvShape& s, const ConvCall& call, const Desc& weights) {
  const Desc x(s.activation_dims(call.x), VendorType(call.x_dtype), s.activation_tag());
  const Desc y(s.activation_dims(OutputShapeOf(s, call.x)), VendorType(call.y_dtype),
               s.activation_tag());
  const Desc bias = call.bias ? Desc({s.out}, dnnl::memory::data_type::f32, Tag::a) : Desc();
  const ConvParams& p = s.params;
  const Dims strides = s.spatial(p.stride_time, p.stride_space, p.stride_space);
  const Dims before = s.spatial(0, p.pad_top, p.pad_left);
  const Dims after = s.spatial(0, p.pad_bottom, p.pad_right);
  return ConvDescriptor({dnnl::prop_kind::forward_inference, dnnl::algorithm::convolution_direct, x,
                         weights, bias, y, strides, before, after},
                        Attributes(call.activation), CpuEngine(), /*allow_empty=*/true);
}

VendorConvShape ShapeOfWeight(const Shape& weight, const ConvParams& params) {
  MRT_CHECK(weight.rank() == 4 || weight.rank() == 5);
  VendorConvShape s{.out = weight[0], .in = weight[1], .params = params};
  s.kernel_time = weight.rank() == 5 ? weight[2] : 0;
  s.kernel_rows = weight[weight.rank() - 2];
  s.kernel_cols = weight[weight.rank() - 1];
  MRT_CHECK(s.is_3d() || params.stride_time == 1);
  return s;
}

ConvShape TileShape(const VendorConvShape& s) {
  return {.in = s.in,
          .out = s.out,
          .kernel_time = std::max<int64_t>(s.kernel_time, 1),
          .kernel_rows = s.kernel_rows,
          .kernel_cols = s.kernel_cols,
          .stride = s.params.stride_space,
          .pad_top = s.params.pad_top,
          .pad_left = s.params.pad_left};
}

}  // namespace

struct Conv::Impl {
  VendorConvShape shape;
  DType dtype;                         // of the packed weight
  std::optional<PackedWeight> weight;  // either this one, maybe with a bias,
  dnnl::memory bias;                   // F32 [out], or empty,
  std::optional<TileConv> tiles;       // or that of our AMX kernel,
  std::unique_ptr<BackendConv> there;  // or on the device of the context it was made with

  int64_t frames() const { return std::max<int64_t>(shape.kernel_time, 1); }

  bool has_bias() const { return static_cast<bool>(bias); }
  int64_t bytes() const {
    if (there != nullptr) return there->bytes();
    if (tiles) return tiles->bytes();
    return weight->bytes() + (has_bias() ? shape.out * int64_t{sizeof(float)} : 0);
  }
  SpanWork Work(int64_t x_bytes, const TensorView& y) const;
  void RunTiles(Context& context, const ConstTensorView& x, const TensorView& y,
                const ConvEnd& end) const;

  Prepared Prepare(const ConvCall& call) const {
    const auto pd = PreferLayout(weight->desc(), shape.AnyLayout(dtype),
                                 [&](const Desc& w) { return DescribeConv(shape, call, w); });
    return Prepared(dnnl::convolution_forward(pd), pd, call.bias);
  }

  PrimitiveKey Key(const ConvCall& call) const {
    const ConvParams& p = shape.params;
    return {{PrimitiveKey::kConv,
             ThreadCount(),
             shape.out,
             shape.in,
             shape.kernel_time,
             shape.kernel_rows,
             shape.kernel_cols,
             p.stride_time,
             p.stride_space,
             p.pad_top,
             p.pad_left,
             p.pad_bottom,
             p.pad_right,
             call.x[0],
             call.x[1],
             call.x[2],
             static_cast<int64_t>(call.x_dtype),
             static_cast<int64_t>(call.y_dtype),
             call.bias,
             static_cast<int64_t>(call.activation)}};
  }
};

Conv::Conv() = default;
Conv::~Conv() = default;
Conv::Conv(Conv&&) noexcept = default;
Conv& Conv::operator=(Conv&&) noexcept = default;

Conv::Conv(Context& context, const ConstTensorView& weight, const ConstTensorView& bias,
           const ConvParams& params) {
  const VendorConvShape shape = ShapeOfWeight(weight.shape, params);
  MRT_CHECK(bias.empty() || bias.shape.elements() == shape.out);
  const DType dtype = context.activation();
  impl_.reset(new Impl{.shape = shape, .dtype = dtype});
  if (Backend* backend = context.backend()) {
    const Shape in_time{shape.out, shape.in, std::max<int64_t>(shape.kernel_time, 1),
                        shape.kernel_rows, shape.kernel_cols};
    impl_->there = backend->MakeConv(context, weight.Reshape(in_time), bias, params);
    return;
  }
  if (TileConv::Takes(context, TileShape(shape))) {
    impl_->tiles.emplace(TileShape(shape), weight, bias);
    return;
  }
  const Shape x{std::max<int64_t>(shape.kernel_time, 1), kPackingFrameRows, kPackingFrameCols,
                shape.in};
  const ConvCall call{x, dtype, dtype, !bias.empty(), Activation::kNone};
  const Desc packed =
      RequireKernel(DescribeConv(shape, call, shape.AnyLayout(dtype))).weights_desc();
  const Desc plain(shape.weight_dims(), VendorType(dtype), shape.is_3d() ? Tag::oidhw : Tag::oihw);
  const Desc bias_desc({shape.out}, dnnl::memory::data_type::f32, Tag::a);
  const bool round = context.precision() == Precision::kBF16Emulated;
  impl_->weight.emplace(weight, plain, packed, round);
  impl_->bias = PackBias(bias, bias_desc);
}

SpanWork Conv::Impl::Work(int64_t x_bytes, const TensorView& y) const {
  const int64_t taps = frames() * shape.kernel_rows * shape.kernel_cols;
  return {
      .flop = 2.0 * static_cast<double>(y.shape.elements()) * static_cast<double>(taps * shape.in),
      .bytes = static_cast<double>(x_bytes + y.bytes() + bytes())};
}

void Conv::Impl::RunTiles(Context& context, const ConstTensorView& x, const TensorView& y,
                          const ConvEnd& end) const {
  std::array<ConstTensorView, kFramesMax> room;
  const std::span<ConstTensorView> window(room.data(), static_cast<size_t>(frames()));
  for (int64_t t = 0; t < y.shape[0]; ++t) {
    for (int64_t a = 0; a < frames(); ++a) {
      const int64_t from = t * shape.params.stride_time + a;
      window[static_cast<size_t>(a)] = x.Slice(from, from + 1);
    }
    tiles->Run(context, window, y.Slice(t, t + 1), end);
  }
}

void Conv::Run(Context& context, const ConstTensorView& x, const TensorView& y,
               Activation activation, Output output) const {
  MRT_CHECK(impl_ != nullptr && x.dtype == impl_->dtype && y.shape == OutputShape(x.shape));
  MRT_CHECK((context.backend() != nullptr) == (impl_->there != nullptr));
  if (y.shape.elements() == 0) return;
  const OperationSpan span(context, "convolution", SpanKind::kMatrix, impl_->Work(x.bytes(), y));
  if (impl_->there != nullptr) return impl_->there->Run(context, x, y, activation);
  if (impl_->tiles) return impl_->RunTiles(context, x, y, {.activation = activation});
  const ConvCall call{x.shape, x.dtype, y.dtype, impl_->has_bias(), activation};
  const PrimitiveKey key = impl_->Key(call);
  auto& primitives = context.vendor().primitives;
  auto found = primitives.find(key);
  if (found == primitives.end()) found = primitives.emplace(key, impl_->Prepare(call)).first;
  Prepared& prepared = found->second;
  prepared.Run(context, x.data, impl_->weight->In(prepared.weights_desc()), impl_->bias, y.data);
  if (output == Output::kActivation) context.RoundActivation(y);
}

bool Conv::takes_frames() const { return impl_->tiles.has_value(); }

void Conv::RunFrames(Context& context, std::span<const ConstTensorView> frames, const TensorView& y,
                     bool add, Activation activation) const {
  MRT_CHECK(takes_frames() && static_cast<int64_t>(frames.size()) == impl_->frames());
  int64_t x_bytes = 0;
  for (const ConstTensorView& frame : frames) {
    MRT_CHECK(frame.dtype == impl_->dtype && frame.shape == frames[0].shape && frame.shape[0] == 1);
    x_bytes += frame.bytes();
  }
  const Shape& x = frames[0].shape;
  MRT_CHECK((y.shape == OutputShape({impl_->frames(), x[1], x[2], x[3]})));
  if (y.shape.elements() == 0) return;
  const OperationSpan span(context, "convolution", SpanKind::kMatrix, impl_->Work(x_bytes, y));
  impl_->tiles->Run(context, frames, y, {.activation = activation, .add = add});
}

Shape Conv::OutputShape(const Shape& x) const { return OutputShapeOf(impl_->shape, x); }
int64_t Conv::in_channels() const { return impl_->shape.in; }
int64_t Conv::out_channels() const { return impl_->shape.out; }
int64_t Conv::bytes() const { return impl_->bytes(); }

}  // namespace mrt::ops
