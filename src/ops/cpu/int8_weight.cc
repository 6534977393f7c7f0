// x = (q - zero) * row_scale and weight = w * scale, so x W^T = (sum q w - zero * sum w) *
// row_scale * scale. The first sum is oneDNN's, of u8 and s8 into s32; the second is known when the
// weight is packed.
#include "ops/cpu/int8_weight.h"

#include <algorithm>

#include "base/check.h"
#include "base/int8.h"
#include "base/threads.h"

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

PackedWeight Pack(const ConstTensorView& values) {
  constexpr int64_t kRowsOfLayout = 1024;  // as in linear.cc
  const int64_t out = values.shape[0], in = values.shape[1];
  const Desc packed =
      RequireKernel(Describe(kRowsOfLayout, in, out, AnyInt8Layout(in, out))).weights_desc();
  const Desc plain({in, out}, VendorType(DType::kI8), Tag::ba);
  return PackedWeight(values, plain, packed, /*round=*/false);
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
      weight_(Pack(weight.values)),
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
}

Prepared& Int8Weight::Prepare(Context& context, int64_t rows) const {
  const PrimitiveKey key{{PrimitiveKey::kInt8Linear, ThreadCount(), rows, in_, out_}};
  auto& primitives = context.vendor().primitives;
  const auto found = primitives.find(key);
  if (found != primitives.end()) return found->second;
  const auto pd = PreferLayout(weight_.desc(), AnyInt8Layout(in_, out_),
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
  const int64_t rows = x.shape.rows(), at_once = RowsAtOnce(rows, out_);
  const int64_t digits = two_digits_ ? 2 : 1;
  const ArenaScope scope(context.arena());
  // The second digits of all rows follow the first ones of all rows: one product for both.
  const TensorView q = context.arena().Allocate(DType::kU8, {digits * at_once, in_});
  const TensorView sums = context.arena().Allocate(DType::kI32, {digits * at_once, out_});
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
    Prepared& prepared = Prepare(context, digits * count);
    prepared.Run(context, q.data, weight_.In(prepared.weights_desc()), {}, sums.data);
    const int32_t* const sum = sums.as<int32_t>();
    const DequantizeArgs dequantize{.sum = sum,
                                    .sum_low = two_digits_ ? sum + count * out_ : nullptr,
                                    .weight_sum = weight_sums_.as<int32_t>(),
                                    .scale = scales_.as<float>(),
                                    .row_scale = row_scales.as<float>(),
                                    .zero = zeros.as<int32_t>(),
                                    .bias = bias_.as<float>(),
                                    .y = {to, Storage(y.dtype)},
                                    .width = out_,
                                    .epilogue = finish.epilogue,
                                    .add = finish.add,
                                    .gate = finish.gate};
    ParallelFor(count, RowsGrain(out_), [&](int64_t first, int64_t last) {
      Rowwise().dequantize(dequantize, first, last);
    });
  }
}

int64_t Int8Weight::bytes() const {
  return weight_.bytes() + scales_.bytes() + weight_sums_.bytes() + bias_.bytes();
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
