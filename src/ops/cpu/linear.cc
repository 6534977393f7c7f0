#include "ops/linear.h"

#include "base/check.h"
#include "base/threads.h"
#include "ops/cpu/vendor.h"

namespace mrt::ops {
namespace {

using Desc = dnnl::memory::desc;
using Tag = dnnl::memory::format_tag;
using MatmulDescriptor = dnnl::matmul::primitive_desc;

/// Rows the layout is chosen for. Linears of these models mostly see thousands; the same layout
/// then serves one row as well.
constexpr int64_t kPackingRows = 1024;

struct MatmulShape {
  int64_t rows, in, out;
  DType x, y;
  bool bias;
  Activation activation;
};

/// Empty if oneDNN has no implementation.
MatmulDescriptor DescribeLinear(const MatmulShape& s, const Desc& weights) {
  const Desc x({s.rows, s.in}, VendorType(s.x), Tag::ab);
  const Desc y({s.rows, s.out}, VendorType(s.y), Tag::ab);
  const Desc bias({1, s.out}, dnnl::memory::data_type::f32, Tag::ab);
  const dnnl::primitive_attr attributes = Attributes(s.activation);
  if (s.bias)
    return MatmulDescriptor({x, weights, bias, y}, attributes, CpuEngine(), /*allow_empty=*/true);
  return MatmulDescriptor({x, weights, y}, attributes, CpuEngine(), true);
}

Desc AnyLayout(int64_t in, int64_t out, DType dtype) {
  return Desc({in, out}, VendorType(dtype), Tag::any);
}

}  // namespace

struct Linear::Impl {
  int64_t in, out;
  DType dtype;  // of the packed weight
  PackedWeight weight;
  dnnl::memory bias;  // F32 [1, out], or empty

  bool has_bias() const { return static_cast<bool>(bias); }

  Prepared Prepare(const MatmulShape& shape) const {
    const auto pd = PreferLayout(weight.desc(), AnyLayout(in, out, dtype),
                                 [&](const Desc& w) { return DescribeLinear(shape, w); });
    return Prepared(dnnl::matmul(pd), pd, shape.bias);
  }
};

Linear::Linear() = default;
Linear::~Linear() = default;
Linear::Linear(Linear&&) noexcept = default;
Linear& Linear::operator=(Linear&&) noexcept = default;

Linear::Linear(Context& context, const ConstTensorView& weight, const ConstTensorView& bias) {
  MRT_CHECK(weight.shape.rank() == 2);
  const int64_t out = weight.shape[0], in = weight.shape[1];
  MRT_CHECK(bias.empty() || bias.shape.elements() == out);
  const DType dtype = context.activation();
  const MatmulShape shape{kPackingRows, in, out, dtype, dtype, !bias.empty(), Activation::kNone};
  const Desc packed =
      RequireKernel(DescribeLinear(shape, AnyLayout(in, out, dtype))).weights_desc();
  const Desc plain({in, out}, VendorType(dtype), Tag::ba);
  const Desc bias_desc({1, out}, dnnl::memory::data_type::f32, Tag::ab);
  const bool round = context.precision() == Precision::kBF16Emulated;
  impl_.reset(new Impl{in, out, dtype, PackedWeight(weight, plain, packed, round),
                       PackBias(bias, bias_desc)});
}

void Linear::Run(Context& context, const ConstTensorView& x, const TensorView& y,
                 Activation activation, Output output) const {
  MRT_CHECK(impl_ != nullptr && x.shape.back() == impl_->in && y.shape.back() == impl_->out);
  MRT_CHECK(x.shape.rows() == y.shape.rows() && x.dtype == impl_->dtype);
  const MatmulShape shape{x.shape.rows(), impl_->in,         impl_->out, x.dtype,
                          y.dtype,        impl_->has_bias(), activation};
  if (shape.rows == 0) return;
  const Span span(
      context.span_log(), "linear", SpanKind::kMatrix,
      {.flop = 2.0 * static_cast<double>(shape.rows * shape.in) * static_cast<double>(shape.out),
       .bytes = static_cast<double>(x.bytes() + y.bytes() + bytes())});
  const PrimitiveKey key{{PrimitiveKey::kLinear, ThreadCount(), shape.rows, shape.in, shape.out,
                          static_cast<int64_t>(shape.x), static_cast<int64_t>(shape.y), shape.bias,
                          static_cast<int64_t>(activation)}};
  auto& primitives = context.vendor().primitives;
  auto found = primitives.find(key);
  if (found == primitives.end()) found = primitives.emplace(key, impl_->Prepare(shape)).first;
  Prepared& prepared = found->second;
  prepared.Run(context, x.data, impl_->weight.In(prepared.weights_desc()), impl_->bias, y.data);
  if (output == Output::kActivation) context.RoundActivation(y);
}

int64_t Linear::in_features() const { return impl_->in; }
int64_t Linear::out_features() const { return impl_->out; }
int64_t Linear::bytes() const {
  return impl_->weight.bytes() + (impl_->has_bias() ? impl_->out * int64_t{sizeof(float)} : 0);
}

}  // namespace mrt::ops
