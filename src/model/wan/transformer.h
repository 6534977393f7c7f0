// The Wan 2.1 text-to-video transformer: predicts the flow (velocity) of noisy latents.
//
// Const after Load. What belongs to one stream lies outside: KvCache (past frames) and CrossKv (the
// prompt). The residual stream is float32; the inputs and outputs of Linears have the context's
// activation dtype ("act").
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/threads.h"
#include "model/wan/block.h"
#include "model/wan/conditioning.h"
#include "model/wan/config.h"
#include "model/wan/kv_cache.h"
#include "model/wan/time_embedding.h"
#include "ops/attention.h"
#include "ops/context.h"
#include "ops/linear.h"

namespace mrt {

/// Cross-attention keys and values of all layers for one prompt, made once per prompt by
/// WanTransformer::EncodeText. Costs 2 * layers * dim elements for each row of the text and one
/// more for its padding.
class CrossKv {
 public:
  CrossKv() = default;

  TextWindow Layer(int64_t layer) const;
  int64_t bytes() const { return keys_.bytes() + values_.bytes() + bias_.bytes(); }

 private:
  friend class WanTransformer;
  Tensor keys_, values_;  // act [layers, rows, heads, head_dim]
  Tensor bias_;           // F32 [rows] or empty, as in TextWindow
};

/// The attention of every layer: one for all, or one each. Borrowed.
class LayerAttention {
 public:
  LayerAttention(const ops::AttentionConfig& all)  // NOLINT: implicit on purpose
      : configs_(&all, 1) {}
  explicit LayerAttention(std::span<const ops::AttentionConfig> each) : configs_(each) {}

  const ops::AttentionConfig& operator[](int64_t layer) const {
    return configs_[configs_.size() == 1 ? 0 : static_cast<size_t>(layer)];
  }

 private:
  std::span<const ops::AttentionConfig> configs_;
};

class WanTransformer {
 public:
  /// Ok if the checkpoint has every tensor of these sizes; else one Status that names everything
  /// missing or misshapen. Reads no weights but the scales of int8 ones.
  static Status Check(const Checkpoint& checkpoint, const WanConfig& config);

  /// Checks, then packs all tensors for the context's precision, dropping mapped pages as it goes.
  /// The matrices of the blocks are packed as `weights` says, and as int8 if they are that in the
  /// checkpoint. BadData if the file changes meanwhile.
  static Result<WanTransformer> Load(ops::Context& context, const Checkpoint& checkpoint,
                                     const WanConfig& config,
                                     ops::WeightType weights = ops::WeightType::kActivation);

  const WanConfig& config() const { return config_; }
  /// Of the matrices of the blocks.
  ops::WeightType weights() const { return weights_; }

  /// text F32 [n <= text_len, text_dim], zero-padded to text_len. The padding rows are not masked:
  /// they pass the text embedding and are attended to, as in training. But they are all alike, so
  /// that one row stands for them, which counts as often as there are (TextWindow::bias).
  CrossKv EncodeText(ops::Context& context, const ConstTensorView& text) const;

  /// One causal forward over the current chunk of `cache`: latents F32 [frames, in_dim, h, w], one
  /// timestep per frame -> flow F32 [frames, out_dim, h, w]. Writes the chunk's keys and values to
  /// the cache and attends to its whole window. Shapes are the caller's to validate: frames ==
  /// cache.chunk_frames(), h and w multiples of the patch, the grid that of the cache, and
  /// ops::ValidateAttention passed. An empty `flow` is not computed: the last block then ends with
  /// its keys and values, which have the same bits, and a device may still be at work.
  void Forward(ops::Context& context, const ConstTensorView& latents,
               std::span<const float> timesteps, const CrossKv& text, KvCache& cache,
               LayerAttention attention, const TensorView& flow) const;

  /// The same from patches to patches (patches.h), which lie where the context computes: F32
  /// [tokens, in_dim * patch_elements] -> F32 [tokens, out_dim * patch_elements] or empty. A device
  /// may still be at work.
  void ForwardPatches(ops::Context& context, const ConstTensorView& patches,
                      std::span<const float> timesteps, const CrossKv& text, KvCache& cache,
                      LayerAttention attention, const TensorView& flow) const;

  /// What the host computes for a ForwardPatches of the next chunk of `cache`, of that many frames,
  /// at that timestep: it will find it there.
  void Prepare(ops::Context& context, KvCache& cache, int64_t frames, float timestep) const;

  /// One forward over all frames at one timestep, every frame seeing every other, without a cache:
  /// the bidirectional model. Shapes as in Forward.
  void ForwardBidirectional(ops::Context& context, const ConstTensorView& latents, float timestep,
                            const CrossKv& text, LayerAttention attention,
                            const TensorView& flow) const;

  /// Bytes of all packed weights.
  int64_t weight_bytes() const;

  /// What weight_bytes() will be, before loading.
  static int64_t WeightBytes(const WanConfig& config, ops::Precision precision,
                             ops::WeightType weights);

  /// What of it lies in host memory if the context has a backend.
  static int64_t HostWeightBytes(const WanConfig& config);

  /// How large one Forward of that many frames of rows x cols tokens makes the context's arena, not
  /// counting the scratch of the attention kernel.
  static int64_t ScratchBytes(const WanConfig& config, int64_t frames, int64_t rows, int64_t cols,
                              ops::Precision precision, ops::WeightType weights);

 private:
  using WindowOfLayer = FunctionRef<ops::KvFrames(int64_t layer)>;

  WanTransformer(ops::Context& context, const Checkpoint& checkpoint, const WanConfig& config,
                 ops::WeightType weights);

  struct TokenGrid {
    int64_t frames, rows, cols;
    int64_t tokens() const { return frames * rows * cols; }
  };
  static TokenGrid GridOf(const WanConfig& config, const Shape& latents);

  void Run(ops::Context& context, const TokenGrid& grid, const ConstTensorView& patches,
           const RopeTable& rope, const TimeVectors& time, const CrossKv& text,
           WindowOfLayer window, LayerAttention attention, const TensorView& flow) const;
  ConstTensorView PatchesOf(ops::Context& context, const ConstTensorView& latents) const;
  void Embed(ops::Context& context, const ConstTensorView& patches, const TensorView& x) const;
  void Head(ops::Context& context, const TensorView& x, const TensorView& time_embedding,
            const TensorView& flow) const;

  WanConfig config_;
  ops::WeightType weights_;
  ops::Linear patch_embedding_;  // [dim, in_dim * patch_elements]
  ops::Linear text_embedding0_, text_embedding2_;
  TimeEmbedding time_embedding_;
  std::vector<Block> blocks_;
  Tensor head_modulation_;  // F32 [1, 2, dim]
  ops::Linear head_;
};

}  // namespace mrt
