#include "ops/linear.h"

#include <algorithm>
#include <optional>

#include "base/check.h"
#include "base/cpu_features.h"
#include "base/threads.h"
#include "kernels/linear/linear.h"
#include "ops/backend.h"
#include "ops/cpu/int8_weight.h"
#include "ops/cpu/vendor.h"
#include "ops/operation_span.h"
#include "ops/storage.h"

namespace mrt::ops {
namespace {

using Desc = dnnl::memory::desc;
using Tag = dnnl::memory::format_tag;
using MatmulDescriptor = dnnl::matmul::primitive_desc;

/// Rows the layout is chosen for. Linears of these models mostly see thousands; the same layout
/// then serves one row as well.
constexpr int64_t kPackingRows = 1024;

/// Rows whose product is made before it is gated and added. That of a narrow weight, up to 1 MB for
/// each thread, is then still in its L2. A wide one would need so few rows for that that the weight
/// is read too often: there the number is only to keep the product in a larger cache.
int64_t GatedRowsAtOnce(int64_t rows, int64_t out) {
  constexpr int64_t kNarrow = 512;
  return std::min(rows, ThreadCount() * int64_t{out <= kNarrow ? 512 : 2048});
}

struct MatmulShape {
  int64_t rows, in, out;
  DType x, y;
  bool bias;
  Activation activation;
  bool add;  // to what y holds
};

/// Empty if oneDNN has no implementation.
MatmulDescriptor DescribeLinear(const MatmulShape& s, const Desc& weights) {
  const Desc x({s.rows, s.in}, VendorType(s.x), Tag::ab);
  const Desc y({s.rows, s.out}, VendorType(s.y), Tag::ab);
  const Desc bias({1, s.out}, dnnl::memory::data_type::f32, Tag::ab);
  const dnnl::primitive_attr attributes = Attributes(s.activation, s.add);
  if (s.bias)
    return MatmulDescriptor({x, weights, bias, y}, attributes, CpuEngine(), /*allow_empty=*/true);
  return MatmulDescriptor({x, weights, y}, attributes, CpuEngine(), true);
}

Desc AnyLayout(int64_t in, int64_t out, DType dtype) {
  return Desc({in, out}, VendorType(dtype), Tag::any);
}

/// The weight in the dtype of the activations.
class FloatWeight {
 public:
  FloatWeight(Context& context, const ConstTensorView& weight, const ConstTensorView& bias)
      : in_(weight.shape[1]),
        out_(weight.shape[0]),
        dtype_(context.activation()),
        weight_(weight, Desc({in_, out_}, VendorType(dtype_), Tag::ba), Layout(!bias.empty()),
                context.precision() == Precision::kBF16Emulated),
        bias_(PackBias(bias, Desc({1, out_}, dnnl::memory::data_type::f32, Tag::ab))) {}

  void Run(Context& context, const ConstTensorView& x, const TensorView& y,
           Activation activation) const {
    Multiply(context, x, y, activation, /*add=*/false);
  }

  /// residual += gate * (x W^T + b): residual F32 [rows, out], gate F32 [out] or empty (ones).
  void AddTo(Context& context, const ConstTensorView& x, const TensorView& residual,
             const ConstTensorView& gate) const {
    if (gate.empty()) return Multiply(context, x, residual, Activation::kNone, /*add=*/true);
    // oneDNN 2.6.3 could gate as well, but divides twice to find a vector's place in the gate.
    const int64_t rows = x.shape.rows(), at_once = GatedRowsAtOnce(rows, out_);
    const ArenaScope scope(context.arena());
    const TensorView product = context.Float({at_once, out_});
    for (int64_t begin = 0; begin < rows; begin += at_once) {
      const int64_t end = std::min(rows, begin + at_once);
      const TensorView part = product.Slice(0, end - begin);
      Multiply(context, x.Slice(begin, end), part, Activation::kNone, /*add=*/false);
      const AddGatedArgs args{residual.Slice(begin, end).as<float>(), part.as<float>(),
                              gate.as<float>(), out_};
      ParallelFor(end - begin, RowsGrain(out_),
                  [&](int64_t first, int64_t last) { Rowwise().add_gated(args, first, last); });
    }
  }

  int64_t bytes() const {
    return weight_.bytes() + (has_bias() ? out_ * int64_t{sizeof(float)} : 0);
  }

 private:
  bool has_bias() const { return static_cast<bool>(bias_); }

  void Multiply(Context& context, const ConstTensorView& x, const TensorView& y,
                Activation activation, bool add) const {
    MRT_CHECK(x.dtype == dtype_);
    const MatmulShape shape{x.shape.rows(), in_,        out_,       x.dtype,
                            y.dtype,        has_bias(), activation, add};
    const PrimitiveKey key{{PrimitiveKey::kLinear, ThreadCount(), shape.rows, shape.in, shape.out,
                            static_cast<int64_t>(shape.x), static_cast<int64_t>(shape.y),
                            shape.bias, static_cast<int64_t>(activation), add}};
    auto& primitives = context.vendor().primitives;
    auto found = primitives.find(key);
    if (found == primitives.end()) found = primitives.emplace(key, Prepare(shape)).first;
    Prepared& prepared = found->second;
    prepared.Run(context, x.data, weight_.In(prepared.weights_desc()), bias_, y.data);
  }

  Desc Layout(bool bias) const {
    const MatmulShape shape{kPackingRows, in_, out_, dtype_, dtype_, bias, Activation::kNone,
                            /*add=*/false};
    return RequireKernel(DescribeLinear(shape, AnyLayout(in_, out_, dtype_))).weights_desc();
  }

  Prepared Prepare(const MatmulShape& shape) const {
    const auto pd = PreferLayout(weight_.desc(), AnyLayout(in_, out_, dtype_),
                                 [&](const Desc& w) { return DescribeLinear(shape, w); });
    return Prepared(dnnl::matmul(pd), pd, shape.bias);
  }

  int64_t in_, out_;
  DType dtype_;  // of the packed weight
  PackedWeight weight_;
  dnnl::memory bias_;  // F32 [1, out], or empty
};

/// The weight in the order of our own kernel: bfloat16 on AMX, float32 on AVX2.
class PanelWeight {
 public:
  static bool Takes(const Context& context, int64_t in, int64_t out) {
    return context.precision() != Precision::kBF16Emulated &&
           LinearRefuses(TypeOf(context), in, out, GetCpuFeatures()) == nullptr;
  }

  PanelWeight(const Context& context, const ConstTensorView& weight, const ConstTensorView& bias)
      : type_(TypeOf(context)),
        dtype_(context.activation()),
        in_(weight.shape[1]),
        out_(weight.shape[0]),
        weight_(in_ * out_ * DTypeSize(dtype_)),
        bias_(DType::kF32, {out_}) {
    Pack(weight);
    if (!bias.empty()) ConvertTo(bias, DType::kF32, bias_.view().data);
  }

  void Run(Context& context, const ConstTensorView& x, const TensorView& y,
           Activation activation) const {
    Multiply(context, {.x = x.data, .y = Out(y), .epilogue = EpilogueOf(activation)}, x);
  }

  /// As FloatWeight's.
  void AddTo(Context& context, const ConstTensorView& x, const TensorView& residual,
             const ConstTensorView& gate) const {
    Multiply(context,
             {.x = x.data,
              .y = Out(residual),
              .add = true,
              .gate = gate.empty() ? nullptr : gate.as<float>()},
             x);
  }

  int64_t bytes() const { return weight_.bytes() + bias_.bytes(); }

 private:
  static LinearType TypeOf(const Context& context) {
    return context.precision() == Precision::kBF16 ? LinearType::kBF16 : LinearType::kF32;
  }

  void Pack(const ConstTensorView& weight) {
    if (weight.dtype == dtype_)
      return PackLinearWeight(type_, weight.data, in_, out_, weight_.data());
    // Some rows at a time, which stay in the cache: whole panels of the kernel.
    constexpr int64_t kRows = 256;
    const int64_t row_bytes = in_ * DTypeSize(dtype_);
    const TileBytes rounded(std::min(kRows, out_) * row_bytes);
    for (int64_t begin = 0; begin < out_; begin += kRows) {
      const int64_t end = std::min(out_, begin + kRows);
      ConvertTo(weight.Slice(begin, end), dtype_, rounded.data());
      PackLinearWeight(type_, rounded.data(), in_, end - begin,
                       static_cast<char*>(weight_.data()) + begin * row_bytes);
    }
  }

  void Multiply(Context& context, LinearArgs args, const ConstTensorView& x) const {
    MRT_CHECK(x.dtype == dtype_);
    args.type = type_;
    args.weight = weight_.data();
    args.bias = bias_.as<float>();
    args.rows = x.shape.rows();
    args.in = in_;
    args.out = out_;
    const ArenaScope scope(context.arena());
    const int64_t bytes = LinearScratchBytes(args, ThreadCount());
    args.scratch = context.arena().Allocate(DType::kU8, Shape{bytes}).data;
    RunLinear(args);
  }

  LinearType type_;
  DType dtype_;  // of the packed weight
  int64_t in_, out_;
  TileBytes weight_;
  Tensor bias_;  // zeros if there is none
};

}  // namespace

struct Linear::Impl {
  int64_t in = 0, out = 0;
  std::optional<FloatWeight> floating;  // one of the four
  std::optional<PanelWeight> panels;
  std::optional<Int8Weight> int8;
  std::unique_ptr<BackendLinear> there;  // on the device of the context it was made with

  bool fits(const Context& context) const {
    return (context.backend() != nullptr) == (there != nullptr);
  }
};

Linear::Linear() = default;
Linear::~Linear() = default;
Linear::Linear(Linear&&) noexcept = default;
Linear& Linear::operator=(Linear&&) noexcept = default;

Linear::Linear(Context& context, const ConstTensorView& weight, const ConstTensorView& bias,
               WeightType type) {
  MRT_CHECK(weight.shape.rank() == 2);
  const int64_t out = weight.shape[0], in = weight.shape[1];
  MRT_CHECK(bias.empty() || bias.shape.elements() == out);
  impl_.reset(new Impl{.in = in, .out = out});
  if (Backend* backend = context.backend()) {
    MRT_CHECK(type == WeightType::kActivation);
    impl_->there = backend->MakeLinear(context, weight, bias);
  } else if (type == WeightType::kActivation && PanelWeight::Takes(context, in, out)) {
    impl_->panels.emplace(context, weight, bias);
  } else if (type == WeightType::kActivation) {
    impl_->floating.emplace(context, weight, bias);
  } else {
    impl_->int8.emplace(QuantizedWeight(weight), bias, type);
  }
}

Linear::Linear(const Int8WeightView& weight, const ConstTensorView& bias, WeightType type) {
  const Shape& shape = weight.values.shape;
  MRT_CHECK(type != WeightType::kActivation && shape.rank() == 2 &&
            (bias.empty() || bias.shape.elements() == shape[0]));
  impl_.reset(new Impl{.in = shape[1], .out = shape[0]});
  impl_->int8.emplace(weight, bias, type);
}

void Linear::Run(Context& context, const ConstTensorView& x, const TensorView& y,
                 Activation activation, Output output) const {
  MRT_CHECK(impl_ != nullptr && x.shape.back() == impl_->in && y.shape.back() == impl_->out);
  const int64_t rows = x.shape.rows();
  MRT_CHECK(rows == y.shape.rows() && impl_->fits(context));
  if (rows == 0) return;
  const OperationSpan span(
      context, impl_->int8 ? "int8 linear" : "linear", SpanKind::kMatrix,
      {.flop = 2.0 * static_cast<double>(rows * impl_->in) * static_cast<double>(impl_->out),
       .bytes = static_cast<double>(x.bytes() + y.bytes() + bytes())});
  if (impl_->there != nullptr) {
    impl_->there->Run(context, x, y, activation);
  } else if (impl_->int8) {
    impl_->int8->Run(context, x, y, activation);
  } else if (impl_->panels) {
    impl_->panels->Run(context, x, y, activation);
  } else {
    impl_->floating->Run(context, x, y, activation);
  }
  if (output == Output::kActivation) context.RoundActivation(y);
}

void Linear::AddTo(Context& context, const ConstTensorView& x, const TensorView& residual,
                   const ConstTensorView& gate) const {
  MRT_CHECK(impl_ != nullptr && x.shape.back() == impl_->in && residual.dtype == DType::kF32 &&
            residual.shape.back() == impl_->out);
  const int64_t rows = x.shape.rows(), groups = gate.empty() ? 1 : gate.shape.rows();
  MRT_CHECK(rows == residual.shape.rows() && rows % groups == 0 && impl_->fits(context) &&
            (gate.empty() || (gate.dtype == DType::kF32 && gate.shape.back() == impl_->out)));
  if (rows == 0) return;
  const OperationSpan span(
      context, impl_->int8 ? "int8 linear" : "linear", SpanKind::kMatrix,
      {.flop = 2.0 * static_cast<double>(rows * impl_->in) * static_cast<double>(impl_->out),
       .bytes = static_cast<double>(x.bytes() + 2 * residual.bytes() + gate.bytes() + bytes())});
  if (impl_->there != nullptr) return impl_->there->AddTo(context, x, residual, gate);
  const ConstTensorView from = x.Reshape({rows, impl_->in});
  const TensorView to = residual.Reshape({rows, impl_->out});
  for (int64_t g = 0; g < groups; ++g) {
    const int64_t begin = rows / groups * g, end = begin + rows / groups;
    const ConstTensorView gate_row =
        gate.empty() ? gate : gate.Reshape({groups, impl_->out}).Slice(g, g + 1);
    if (impl_->int8) {
      impl_->int8->AddTo(context, from.Slice(begin, end), to.Slice(begin, end), gate_row);
    } else if (impl_->panels) {
      impl_->panels->AddTo(context, from.Slice(begin, end), to.Slice(begin, end), gate_row);
    } else {
      impl_->floating->AddTo(context, from.Slice(begin, end), to.Slice(begin, end), gate_row);
    }
  }
}

int64_t Linear::in_features() const { return impl_->in; }
int64_t Linear::out_features() const { return impl_->out; }
int64_t Linear::bytes() const {
  if (impl_->there != nullptr) return impl_->there->bytes();
  if (impl_->panels) return impl_->panels->bytes();
  return impl_->int8 ? impl_->int8->bytes() : impl_->floating->bytes();
}

}  // namespace mrt::ops
