#include "ops/conv.h"

#include <algorithm>
#include <optional>

#include "base/check.h"
#include "base/threads.h"
#include "ops/backend.h"
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

struct ConvShape {
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

Shape OutputShapeOf(const ConvShape& s, const Shape& x) {
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
ConvDescriptor DescribeConv(const ConvShape& s, const ConvCall& call, const Desc& weights) {
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

ConvShape ShapeOfWeight(const Shape& weight, const ConvParams& params) {
  MRT_CHECK(weight.rank() == 4 || weight.rank() == 5);
  ConvShape s{.out = weight[0], .in = weight[1], .params = params};
  s.kernel_time = weight.rank() == 5 ? weight[2] : 0;
  s.kernel_rows = weight[weight.rank() - 2];
  s.kernel_cols = weight[weight.rank() - 1];
  MRT_CHECK(s.is_3d() || params.stride_time == 1);
  return s;
}

}  // namespace

struct Conv::Impl {
  ConvShape shape;
  DType dtype;                         // of the packed weight
  std::optional<PackedWeight> weight;  // either this one, maybe with a bias,
  dnnl::memory bias;                   // F32 [out], or empty,
  std::unique_ptr<BackendConv> there;  // or on the device of the context it was made with

  bool has_bias() const { return static_cast<bool>(bias); }

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
  const ConvShape shape = ShapeOfWeight(weight.shape, params);
  MRT_CHECK(bias.empty() || bias.shape.elements() == shape.out);
  const DType dtype = context.activation();
  impl_.reset(new Impl{.shape = shape, .dtype = dtype});
  if (Backend* backend = context.backend()) {
    const Shape in_time{shape.out, shape.in, std::max<int64_t>(shape.kernel_time, 1),
                        shape.kernel_rows, shape.kernel_cols};
    impl_->there = backend->MakeConv(context, weight.Reshape(in_time), bias, params);
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

void Conv::Run(Context& context, const ConstTensorView& x, const TensorView& y,
               Activation activation, Output output) const {
  MRT_CHECK(impl_ != nullptr && x.dtype == impl_->dtype && y.shape == OutputShape(x.shape));
  MRT_CHECK((context.backend() != nullptr) == (impl_->there != nullptr));
  if (y.shape.elements() == 0) return;
  const ConvShape& s = impl_->shape;
  const int64_t taps = std::max<int64_t>(s.kernel_time, 1) * s.kernel_rows * s.kernel_cols;
  const OperationSpan span(
      context, "convolution", SpanKind::kMatrix,
      {.flop = 2.0 * static_cast<double>(y.shape.elements()) * static_cast<double>(taps * s.in),
       .bytes = static_cast<double>(x.bytes() + y.bytes() + bytes())});
  if (impl_->there != nullptr) return impl_->there->Run(context, x, y, activation);
  const ConvCall call{x.shape, x.dtype, y.dtype, impl_->has_bias(), activation};
  const PrimitiveKey key = impl_->Key(call);
  auto& primitives = context.vendor().primitives;
  auto found = primitives.find(key);
  if (found == primitives.end()) found = primitives.emplace(key, impl_->Prepare(call)).first;
  Prepared& prepared = found->second;
  prepared.Run(context, x.data, impl_->weight->In(prepared.weights_desc()), impl_->bias, y.data);
  if (output == Output::kActivation) context.RoundActivation(y);
}

Shape Conv::OutputShape(const Shape& x) const { return OutputShapeOf(impl_->shape, x); }
int64_t Conv::in_channels() const { return impl_->shape.in; }
int64_t Conv::out_channels() const { return impl_->shape.out; }
int64_t Conv::bytes() const {
  if (impl_->there != nullptr) return impl_->there->bytes();
  return impl_->weight->bytes() +
         (impl_->has_bias() ? impl_->shape.out * int64_t{sizeof(float)} : 0);
}

}  // namespace mrt::ops
