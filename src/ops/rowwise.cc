#include "ops/rowwise.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/check.h"
#include "base/threads.h"
#include "ops/backend.h"
#include "ops/operation_span.h"
#include "ops/storage.h"

namespace mrt::ops {
namespace {

/// Values for a thread at least: about 10 us of work, what it costs to start a parallel region.
constexpr int64_t kPixelsGrain = 1 << 15;

/// Runs a kernel over all rows of a [..., width] tensor, spread over the threads.
template <typename Args>
void Spread(void (*kernel)(const Args&, int64_t, int64_t), const Args& args, int64_t rows,
            int64_t width) {
  ParallelFor(rows, RowsGrain(width),
              [&](int64_t begin, int64_t end) { kernel(args, begin, end); });
}

int64_t RowsPerGroup(const ConstTensorView& groups, const ConstTensorView& x) {
  MRT_CHECK(groups.shape.back() == x.shape.back());
  const int64_t count = groups.shape.rows();
  MRT_CHECK(count > 0 && x.shape.rows() % count == 0);
  return std::max<int64_t>(1, x.shape.rows() / count);
}

void CheckSame(const ConstTensorView& x, const ConstTensorView& y) {
  MRT_CHECK(x.shape.rows() == y.shape.rows() && x.shape.back() == y.shape.back());
}

/// What an operation of rows does: nothing that counts as matrix arithmetic.
OperationSpan RowwiseSpan(const Context& context, const char* name, const ConstTensorView& in,
                          const ConstTensorView& out) {
  return OperationSpan(context, name, SpanKind::kOther, {.bytes = BytesOf(in) + BytesOf(out)});
}

RmsNormRopeArgs NormRopeArgs(const ConstTensorView& x, const RotaryNorm& norm, const RowsOut& y,
                             const TokenStrides& y_strides) {
  MRT_CHECK(x.shape.rank() == 3);
  const int64_t tokens = x.shape[0], heads = x.shape[1], head_dim = x.shape[2];
  MRT_CHECK(head_dim % 2 == 0 && norm.weight.shape.elements() == heads * head_dim &&
            norm.cos.shape.elements() == tokens * (head_dim / 2) &&
            norm.sin.shape.elements() == norm.cos.shape.elements());
  return {.x = In(x),
          .y = y,
          .y_strides = y_strides,
          .weight = norm.weight.as<float>(),
          .cos = norm.cos.as<float>(),
          .sin = norm.sin.as<float>(),
          .heads = heads,
          .head_dim = head_dim,
          .eps = norm.eps};
}

OperationSpan StoreSpan(const Context& context, const char* name, const ConstTensorView& x,
                        const KvFrames& kv) {
  const auto stored = static_cast<double>(x.shape.elements() * DTypeSize(kv.dtype));
  return OperationSpan(context, name, SpanKind::kOther, {.bytes = BytesOf(x) + stored});
}

void CheckStore(const Context& context, const ConstTensorView& x, const KvFrames& kv) {
  MRT_CHECK(x.shape.rank() == 3 && x.dtype == context.activation() && kv.size() > 0);
  MRT_CHECK(kv.keys.size() == kv.values.size());
  MRT_CHECK(x.shape[0] % static_cast<int64_t>(kv.size()) == 0);
}

/// One frame of x [all tokens, heads, head_dim], and where it goes.
struct FrameOfTokens {
  ConstTensorView x;
  int64_t first = 0, tokens = 0, width = 0;
  RowsOut to;
  TokenStrides strides;
};

template <typename Store>
void StoreFrames(Context& context, const ConstTensorView& x, std::span<void* const> frames,
                 DType dtype, Store store) {
  const int64_t count = static_cast<int64_t>(frames.size()), tokens = x.shape[0] / count;
  const int64_t heads = x.shape[1], head_dim = x.shape[2];
  for (int64_t f = 0; f < count; ++f) {
    const TensorView to{frames[static_cast<size_t>(f)], dtype, {tokens, heads, head_dim}};
    store(FrameOfTokens{.x = x.Slice(f * tokens, (f + 1) * tokens),
                        .first = f * tokens,
                        .tokens = tokens,
                        .width = heads * head_dim,
                        .to = Out(to),
                        .strides = StridesOf(kKvLayout, tokens, heads, head_dim)});
    context.RoundActivation(to);
  }
}

void RoundIfActivation(const Context& context, const TensorView& y, Output output) {
  if (output == Output::kActivation) context.RoundActivation(y);
}

}  // namespace

const RowwiseKernels& Rowwise() {
  static const RowwiseKernels& kernels = [&]() -> const RowwiseKernels& {
    const Result<const RowwiseImpl*> picked = PickRowwise();
    // A wrong MRT_ROWWISE_IMPL must not go unseen; nothing else can fail here.
    MRT_CHECK(picked.ok());
    return *picked.value()->kernels;
  }();
  return kernels;
}

void Context::RoundActivation(TensorView y) const {
  if (precision_ != Precision::kBF16Emulated || y.dtype != DType::kF32) return;
  Spread(Rowwise().round, RoundArgs{y.as<float>(), 1}, y.shape.elements(), 1);
}

void LayerNormModulate(Context& context, const ConstTensorView& x, const ConstTensorView& scale,
                       const ConstTensorView& shift, float eps, const TensorView& y) {
  const OperationSpan span = RowwiseSpan(context, "norm and modulation", x, y);
  CheckSame(x, y);
  MRT_CHECK(scale.shape.elements() == shift.shape.elements());
  const int64_t width = x.shape.back();
  if (Backend* b = context.backend()) return b->LayerNormModulate(context, x, scale, shift, eps, y);
  const LayerNormArgs args{.x = In(x),
                           .y = Out(y),
                           .scale = scale.as<float>(),
                           .shift = shift.as<float>(),
                           .width = width,
                           .rows_per_group = RowsPerGroup(scale, x),
                           .scale_offset = 1,
                           .eps = eps};
  Spread(Rowwise().layer_norm, args, x.shape.rows(), width);
  context.RoundActivation(y);
}

void LayerNorm(Context& context, const ConstTensorView& x, const ConstTensorView& weight,
               const ConstTensorView& bias, float eps, const TensorView& y) {
  const OperationSpan span = RowwiseSpan(context, "layer norm", x, y);
  CheckSame(x, y);
  const int64_t width = x.shape.back();
  MRT_CHECK(weight.shape.elements() == width && bias.shape.elements() == width);
  if (Backend* b = context.backend()) return b->LayerNorm(context, x, weight, bias, eps, y);
  const LayerNormArgs args{.x = In(x),
                           .y = Out(y),
                           .scale = weight.as<float>(),
                           .shift = bias.as<float>(),
                           .width = width,
                           .rows_per_group = std::max<int64_t>(1, x.shape.rows()),
                           .eps = eps};
  Spread(Rowwise().layer_norm, args, x.shape.rows(), width);
  context.RoundActivation(y);
}

void RmsNorm(Context& context, const ConstTensorView& x, const ConstTensorView& weight, float eps,
             const TensorView& y, Output output) {
  const OperationSpan span = RowwiseSpan(context, "rms norm", x, y);
  CheckSame(x, y);
  const int64_t width = x.shape.back();
  MRT_CHECK(weight.shape.elements() == width);
  if (Backend* b = context.backend()) return b->RmsNorm(context, x, weight, eps, y);
  const RmsNormArgs args{In(x), Out(y), weight.as<float>(), width, eps};
  Spread(Rowwise().rms_norm, args, x.shape.rows(), width);
  RoundIfActivation(context, y, output);
}

void ChannelNorm(Context& context, const ConstTensorView& x, const ConstTensorView& gamma,
                 bool silu, const TensorView& y) {
  const OperationSpan span = RowwiseSpan(context, "channel norm", x, y);
  CheckSame(x, y);
  const int64_t width = x.shape.back();
  MRT_CHECK(gamma.shape.elements() == width);
  if (Backend* b = context.backend()) return b->ChannelNorm(context, x, gamma, silu, y);
  const ChannelNormArgs args{In(x), Out(y), gamma.as<float>(), width, silu};
  Spread(Rowwise().channel_norm, args, x.shape.rows(), width);
  context.RoundActivation(y);
}

void Add(Context& context, const TensorView& x, const ConstTensorView& y, bool relu,
         Output output) {
  const OperationSpan span = RowwiseSpan(context, "add", x, x);
  MRT_CHECK(x.shape.elements() == y.shape.elements());
  if (Backend* b = context.backend()) return b->Add(context, x, y, relu);
  const BinaryArgs args{Out(x), In(y), 1};
  Spread(relu ? Rowwise().add_relu : Rowwise().add, args, x.shape.elements(), 1);
  RoundIfActivation(context, x, output);
}

void Multiply(Context& context, const TensorView& x, const ConstTensorView& y) {
  const OperationSpan span = RowwiseSpan(context, "multiply", x, x);
  MRT_CHECK(x.shape.elements() == y.shape.elements());
  if (Backend* b = context.backend()) return b->Multiply(context, x, y);
  Spread(Rowwise().multiply, BinaryArgs{Out(x), In(y), 1}, x.shape.elements(), 1);
  context.RoundActivation(x);
}

void RmsNormRope(Context& context, const TensorView& x, const RotaryNorm& norm) {
  const OperationSpan span = RowwiseSpan(context, "rms norm and rotary embedding", x, x);
  const TokenStrides strides = StridesOf(KvLayout::kTokenMajor, x.shape[0], x.shape[1], x.shape[2]);
  const RmsNormRopeArgs args = NormRopeArgs(x, norm, Out(x), strides);
  if (Backend* b = context.backend()) return b->RmsNormRope(context, x, norm);
  Spread(Rowwise().rms_norm_rope, args, x.shape[0], x.shape[1] * x.shape[2]);
  context.RoundActivation(x);
}

void StoreKeys(Context& context, const ConstTensorView& x, const RotaryNorm& norm,
               const KvFrames& kv) {
  const OperationSpan span = StoreSpan(context, "rms norm and rotary embedding", x, kv);
  CheckStore(context, x, kv);
  if (Backend* b = context.backend()) return b->StoreKeys(context, x, norm, kv);
  StoreFrames(context, x, kv.keys, kv.dtype, [&](const FrameOfTokens& frame) {
    const RotaryNorm of_frame = {.weight = norm.weight,
                                 .cos = norm.cos.Slice(frame.first, frame.first + frame.tokens),
                                 .sin = norm.sin.Slice(frame.first, frame.first + frame.tokens),
                                 .eps = norm.eps};
    Spread(Rowwise().rms_norm_rope, NormRopeArgs(frame.x, of_frame, frame.to, frame.strides),
           frame.tokens, frame.width);
  });
}

void StoreValues(Context& context, const ConstTensorView& x, const KvFrames& kv) {
  const OperationSpan span = StoreSpan(context, "store values", x, kv);
  CheckStore(context, x, kv);
  if (Backend* b = context.backend()) return b->StoreValues(context, x, kv);
  StoreFrames(context, x, kv.values, kv.dtype, [&](const FrameOfTokens& frame) {
    const MoveTokensArgs args{In(frame.x), frame.to, frame.strides, x.shape[1], x.shape[2]};
    Spread(Rowwise().move_tokens, args, frame.tokens, frame.width);
  });
}

void Cast(Context& context, const ConstTensorView& x, const TensorView& y) {
  const OperationSpan span = RowwiseSpan(context, "cast", x, y);
  MRT_CHECK(x.shape.elements() == y.shape.elements());
  if (Backend* b = context.backend()) return b->Cast(context, x, y);
  Spread(Rowwise().cast, CastArgs{In(x), Out(y), 1}, x.shape.elements(), 1);
  context.RoundActivation(y);
}

void ScaleBias(Context& context, const ConstTensorView& x, const ConstTensorView& scale,
               const ConstTensorView& bias, const TensorView& y, Output output) {
  const OperationSpan span = RowwiseSpan(context, "scale and bias", x, y);
  CheckSame(x, y);
  const int64_t width = x.shape.back();
  MRT_CHECK(scale.shape.elements() == width && bias.shape.elements() == width);
  if (Backend* b = context.backend()) return b->ScaleBias(context, x, scale, bias, y);
  const ScaleBiasArgs args{In(x), Out(y), scale.as<float>(), bias.as<float>(), width};
  Spread(Rowwise().scale_bias, args, x.shape.rows(), width);
  RoundIfActivation(context, y, output);
}

void Softmax(Context& context, const TensorView& x, float scale, Output output) {
  const OperationSpan span = RowwiseSpan(context, "softmax", x, x);
  const int64_t width = x.shape.back();
  if (Backend* b = context.backend()) return b->Softmax(context, x, scale);
  Spread(Rowwise().softmax, SoftmaxArgs{Out(x), width, scale}, x.shape.rows(), width);
  RoundIfActivation(context, x, output);
}

void Clamp(Context& context, const TensorView& x, float low, float high) {
  const OperationSpan span = RowwiseSpan(context, "clamp", x, x);
  float* const values = x.as<float>();
  if (Backend* b = context.backend()) return b->Clamp(context, x, low, high);
  ParallelFor(x.shape.elements(), kPixelsGrain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) values[i] = std::clamp(values[i], low, high);
  });
}

void ToBytes(Context& context, const ConstTensorView& x, float low, float high,
             const TensorView& y) {
  const OperationSpan span = RowwiseSpan(context, "to bytes", x, y);
  MRT_CHECK(y.dtype == DType::kU8 && x.shape.elements() == y.shape.elements());
  const float* const in = x.as<float>();
  if (Backend* b = context.backend()) return b->ToBytes(context, x, low, high, y);
  const float scale = 255.0f / (high - low);
  uint8_t* const out = static_cast<uint8_t*>(y.data);
  ParallelFor(x.shape.elements(), kPixelsGrain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const float value = (in[i] - low) * scale;
      const float above = value > 0.0f ? value : 0.0f;  // false for NaN
      out[i] = static_cast<uint8_t>(std::lrint(above < 255.0f ? above : 255.0f));
    }
  });
}

void UpsampleNearest2x(Context& context, const ConstTensorView& x, const TensorView& y) {
  const OperationSpan span = RowwiseSpan(context, "upsample", x, y);
  MRT_CHECK(x.shape.rank() == 4 && x.dtype == y.dtype);
  const int64_t time = x.shape[0], rows = x.shape[1], cols = x.shape[2], channels = x.shape[3];
  MRT_CHECK((y.shape == Shape{time, 2 * rows, 2 * cols, channels}));
  if (Backend* b = context.backend()) return b->UpsampleNearest2x(context, x, y);
  const int64_t pixel_bytes = channels * DTypeSize(x.dtype);
  const int64_t row_bytes = 2 * cols * pixel_bytes;  // of y
  ParallelFor(time * rows, 1, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const char* from = static_cast<const char*>(x.data) + row * cols * pixel_bytes;
      char* to = static_cast<char*>(y.data) + 2 * row * row_bytes;
      for (int64_t col = 0; col < cols; ++col, from += pixel_bytes) {
        std::memcpy(to + 2 * col * pixel_bytes, from, pixel_bytes);
        std::memcpy(to + (2 * col + 1) * pixel_bytes, from, pixel_bytes);
      }
      std::memcpy(to + row_bytes, to, row_bytes);
    }
  });
}

}  // namespace mrt::ops
