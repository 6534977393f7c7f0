#include "model/wan/block.h"

#include <cmath>

#include "model/wan/modulation.h"
#include "ops/rowwise.h"
#include "ops/transfer.h"
#include "tensor/int8_weights.h"

namespace mrt {
namespace {

/// Where 8 bits of the input cost most (docs/decisions/0009-int8-weights.md): self-attention, and
/// keys and values of the text, which are made once per prompt.
bool WantsFineInput(const std::string& name) {
  return name.find(".self_attn.") != name.npos || name.ends_with(".cross_attn.k") ||
         name.ends_with(".cross_attn.v");
}

ops::Linear LoadLinear(ops::Context& context, const Checkpoint& checkpoint, const std::string& name,
                       ops::WeightType weights) {
  const std::string weight_name = name + ".weight";
  const ConstTensorView weight = checkpoint.Find(weight_name);
  const ConstTensorView bias = checkpoint.Find(name + ".bias");
  const bool stored = weight.dtype == DType::kI8;
  if (weights == ops::WeightType::kInt8 && WantsFineInput(name))
    weights = ops::WeightType::kInt8Fine;
  if (stored) return {{weight, checkpoint.Find(ScaleName(weight_name))}, bias, weights};
  return {context, weight, bias, weights};
}

/// The six vectors of one block: F32 [groups, dim] each.
struct Modulation {
  TensorView shift1, scale1, gate1, shift2, scale2, gate2;
};

Modulation Modulate(ops::Context& context, const Tensor& learned, const TensorView& time) {
  const int64_t groups = time.shape[1], dim = time.shape[2];
  const TensorView m = context.Float({6, groups, dim});
  ops::Copy(context, time, m);
  if (groups == 1) {
    AddToRows(context, m.Reshape({1, 6 * dim}), learned);
  } else {
    for (int64_t i = 0; i < 6; ++i)
      AddToRows(context, m.Slice(i, i + 1).Reshape({groups, dim}),
                learned.view().Reshape({6, dim}).Slice(i, i + 1));
  }
  const auto part = [&](int64_t i) { return m.Slice(i, i + 1).Reshape({groups, dim}); };
  return {part(0), part(1), part(2), part(3), part(4), part(5)};
}

ops::AttentionGrid GridOf(const BlockInputs& in) {
  return {.rows = static_cast<int>(in.rows),
          .cols = static_cast<int>(in.cols),
          .heads = static_cast<int>(in.config.num_heads),
          .head_dim = static_cast<int>(in.config.head_dim())};
}

/// Queries and keys: the norm is over the whole width, before the heads.
ops::RotaryNorm RotaryNormOf(const BlockInputs& in, const Tensor& weight) {
  return {.weight = weight, .cos = in.rope.cos, .sin = in.rope.sin, .eps = in.config.eps};
}

/// Writes the keys and values of y act [tokens, dim] to the last frames of the window.
void WriteKeysAndValues(ops::Context& context, const AttentionWeights& w, const BlockInputs& in,
                        const TensorView& y, const ops::KvFrames& window) {
  const ArenaScope scope(context.arena());
  const WanConfig& c = in.config;
  const ops::KvFrames chunk = window.Last(static_cast<size_t>(in.frames));
  const TensorView x = context.Activation({in.tokens(), c.dim});
  const TensorView heads = x.Reshape({in.tokens(), c.num_heads, c.head_dim()});
  w.k.Run(context, y, x);
  ops::StoreKeys(context, heads, RotaryNormOf(in, w.norm_k), chunk);
  w.v.Run(context, y, x);
  ops::StoreValues(context, heads, chunk);
}

/// x += gate1 * self_attn(LN(x) * (1 + scale1) + shift1)
void AddSelfAttention(ops::Context& context, const Block& block, const BlockInputs& in,
                      const ops::AttentionConfig& attention, const Modulation& m,
                      const ops::KvFrames& window, const TensorView& x) {
  const ArenaScope scope(context.arena());
  const WanConfig& c = in.config;
  const AttentionWeights& w = block.self_attn;
  const Shape grid{in.frames, in.rows, in.cols, c.num_heads, c.head_dim()};

  const TensorView y = context.Activation({in.tokens(), c.dim});
  ops::LayerNormModulate(context, x, m.scale1, m.shift1, c.eps, y);
  WriteKeysAndValues(context, w, in, y, window);

  const TensorView q = context.Activation({in.tokens(), c.dim});
  w.q.Run(context, y, q);
  ops::RmsNormRope(context, q.Reshape({in.tokens(), c.num_heads, c.head_dim()}),
                   RotaryNormOf(in, w.norm_q));

  const TensorView attended = context.Activation({in.tokens(), c.dim});
  ops::SelfAttention(context, attention, GridOf(in), q.Reshape(grid), window,
                     attended.Reshape(grid));
  w.o.AddTo(context, attended, x, m.gate1);
}

/// x += cross_attn(LN(x; norm3), text)
void AddCrossAttention(ops::Context& context, const Block& block, const BlockInputs& in,
                       const TextWindow& text, const TensorView& x) {
  const ArenaScope scope(context.arena());
  const WanConfig& c = in.config;
  const AttentionWeights& w = block.cross_attn;
  const Shape heads{in.tokens(), c.num_heads, c.head_dim()};

  const TensorView y = context.Activation({in.tokens(), c.dim});
  ops::LayerNorm(context, x, block.norm3_weight, block.norm3_bias, c.eps, y);
  const TensorView q = context.Activation({in.tokens(), c.dim});
  w.q.Run(context, y, q);
  ops::RmsNorm(context, q, w.norm_q, c.eps, q);

  const TensorView attended = context.Activation({in.tokens(), c.dim});
  const float scale = 1 / std::sqrt(static_cast<float>(c.head_dim()));
  ops::DenseAttention(context, q.Reshape(heads), text.keys, text.values, scale, text.bias,
                      attended.Reshape(heads));
  w.o.AddTo(context, attended, x);
}

/// x += gate2 * ffn.2(GELU(ffn.0(LN(x) * (1 + scale2) + shift2)))
void AddFeedForward(ops::Context& context, const Block& block, const BlockInputs& in,
                    const Modulation& m, const TensorView& x) {
  const ArenaScope scope(context.arena());
  const TensorView y = context.Activation({in.tokens(), in.config.dim});
  ops::LayerNormModulate(context, x, m.scale2, m.shift2, in.config.eps, y);
  const TensorView hidden = context.Activation({in.tokens(), in.config.ffn_dim});
  block.ffn0.Run(context, y, hidden, ops::Activation::kGeluTanh);
  block.ffn2.AddTo(context, hidden, x, m.gate2);
}

}  // namespace

AttentionWeights::AttentionWeights(ops::Context& context, const Checkpoint& checkpoint,
                                   const std::string& name, ops::WeightType weights)
    : q(LoadLinear(context, checkpoint, name + ".q", weights)),
      k(LoadLinear(context, checkpoint, name + ".k", weights)),
      v(LoadLinear(context, checkpoint, name + ".v", weights)),
      o(LoadLinear(context, checkpoint, name + ".o", weights)),
      norm_q(MoveTo(context.memory(), ToFloat32(checkpoint.Find(name + ".norm_q.weight")))),
      norm_k(MoveTo(context.memory(), ToFloat32(checkpoint.Find(name + ".norm_k.weight")))) {}

int64_t AttentionWeights::bytes() const {
  return q.bytes() + k.bytes() + v.bytes() + o.bytes() + norm_q.bytes() + norm_k.bytes();
}

Block::Block(ops::Context& context, const Checkpoint& checkpoint, const std::string& name,
             ops::WeightType weights)
    : modulation(MoveTo(context.memory(), ToFloat32(checkpoint.Find(name + ".modulation")))),
      self_attn(context, checkpoint, name + ".self_attn", weights),
      cross_attn(context, checkpoint, name + ".cross_attn", weights),
      norm3_weight(MoveTo(context.memory(), ToFloat32(checkpoint.Find(name + ".norm3.weight")))),
      norm3_bias(MoveTo(context.memory(), ToFloat32(checkpoint.Find(name + ".norm3.bias")))),
      ffn0(LoadLinear(context, checkpoint, name + ".ffn.0", weights)),
      ffn2(LoadLinear(context, checkpoint, name + ".ffn.2", weights)) {}

void Block::Run(ops::Context& context, const BlockInputs& inputs,
                const ops::AttentionConfig& attention, const ops::KvFrames& window,
                const TextWindow& text, const TensorView& x) const {
  const ArenaScope scope(context.arena());
  const Modulation m = Modulate(context, modulation, inputs.time);
  AddSelfAttention(context, *this, inputs, attention, m, window, x);
  AddCrossAttention(context, *this, inputs, text, x);
  AddFeedForward(context, *this, inputs, m, x);
}

void Block::WriteKv(ops::Context& context, const BlockInputs& inputs, const ops::KvFrames& window,
                    const TensorView& x) const {
  const ArenaScope scope(context.arena());
  const Modulation m = Modulate(context, modulation, inputs.time);
  const TensorView y = context.Activation({inputs.tokens(), inputs.config.dim});
  ops::LayerNormModulate(context, x, m.scale1, m.shift1, inputs.config.eps, y);
  WriteKeysAndValues(context, self_attn, inputs, y, window);
}

int64_t Block::bytes() const {
  return modulation.bytes() + self_attn.bytes() + cross_attn.bytes() + norm3_weight.bytes() +
         norm3_bias.bytes() + ffn0.bytes() + ffn2.bytes();
}

}  // namespace mrt
