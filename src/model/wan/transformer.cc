#include "model/wan/transformer.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "model/wan/modulation.h"
#include "model/wan/patches.h"
#include "model/wan/rope.h"
#include "model/wan/weights.h"
#include "ops/rowwise.h"
#include "ops/transfer.h"
#include "tensor/int8_weights.h"
#include "tensor/weight_reader.h"

namespace mrt {
namespace {

/// The head's rows, weight [patch_elements * out_dim, dim] or bias [patch_elements * out_dim],
/// which run patch row, patch column, channel, in the order of patches: channel first.
Tensor ChannelsFirst(const ConstTensorView& rows, int64_t patch_elements) {
  if (rows.empty()) return {};
  Tensor sorted(rows.dtype, rows.shape);
  const int64_t channels = rows.shape[0] / patch_elements;
  for (int64_t at = 0; at < rows.shape[0]; ++at) {
    const int64_t to = at % channels * patch_elements + at / channels;
    const ConstTensorView row = rows.Slice(at, at + 1);
    std::memcpy(sorted.view().Slice(to, to + 1).data, row.data, static_cast<size_t>(row.bytes()));
  }
  return sorted;
}

/// An uninitialised array of n pointers from the arena.
void** PointerArray(Arena& arena, int64_t n) {
  static_assert(sizeof(void*) == sizeof(int64_t));
  return static_cast<void**>(arena.Allocate(DType::kI64, {n}).data);
}

// Of text F32 [rows, text_dim], without the rows of zeros at its end.
int64_t RowsBeforePadding(const ConstTensorView& text) {
  const int64_t width = text.shape[1];
  int64_t rows = text.shape[0];
  const auto is_zero = [](float x) { return x == 0; };
  while (rows > 0 && std::all_of(text.as<float>() + (rows - 1) * width,
                                 text.as<float>() + rows * width, is_zero))
    --rows;
  return rows;
}

}  // namespace

WanTransformer::TokenGrid WanTransformer::GridOf(const WanConfig& c, const Shape& latents) {
  MRT_CHECK(latents.rank() == 4 && latents[2] % c.patch_size[1] == 0 &&
            latents[3] % c.patch_size[2] == 0);
  return {latents[0], latents[2] / c.patch_size[1], latents[3] / c.patch_size[2]};
}

TextWindow CrossKv::Layer(int64_t layer) const {
  const Shape& s = keys_.shape();
  const Shape one{s[1], s[2], s[3]};
  return {keys_.view().Slice(layer, layer + 1).Reshape(one),
          values_.view().Slice(layer, layer + 1).Reshape(one),
          bias_.empty() ? ConstTensorView() : ConstTensorView(bias_)};
}

Status WanTransformer::Check(const Checkpoint& checkpoint, const WanConfig& config) {
  MRT_RETURN_IF_ERROR(config.Validate());
  WeightReader reader(checkpoint, "[wan]");
  for (const NamedShape& tensor : WanTensors(config)) {
    if (IsBlockMatrix(tensor.name)) {
      reader.RequireMatrix(tensor.name, tensor.shape);
    } else {
      reader.Require(tensor.name, tensor.shape);
    }
  }
  return reader.status();
}

Result<WanTransformer> WanTransformer::Load(ops::Context& context, const Checkpoint& checkpoint,
                                            const WanConfig& config, ops::WeightType weights) {
  MRT_RETURN_IF_ERROR(Check(checkpoint, config));
  if (HasInt8Weights(checkpoint)) weights = ops::WeightType::kInt8;
  WanTransformer transformer(context, checkpoint, config, weights);
  MRT_RETURN_IF_ERROR(checkpoint.CheckUnchanged());
  return transformer;
}

WanTransformer::WanTransformer(ops::Context& context, const Checkpoint& checkpoint,
                               const WanConfig& config, ops::WeightType weights)
    : config_(config),
      weights_(weights),
      time_embedding_(config, checkpoint),
      head_modulation_(MoveTo(context.memory(), ToFloat32(checkpoint.Find("head.modulation")))) {
  const auto linear = [&](const std::string& name) {
    return ops::Linear(context, checkpoint.Find(name + ".weight"), checkpoint.Find(name + ".bias"));
  };
  // The patches do not overlap, so the convolution is a Linear of the patch's elements.
  const ConstTensorView kernel = checkpoint.Find("patch_embedding.weight");
  patch_embedding_ =
      ops::Linear(context, kernel.Reshape({config.dim, config.in_dim * config.patch_elements()}),
                  checkpoint.Find("patch_embedding.bias"));
  text_embedding0_ = linear("text_embedding.0");
  text_embedding2_ = linear("text_embedding.2");
  blocks_.reserve(static_cast<size_t>(config.num_layers));
  for (int64_t n = 0; n < config.num_layers; ++n) {
    blocks_.emplace_back(context, checkpoint, "blocks." + std::to_string(n), weights);
    checkpoint.DropPages();
  }
  const Tensor head_weight =
      ChannelsFirst(checkpoint.Find("head.head.weight"), config.patch_elements());
  const Tensor head_bias =
      ChannelsFirst(checkpoint.Find("head.head.bias"), config.patch_elements());
  head_ = ops::Linear(context, head_weight, head_bias);
  checkpoint.DropPages();
}

CrossKv WanTransformer::EncodeText(ops::Context& context, const ConstTensorView& text) const {
  const WanConfig& c = config_;
  MRT_CHECK(text.shape.rank() == 2 && text.shape[0] <= c.text_len && text.shape[1] == c.text_dim);
  const ArenaScope scope(context.arena()), host_scope(context.host_arena());
  // All rows of padding become the same key and the same value: one row stands for them.
  const int64_t given = RowsBeforePadding(text), padding = c.text_len - given;
  const int64_t count = given + std::min<int64_t>(padding, 1);
  const TensorView padded = context.HostFloat({count, c.text_dim});
  std::memset(padded.data, 0, static_cast<size_t>(padded.bytes()));
  std::memcpy(padded.data, text.as<float>(), static_cast<size_t>(text.Slice(0, given).bytes()));

  const TensorView rows = context.Activation({count, c.text_dim});
  ops::Cast(context, ops::Upload(context, padded), rows);
  const TensorView hidden = context.Activation({count, c.dim});
  text_embedding0_.Run(context, rows, hidden, ops::Activation::kGeluTanh);
  const TensorView embedded = context.Activation({count, c.dim});
  text_embedding2_.Run(context, hidden, embedded);

  CrossKv kv;
  if (padding > 1) {
    Tensor bias(DType::kF32, {count});
    std::fill_n(bias.as<float>(), given, 0.0f);
    bias.as<float>()[given] = std::log(static_cast<float>(padding));
    kv.bias_ = MoveTo(context.memory(), std::move(bias));
  }
  const Shape all{c.num_layers, count, c.num_heads, c.head_dim()};
  kv.keys_ = Tensor(context.activation(), all, context.memory());
  kv.values_ = Tensor(context.activation(), all, context.memory());
  for (int64_t n = 0; n < c.num_layers; ++n) {
    const AttentionWeights& w = blocks_[static_cast<size_t>(n)].cross_attn;
    const TensorView k = kv.keys_.view().Slice(n, n + 1).Reshape({count, c.dim});
    const TensorView v = kv.values_.view().Slice(n, n + 1).Reshape({count, c.dim});
    w.k.Run(context, embedded, k);
    ops::RmsNorm(context, k, w.norm_k, c.eps, k);
    w.v.Run(context, embedded, v);
  }
  return kv;
}

void WanTransformer::Forward(ops::Context& context, const ConstTensorView& latents,
                             std::span<const float> timesteps, const CrossKv& text, KvCache& cache,
                             LayerAttention attention, const TensorView& flow) const {
  const TokenGrid grid = GridOf(config_, latents.shape);
  MRT_CHECK(grid.frames == cache.chunk_frames() && grid.rows == cache.rows() &&
            grid.cols == cache.cols());
  const ArenaScope scope(context.arena()), host_scope(context.host_arena());
  const ConstTensorView patches = PatchesOf(context, latents);
  if (flow.empty()) return ForwardPatches(context, patches, timesteps, text, cache, attention, {});
  const TensorView made = context.Float({grid.tokens(), head_.out_features()});
  ForwardPatches(context, patches, timesteps, text, cache, attention, made);
  if (!context.stopped()) Unpatchify(config_, ops::Download(context, made), flow);
}

void WanTransformer::ForwardPatches(ops::Context& context, const ConstTensorView& patches,
                                    std::span<const float> timesteps, const CrossKv& text,
                                    KvCache& cache, LayerAttention attention,
                                    const TensorView& flow) const {
  const TokenGrid grid{cache.chunk_frames(), cache.rows(), cache.cols()};
  MRT_CHECK(patches.shape[0] == grid.tokens() && cache.num_layers() == config_.num_layers);
  MRT_CHECK(static_cast<int64_t>(timesteps.size()) == grid.frames);
  const ArenaScope scope(context.arena()), host_scope(context.host_arena());
  ConditioningMemo& memo = cache.conditioning();
  const RopeTable rope = memo.Rope(context, config_.head_dim(), cache.chunk_position(), grid.frames,
                                   grid.rows, grid.cols);
  // Frames of one chunk usually share their timestep: then one group of modulation vectors does.
  const float first = timesteps.front();
  const TimeVectors time = std::ranges::all_of(timesteps, [&](float t) { return t == first; })
                               ? memo.Time(context, time_embedding_, config_.dim, first)
                               : MakeTimeVectors(context, time_embedding_, config_.dim, timesteps);
  Run(
      context, grid, patches, rope, time, text, [&](int64_t layer) { return cache.Layer(layer); },
      attention, flow);
}

void WanTransformer::Prepare(ops::Context& context, KvCache& cache, int64_t frames,
                             float timestep) const {
  ConditioningMemo& memo = cache.conditioning();
  memo.Rope(context, config_.head_dim(), cache.chunk_position(), frames, cache.rows(),
            cache.cols());
  memo.Time(context, time_embedding_, config_.dim, timestep);
}

void WanTransformer::ForwardBidirectional(ops::Context& context, const ConstTensorView& latents,
                                          float timestep, const CrossKv& text,
                                          LayerAttention attention, const TensorView& flow) const {
  const TokenGrid grid = GridOf(config_, latents.shape);
  const auto frames = static_cast<size_t>(grid.frames);
  const ArenaScope scope(context.arena()), host_scope(context.host_arena());
  // No layer's keys and values outlive it: all layers share one window.
  const Shape shape{grid.frames, grid.rows * grid.cols, config_.dim};
  const TensorView k = context.Activation(shape), v = context.Activation(shape);
  void** const k_frames = PointerArray(context.host_arena(), grid.frames);
  void** const v_frames = PointerArray(context.host_arena(), grid.frames);
  for (int64_t f = 0; f < grid.frames; ++f) {
    k_frames[f] = k.Slice(f, f + 1).data;
    v_frames[f] = v.Slice(f, f + 1).data;
  }
  const ops::KvFrames window{{k_frames, frames}, {v_frames, frames}, context.activation()};
  const RopeTable rope = MakeRopeTable(context, config_.head_dim(), /*first_frame=*/0, grid.frames,
                                       grid.rows, grid.cols);
  const TimeVectors time = MakeTimeVectors(context, time_embedding_, config_.dim, {&timestep, 1});
  const TensorView made = context.Float({grid.tokens(), head_.out_features()});
  Run(
      context, grid, PatchesOf(context, latents), rope, time, text, [&](int64_t) { return window; },
      attention, made);
  if (!context.stopped()) Unpatchify(config_, ops::Download(context, made), flow);
}

void WanTransformer::Run(ops::Context& context, const TokenGrid& grid,
                         const ConstTensorView& patches, const RopeTable& rope,
                         const TimeVectors& time, const CrossKv& text, WindowOfLayer window,
                         LayerAttention attention, const TensorView& flow) const {
  const WanConfig& c = config_;
  const ArenaScope scope(context.arena());

  const TensorView x = context.Float({grid.tokens(), c.dim});  // the residual stream
  Embed(context, patches, x);
  const BlockInputs inputs{.config = c,
                           .frames = grid.frames,
                           .rows = grid.rows,
                           .cols = grid.cols,
                           .rope = rope,
                           .time = time.projection};
  const bool wants_flow = !flow.empty();
  for (int64_t n = 0; n < c.num_layers; ++n) {
    if (context.stopped()) return;
    const Block& block = blocks_[static_cast<size_t>(n)];
    if (!wants_flow && n == c.num_layers - 1) return block.WriteKv(context, inputs, window(n), x);
    block.Run(context, inputs, attention[n], window(n), text.Layer(n), x);
  }
  Head(context, x, time.embedding, flow);
}

/// latents of the host, F32 [frames, in_dim, h, w] -> patches in the context's arena.
ConstTensorView WanTransformer::PatchesOf(ops::Context& context,
                                          const ConstTensorView& latents) const {
  const Shape shape{GridOf(config_, latents.shape).tokens(), patch_embedding_.in_features()};
  const TensorView patches = context.HostFloat(shape);
  Patchify(config_, latents, patches);
  return ops::Upload(context, patches);
}

void WanTransformer::Embed(ops::Context& context, const ConstTensorView& patches,
                           const TensorView& x) const {
  const ArenaScope scope(context.arena());
  const TensorView rounded = context.Activation(patches.shape);
  ops::Cast(context, patches, rounded);
  patch_embedding_.Run(context, rounded, x, ops::Activation::kNone, ops::Output::kFloat);
}

void WanTransformer::Head(ops::Context& context, const TensorView& x,
                          const TensorView& time_embedding, const TensorView& flow) const {
  const ArenaScope scope(context.arena());
  const int64_t groups = time_embedding.shape[0], dim = config_.dim;
  const ConstTensorView learned = head_modulation_.view().Reshape({2, dim});  // shift and scale
  const TensorView shift = context.Float({groups, dim}), scale = context.Float({groups, dim});
  ops::Copy(context, time_embedding, shift);
  AddToRows(context, shift, learned.Slice(0, 1));
  ops::Copy(context, time_embedding, scale);
  AddToRows(context, scale, learned.Slice(1, 2));
  const TensorView y = context.Activation({x.shape[0], dim});
  ops::LayerNormModulate(context, x, scale, shift, config_.eps, y);
  head_.Run(context, y, flow, ops::Activation::kNone, ops::Output::kFloat);
}

int64_t WanTransformer::weight_bytes() const {
  int64_t sum = patch_embedding_.bytes() + text_embedding0_.bytes() + text_embedding2_.bytes() +
                time_embedding_.bytes() + head_modulation_.bytes() + head_.bytes();
  for (const Block& block : blocks_) sum += block.bytes();
  return sum;
}

int64_t WanTransformer::WeightBytes(const WanConfig& config, ops::Precision precision,
                                    ops::WeightType weights) {
  const int64_t packed = precision == ops::Precision::kBF16 ? 2 : 4;  // bytes per element
  int64_t sum = 0;
  for (const NamedShape& tensor : WanTensors(config)) {
    // Everything but the matrices of Linears stays float32: vectors, and the time embedding.
    const bool is_float = !tensor.name.ends_with(".weight") || tensor.shape.rank() == 1 ||
                          tensor.name.starts_with("time_");
    const bool int8 = weights == ops::WeightType::kInt8 && IsBlockMatrix(tensor.name);
    sum += int8 ? ops::Linear::Int8Bytes(tensor.shape[1], tensor.shape[0])
                : tensor.shape.elements() * (is_float ? 4 : packed);
  }
  return sum;
}

int64_t WanTransformer::HostWeightBytes(const WanConfig& config) {
  int64_t sum = 0;
  for (const NamedShape& tensor : WanTensors(config))
    if (tensor.name.starts_with("time_")) sum += tensor.shape.elements() * 4;
  return sum;
}

int64_t WanTransformer::ScratchBytes(const WanConfig& config, int64_t frames, int64_t rows,
                                     int64_t cols, ops::Precision precision,
                                     ops::WeightType weights) {
  const int64_t tokens = frames * rows * cols;
  const int64_t act = precision == ops::Precision::kBF16 ? 2 : 4;         // bytes per element
  const int64_t lasting = tokens * (config.dim + config.head_dim()) * 4;  // x, cosines, sines
  const int64_t vectors = 16 * frames * config.dim * 4;     // time embedding and modulations
  const int64_t attention = 3 * tokens * config.dim * act;  // y, q, attended
  // The feed-forward layers reuse y, but `hidden` seldom fits into what attention has left.
  const int64_t hidden = tokens * config.ffn_dim * act;
  constexpr int64_t kTails = int64_t{64} << 20;  // ends of arena blocks where nothing fits
  // The sums of an int8 product, or a product before it is gated and added.
  const int64_t product =
      weights == ops::WeightType::kInt8
          ? std::max(ops::Linear::Int8ScratchBytes(tokens, config.dim, config.ffn_dim),
                     ops::Linear::Int8ScratchBytes(tokens, config.ffn_dim, config.dim))
          : tokens * config.dim * 4;
  return lasting + vectors + attention + hidden + product + kTails;
}

}  // namespace mrt
