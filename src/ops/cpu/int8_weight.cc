// x = (q - zero) * row_scale and weight = w * scale, so x W^T = (sum q w - zero * sum w) *
// row_scale * scale. The first sum is oneDNN's, of u8 and s8 into s32; the second is known when the
// weight is packed.
#include "ops/cpu/int8_weight.h"

#include <algorithm>

#include "base/check.h"
#include "base/cpu_features.h"
#include "base/int8.h"
#include "base/threads.h"
#include "kernels/linear/linear.h"

namespace mrt::ops {
namespace {

using Desc = dnnl::memory::desc;
using Tag = dnnl::memory::format_tag;
using MatmulDescriptor = dnnl::matmul::primitive_desc;

// The sums of so many rows at once: they should still be in the cache when they are scaled.
constexpr int64_t kSumBytes = int64_t{8} << 20;
constexpr int64_t kRowsMin = 64;  // below that, packed weights are read too often

int64_t RowsAtOnce(int64_t rows, int64_t out) {
  return std::min(
      rows, std::max(kRowsMin, kSumBytes / (out * DTypeSize(DType::kI32)) / kRowsMin * kRowsMin));
}

/// For our AMX kernel: rounded inputs of so many rows at once should still be in the cache when
/// they are multiplied, and each thread should have some.
int64_t TileRowsAtOnce(int64_t rows, int64_t in) {
  constexpr int64_t kInputBytes = int64_t{4} << 20, kRowsOfThread = 192;
  return std::min(
      rows, std::max(kInputBytes / in / kRowsOfThread, int64_t{ThreadCount()}) * kRowsOfThread);
}

/// Without VNNI or AMX oneDNN adds two products of u8 and s8 in 16 bits, which saturate: 255 * 127
/// * 2 does not fit, 127 * 128 * 2 does. There activations are always two digits of 7 bits.
bool SumsAreExact() {
  static const bool kExact = [] {
    const int wanted = dnnl_cpu_isa_avx512_core_vnni;
    return (dnnl_get_effective_cpu_isa() & wanted) == wanted;
  }();
  return kExact;
}

// The last number of each is for two roundings that add up.
constexpr int kStepsOneDigit = 255 - 1;
constexpr int kStepsTwoDigits = kDigitBase * kDigitBase - 1 - 1;

MatmulDescriptor Describe(int64_t rows, int64_t in, int64_t out, const Desc& weights) {
  const Desc x({rows, in}, VendorType(DType::kU8), Tag::ab);
  const Desc sums({rows, out}, VendorType(DType::kI32), Tag::ab);
  return MatmulDescriptor({x, weights, sums}, Attributes(Activation::kNone), CpuEngine(),
                          /*allow_empty=*/true);
}

Desc AnyInt8Layout(int64_t in, int64_t out) {
  return Desc({in, out}, VendorType(DType::kI8), Tag::any);
}

Desc Layout(int64_t in, int64_t out) {
  constexpr int64_t kRowsOfLayout = 1024;  // as in linear.cc
  return RequireKernel(Describe(kRowsOfLayout, in, out, AnyInt8Layout(in, out))).weights_desc();
}

}  // namespace

QuantizedWeight::QuantizedWeight(const ConstTensorView& weight)
    : values(DType::kI8, weight.shape), scales(DType::kF32, {weight.shape[0]}) {
  const int64_t in = weight.shape[1];
  const Tensor wide(DType::kF32, weight.shape);
  ConvertTo(weight, DType::kF32, wide.view().data);
  auto* const q = static_cast<int8_t*>(values.view().data);
  ParallelFor(weight.shape[0], RowsGrain(in), [&](int64_t begin, int64_t end) {
    for (int64_t o = begin; o < end; ++o)
      scales.as<float>()[o] = QuantizeRow(wide.as<float>() + o * in, in, q + o * in);
  });
}

Int8Weight::Int8Weight(const Int8WeightView& weight, const ConstTensorView& bias, WeightType type)
    : in_(weight.values.shape[1]),
      out_(weight.values.shape[0]),
      two_digits_(type == WeightType::kInt8Fine || !SumsAreExact()),
      scales_(DType::kF32, {out_}),
      weight_sums_(DType::kI32, {out_}),
      bias_(DType::kF32, {out_}) {
  MRT_CHECK(in_ <= kInt8ColumnsMax && weight.scales.shape.elements() == out_);
  std::copy_n(weight.scales.as<float>(), out_, scales_.as<float>());
  const auto* w = static_cast<const int8_t*>(weight.values.data);
  for (int64_t o = 0; o < out_; ++o, w += in_) {
    int32_t sum = 0;
    for (int64_t i = 0; i < in_; ++i) sum += w[i];
    weight_sums_.as<int32_t>()[o] = sum;
  }
  if (!bias.empty()) ConvertTo(bias, DType::kF32, bias_.view().data);
  if (LinearRefuses(LinearType::kInt8, in_, out_, GetCpuFeatures()) != nullptr) {
    weight_.emplace(weight.values, Desc({in_, out_}, VendorType(DType::kI8), Tag::ba),
                    Layout(in_, out_), /*round=*/false);
    return;
  }
  tiles_ = TileBytes(out_ * in_);
  PackLinearWeight(LinearType::kInt8, weight.values.data, in_, out_, tiles_.data());
}

Prepared& Int8Weight::Prepare(Context& context, int64_t rows) const {
  const PrimitiveKey key{{PrimitiveKey::kInt8Linear, ThreadCount(), rows, in_, out_}};
  auto& primitives = context.vendor().primitives;
  const auto found = primitives.find(key);
  if (found != primitives.end()) return found->second;
  const auto pd = PreferLayout(weight_->desc(), AnyInt8Layout(in_, out_),
                               [&](const Desc& w) { return Describe(rows, in_, out_, w); });
  return primitives.emplace(key, Prepared(dnnl::matmul(pd), pd, /*bias=*/false)).first->second;
}

void Int8Weight::Run(Context& context, const ConstTensorView& x, const TensorView& y,
                     Activation activation) const {
  Run(context, x, y, {.epilogue = EpilogueOf(activation)});
}

void Int8Weight::AddTo(Context& context, const ConstTensorView& x, const TensorView& residual,
                       const ConstTensorView& gate) const {
  Run(context, x, residual, {.add = true, .gate = gate.empty() ? nullptr : gate.as<float>()});
}

void Int8Weight::Run(Context& context, const ConstTensorView& x, const TensorView& y,
                     const DequantizeArgs& finish) const {
  const int64_t rows = x.shape.rows();
  const int64_t at_once = tiles_.empty() ? RowsAtOnce(rows, out_) : TileRowsAtOnce(rows, in_);
  const int64_t digits = two_digits_ ? 2 : 1;
  const ArenaScope scope(context.arena());
  // The second digits of all rows follow the first ones of all rows: one product for both.
  const TensorView q = context.arena().Allocate(DType::kU8, {digits * at_once, in_});
  const TensorView row_scales = context.Float({at_once});
  const TensorView zeros = context.arena().Allocate(DType::kI32, {at_once});
  auto* const bytes = static_cast<uint8_t*>(q.data);
  for (int64_t begin = 0; begin < rows; begin += at_once) {
    const int64_t count = std::min(at_once, rows - begin);
    const char* const from = static_cast<const char*>(x.data) + begin * in_ * DTypeSize(x.dtype);
    char* const to = static_cast<char*>(y.data) + begin * out_ * DTypeSize(y.dtype);
    const QuantizeArgs quantize{.x = {from, Storage(x.dtype)},
                                .q = bytes,
                                .q_low = two_digits_ ? bytes + count * in_ : nullptr,
                                .scale = row_scales.as<float>(),
                                .zero = zeros.as<int32_t>(),
                                .width = in_,
                                .steps = two_digits_ ? kStepsTwoDigits : kStepsOneDigit};
    ParallelFor(count, RowsGrain(in_),
                [&](int64_t first, int64_t last) { Rowwise().quantize(quantize, first, last); });
    DequantizeArgs dequantize = finish;
    dequantize.weight_sum = weight_sums_.as<int32_t>();
    dequantize.scale = scales_.as<float>();
    dequantize.row_scale = row_scales.as<float>();
    dequantize.zero = zeros.as<int32_t>();
    dequantize.bias = bias_.as<float>();
    dequantize.y = {to, Storage(y.dtype)};
    dequantize.width = out_;
    if (tiles_.empty()) {
      MultiplyByVendor(context, quantize, count, dequantize);
    } else {
      MultiplyByTiles(context, quantize, count, dequantize);
    }
  }
}

void Int8Weight::MultiplyByVendor(Context& context, const QuantizeArgs& x, int64_t rows,
                                  DequantizeArgs finish) const {
  const int64_t digits = two_digits_ ? 2 : 1;
  const ArenaScope scope(context.arena());
  const TensorView sums = context.arena().Allocate(DType::kI32, {digits * rows, out_});
  Prepared& prepared = Prepare(context, digits * rows);
  prepared.Run(context, x.q, weight_->In(prepared.weights_desc()), {}, sums.data);
  finish.sum = sums.as<int32_t>();
  finish.sum_low = two_digits_ ? finish.sum + rows * out_ : nullptr;
  ParallelFor(rows, RowsGrain(out_),
              [&](int64_t first, int64_t last) { Rowwise().dequantize(finish, first, last); });
}

void Int8Weight::MultiplyByTiles(Context& context, const QuantizeArgs& x, int64_t rows,
                                 const DequantizeArgs& finish) const {
  LinearArgs args{.type = LinearType::kInt8,
                  .x = x.q,
                  .x_low = x.q_low,
                  .scales = {finish.weight_sum, finish.scale, finish.row_scale, finish.zero},
                  .weight = tiles_.data(),
                  .bias = finish.bias,
                  .y = finish.y,
                  .rows = rows,
                  .in = in_,
                  .out = out_,
                  .epilogue = finish.epilogue,
                  .add = finish.add,
                  .gate = finish.gate};
  const ArenaScope scope(context.arena());
  const int64_t bytes = LinearScratchBytes(args, ThreadCount());
  args.scratch = context.arena().Allocate(DType::kU8, Shape{bytes}).data;
  RunLinear(args);
}

int64_t Int8Weight::bytes() const {
  return (weight_ ? weight_->bytes() : tiles_.bytes()) + scales_.bytes() + weight_sums_.bytes() +
         bias_.bytes();
}

int64_t Linear::Int8Bytes(int64_t in, int64_t out) {
  return out * (in + int64_t{sizeof(float)} + int64_t{sizeof(int32_t)});  // scale, sum of weights
}

int64_t Linear::Int8ScratchBytes(int64_t rows, int64_t in, int64_t out) {
  constexpr int64_t kDigits = 2;
  return RowsAtOnce(rows, out) * (kDigits * (in + out * DTypeSize(DType::kI32)) +
                                  DTypeSize(DType::kF32) + DTypeSize(DType::kI32));
}

}  // namespace mrt::ops
