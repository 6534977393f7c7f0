// Operations on the rows of a [..., width] tensor: norms, modulation, rotary embedding, casts.
// "act" below is the context's activation dtype. Weights are F32 [width]. All are threaded
// over rows.
#pragma once

#include "ops/context.h"
#include "ops/kv_frames.h"

namespace mrt::ops {

/// y = LN(x) * (1 + scale[g]) + shift[g]: x F32 [rows, width]; scale, shift F32 [groups, width],
/// each group for rows / groups consecutive rows (a latent frame); y act. LN: (x - mean) / sqrt(var
/// + eps).
void LayerNormModulate(Context& context, const ConstTensorView& x, const ConstTensorView& scale,
                       const ConstTensorView& shift, float eps, const TensorView& y);

/// y = LN(x) * weight + bias: x F32 [rows, width], y act.
void LayerNorm(Context& context, const ConstTensorView& x, const ConstTensorView& weight,
               const ConstTensorView& bias, float eps, const TensorView& y);

/// y = x / sqrt(mean(x^2) + eps) * weight: x F32 or act, y act or F32; x may be y.
void RmsNorm(Context& context, const ConstTensorView& x, const ConstTensorView& weight, float eps,
             const TensorView& y, Output output = Output::kActivation);

/// y = x / max(||x||_2, 1e-12) * sqrt(width) * gamma, then SiLU if `silu`: x, y act; x may be y.
/// (Wan VAE)
void ChannelNorm(Context& context, const ConstTensorView& x, const ConstTensorView& gamma,
                 bool silu, const TensorView& y);

/// x += y, then ReLU if `relu`: each F32 or act.
void Add(Context& context, const TensorView& x, const ConstTensorView& y, bool relu = false,
         Output output = Output::kActivation);

/// x *= y: both act. (gated FFN)
void Multiply(Context& context, const TensorView& x, const ConstTensorView& y);

/// What queries and keys go through: RmsNorm over all heads, then in each head the rotation of
/// interleaved pairs (x0, x1) -> (x0 cos - x1 sin, x0 sin + x1 cos).
struct RotaryNorm {
  ConstTensorView weight;    // F32 [heads * head_dim]
  ConstTensorView cos, sin;  // F32 [tokens, head_dim / 2]
  float eps = 0;
};

/// x act [tokens, heads, head_dim], in place.
void RmsNormRope(Context& context, const TensorView& x, const RotaryNorm& norm);

/// Writes the keys of all frames, RmsNormRope of x act [tokens of all frames, heads, head_dim], or
/// the values, x. norm.cos, norm.sin: of all tokens of x.
void StoreKeys(Context& context, const ConstTensorView& x, const RotaryNorm& norm,
               const KvFrames& kv);
void StoreValues(Context& context, const ConstTensorView& x, const KvFrames& kv);

/// y = x, converting between F32 and the activation dtype (rounded in kBF16Emulated when y is an
/// activation).
void Cast(Context& context, const ConstTensorView& x, const TensorView& y);

/// y = x * scale[c] + bias[c] per channel: x F32 [rows, width] -> y act or F32.
void ScaleBias(Context& context, const ConstTensorView& x, const ConstTensorView& scale,
               const ConstTensorView& bias, const TensorView& y,
               Output output = Output::kActivation);

/// Softmax over the last axis in place: x F32 or act [rows, width], after multiplying with `scale`.
void Softmax(Context& context, const TensorView& x, float scale,
             Output output = Output::kActivation);

/// x = min(max(x, low), high): F32.
void Clamp(Context& context, const TensorView& x, float low, float high);

/// y = rint(255 * (x - low) / (high - low)), clamped to [0, 255]; NaN becomes 0. x F32, y U8 of as
/// many elements.
void ToBytes(Context& context, const ConstTensorView& x, float low, float high,
             const TensorView& y);

/// y [t, 2h, 2w, c] = x [t, h, w, c], each pixel four times. Same dtype.
void UpsampleNearest2x(Context& context, const ConstTensorView& x, const TensorView& y);

}  // namespace mrt::ops
