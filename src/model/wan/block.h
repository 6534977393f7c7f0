// One transformer block: self-attention over the window, cross-attention to the text, feed-forward.
#pragma once

#include <string>

#include "model/wan/config.h"
#include "model/wan/kv_cache.h"
#include "model/wan/rope.h"
#include "ops/attention.h"
#include "ops/linear.h"

namespace mrt {

/// What all blocks of one forward share.
struct BlockInputs {
  const WanConfig& config;
  int64_t frames, rows, cols;  // the tokens' grid
  RopeTable rope;
  // The time projection: F32 [6, groups, dim], each group for frames / groups consecutive frames.
  TensorView time;

  int64_t tokens() const { return frames * rows * cols; }
};

/// Text keys and values of one layer: act [rows, heads, head_dim]. All padding rows are one, the
/// last.
struct TextWindow {
  ConstTensorView keys, values;
  ConstTensorView bias;  // F32 [rows], added to scores: log of how often a row counts; empty: once
};

struct AttentionWeights {
  ops::Linear q, k, v, o;
  Tensor norm_q, norm_k;  // F32 [dim]

  AttentionWeights(ops::Context& context, const Checkpoint& checkpoint, const std::string& name,
                   ops::WeightType weights);
  int64_t bytes() const;
};

struct Block {
  Tensor modulation;  // F32 [1, 6, dim]
  AttentionWeights self_attn, cross_attn;
  Tensor norm3_weight, norm3_bias;  // F32 [dim]
  ops::Linear ffn0, ffn2;

  /// Packs the tensors "`name`.*", which must be there: matrices as `weights` says, or as int8 if
  /// they are that in the checkpoint.
  Block(ops::Context& context, const Checkpoint& checkpoint, const std::string& name,
        ops::WeightType weights);

  /// x F32 [tokens, dim] becomes the block's output. The keys and values of the tokens are written
  /// to the last `frames` frames of `window`; attention sees all of it.
  void Run(ops::Context& context, const BlockInputs& inputs, const ops::AttentionConfig& attention,
           const ops::KvFrames& window, const TextWindow& text, const TensorView& x) const;

  /// Only the keys and values of that.
  void WriteKv(ops::Context& context, const BlockInputs& inputs, const ops::KvFrames& window,
               const TensorView& x) const;

  int64_t bytes() const;
};

}  // namespace mrt
