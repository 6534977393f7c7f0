#include "model/umt5/umt5.h"

#include <algorithm>
#include <string>

#include "model/umt5/relative_bias.h"
#include "ops/attention.h"
#include "ops/backend.h"
#include "ops/linear.h"
#include "ops/rowwise.h"
#include "ops/transfer.h"
#include "tensor/weight_reader.h"

namespace mrt {
namespace {

using ops::Output;

constexpr float kNormEpsilon = 1e-6f;
// Arenas grow in blocks, of which the last may be nearly empty and each may waste its end.
constexpr int64_t kArenaSlackBytes = int64_t{64} << 20;

// Whether a weight of that dtype needs no rounding first.
bool UsedAsStored(DType stored, ops::Precision precision) {
  return stored == DType::kBF16 || (stored == DType::kF32 && precision == ops::Precision::kF32);
}

}  // namespace

Result<Umt5Encoder> Umt5Encoder::Open(Checkpoint checkpoint) {
  Umt5Encoder encoder;
  encoder.checkpoint_ = std::move(checkpoint);
  MRT_ASSIGN_OR_RETURN(encoder.config_, Umt5Config::Read(encoder.checkpoint_));
  const Umt5Config& c = encoder.config_;
  WeightReader reader(encoder.checkpoint_, "[umt5]");
  encoder.embedding_ = reader.Require("token_embedding.weight", {c.vocabulary, c.dim});
  encoder.norm_ = reader.Require("norm.weight", {c.dim});
  // Some checkpoints share one position bias between all layers.
  const std::string bias_name = "pos_embedding.embedding.weight";
  const ConstTensorView shared_bias = reader.Optional(bias_name, {c.buckets, c.heads});
  for (int64_t i = 0; i < c.layers; ++i) {
    const std::string p = "blocks." + std::to_string(i) + ".";
    encoder.layers_.push_back({
        .norm1 = reader.Require(p + "norm1.weight", {c.dim}),
        .q = reader.Require(p + "attn.q.weight", {c.dim_attn, c.dim}),
        .k = reader.Require(p + "attn.k.weight", {c.dim_attn, c.dim}),
        .v = reader.Require(p + "attn.v.weight", {c.dim_attn, c.dim}),
        .o = reader.Require(p + "attn.o.weight", {c.dim, c.dim_attn}),
        .position_bias =
            shared_bias.empty() ? reader.Require(p + bias_name, {c.buckets, c.heads}) : shared_bias,
        .norm2 = reader.Require(p + "norm2.weight", {c.dim}),
        .gate = reader.Require(p + "ffn.gate.0.weight", {c.dim_ffn, c.dim}),
        .up = reader.Require(p + "ffn.fc1.weight", {c.dim_ffn, c.dim}),
        .down = reader.Require(p + "ffn.fc2.weight", {c.dim, c.dim_ffn}),
    });
  }
  MRT_RETURN_IF_ERROR(reader.status());
  return encoder;
}

void Umt5Encoder::MoveMatrices(ops::Backend& backend) {
  MRT_CHECK(moved_.empty() && RunsOn(backend));
  for (Layer& layer : layers_) {
    for (ConstTensorView* matrix : Matrices(layer)) {
      moved_.emplace_back(matrix->dtype, matrix->shape, &backend);
      backend.Copy(moved_.back().view().data, matrix->data, matrix->bytes());
      *matrix = moved_.back();
    }
    checkpoint_.DropPages();
  }
}

bool Umt5Encoder::RunsOn(ops::Backend& backend) const {
  const bool bf16 = std::ranges::all_of(layers_, [](const Layer& layer) {
    return std::ranges::all_of(Matrices(layer),
                               [](const auto* matrix) { return matrix->dtype == DType::kBF16; });
  });
  const ops::AttentionGrid grid = {.rows = 1,
                                   .cols = 1,
                                   .heads = static_cast<int>(config_.heads),
                                   .head_dim = static_cast<int>(config_.head_dim())};
  return bf16 && backend.ValidateAttention({.mode = ops::AttentionMode::kDense}, grid, 1, 1).ok();
}

int64_t Umt5Encoder::MatrixBytes() const {
  int64_t sum = 0;
  for (const Layer& layer : layers_)
    for (const ConstTensorView* matrix : Matrices(layer)) sum += matrix->bytes();
  return sum;
}

Result<Tensor> Umt5Encoder::Encode(ops::Context& context, std::span<const int32_t> ids,
                                   int text_len) const {
  if (static_cast<int64_t>(ids.size()) > text_len)
    return InvalidArgument("[umt5] got " + std::to_string(ids.size()) + " ids, need at most " +
                           std::to_string(text_len));
  for (const int32_t id : ids)
    if (id < 0 || id >= config_.vocabulary)
      return InvalidArgument("[umt5] got id " + std::to_string(id) + ", need 0 to " +
                             std::to_string(config_.vocabulary - 1));
  Tensor out(DType::kF32, {text_len, config_.dim});
  const auto n = static_cast<int64_t>(ids.size());
  if (n == 0) return out;

  // Padding takes part in nothing, so only the n rows of the text are computed.
  const ArenaScope scope(context.arena()), host_scope(context.host_arena());
  const TensorView embedded = context.HostFloat({n, config_.dim});
  Embed(ids, embedded);
  const TensorView x = ops::Upload(context, embedded);
  for (const Layer& layer : layers_) {
    if (context.stopped()) return out;
    SelfAttention(context, layer, x);
    FeedForward(context, layer, x);
  }
  const TensorView rows = out.view().Slice(0, n), made = ops::RoomFor(context, rows);
  Normalize(context, norm_, x, made, Output::kFloat);
  ops::DownloadTo(context, made, rows);
  MRT_RETURN_IF_ERROR(checkpoint_.CheckUnchanged());
  return out;
}

void Umt5Encoder::Embed(std::span<const int32_t> ids, const TensorView& x) const {
  float* row = x.as<float>();  // [dim]
  for (const int32_t id : ids) {
    const Tensor embedded = ToFloat32(embedding_.Slice(id, id + 1));  // [1, dim]
    row = std::copy_n(embedded.as<float>(), config_.dim, row);
  }
}

// x += o(attention(norm1(x))), scores not scaled.
void Umt5Encoder::SelfAttention(ops::Context& context, const Layer& layer,
                                const TensorView& x) const {
  const ArenaScope scope(context.arena()), host_scope(context.host_arena());
  const int64_t n = x.shape[0];
  const TensorView y = context.Activation({n, config_.dim});
  Normalize(context, layer.norm1, x, y);
  const Shape by_head{n, config_.heads, config_.head_dim()};
  const TensorView q = context.Activation(by_head), k = context.Activation(by_head),
                   v = context.Activation(by_head), attended = context.Activation(by_head);
  const Shape joined{n, config_.dim_attn};
  Project(context, layer.q, y, q.Reshape(joined));
  Project(context, layer.k, y, k.Reshape(joined));
  Project(context, layer.v, y, v.Reshape(joined));
  const TensorView bias = context.HostFloat({config_.heads, 2 * n - 1});
  FillRelativeBias(layer.position_bias, bias);
  ops::DenseAttention(context, q, k, v, /*scale=*/1.0f, ops::Upload(context, bias), attended);
  ProjectAndAdd(context, layer.o, attended.Reshape(joined), x);
}

// x += down(up(y) * gelu(gate(y))), y = norm2(x).
void Umt5Encoder::FeedForward(ops::Context& context, const Layer& layer,
                              const TensorView& x) const {
  ArenaScope scope(context.arena());
  const int64_t n = x.shape[0];
  const TensorView y = context.Activation({n, config_.dim});
  Normalize(context, layer.norm2, x, y);
  const TensorView gate = context.Activation({n, config_.dim_ffn});
  const TensorView up = context.Activation({n, config_.dim_ffn});
  Project(context, layer.gate, y, gate, ops::Activation::kGeluTanh);
  Project(context, layer.up, y, up);
  ops::Multiply(context, up, gate);
  ProjectAndAdd(context, layer.down, up, x);
}

// y = norm(x) by the weight of the file.
void Umt5Encoder::Normalize(ops::Context& context, const ConstTensorView& weight,
                            const ConstTensorView& x, const TensorView& y, Output output) const {
  const ArenaScope scope(context.arena());
  const Tensor floats = ToFloat32(weight);
  ops::RmsNorm(context, x, ops::Upload(context, floats.view()), kNormEpsilon, y, output);
}

// y = activation(x W^T). A weight is used once, and packing it would take longer than the product:
// so it is read straight from the mapped file, widened if the activations are float32, or from
// where it was moved to.
void Umt5Encoder::Project(ops::Context& context, const ConstTensorView& weight,
                          const ConstTensorView& x, const TensorView& y, ops::Activation activation,
                          Output output) const {
  if (UsedAsStored(weight.dtype, context.precision())) {
    const int64_t n = x.shape[0], in = weight.shape[1], out = weight.shape[0];
    ops::BatchedMatmul(context, x.Reshape({1, n, in}), weight.Reshape({1, out, in}),
                       /*b_transposed=*/true, y.Reshape({1, n, out}), output, activation);
  } else {
    ops::Linear(context, weight, {}).Run(context, x, y, activation, output);
  }
  checkpoint_.DropPages();
}

// x += y W^T: the residual stream stays float32.
void Umt5Encoder::ProjectAndAdd(ops::Context& context, const ConstTensorView& weight,
                                const ConstTensorView& y, const TensorView& x) const {
  ArenaScope scope(context.arena());
  const TensorView branch = context.Float(x.shape);
  Project(context, weight, y, branch, ops::Activation::kNone, Output::kFloat);
  ops::Add(context, x, branch, /*relu=*/false, Output::kFloat);
}

int64_t Umt5Encoder::PeakBytes(ops::Precision precision, int64_t text_len) const {
  const Umt5Config& c = config_;
  const DType act = precision == ops::Precision::kBF16 ? DType::kBF16 : DType::kF32;
  // The largest matrix: mapped pages, and if its dtype is another, a converted copy, which may be
  // packed into one more.
  const DType stored = layers_.empty() ? act : layers_[0].up.dtype;
  const int64_t copies = stored == act ? 0 : UsedAsStored(stored, precision) ? 1 : 2;
  const int64_t matrix =
      c.dim * std::max(c.dim_attn, c.dim_ffn) * (DTypeSize(stored) + copies * DTypeSize(act));
  const int64_t n = text_len;
  const int64_t residual = 3 * n * c.dim * DTypeSize(DType::kF32);  // x, a branch, the result
  const int64_t attention =
      n * (c.dim + 4 * c.dim_attn) * DTypeSize(act) + c.heads * n * n * DTypeSize(DType::kF32);
  const int64_t feed_forward = n * (c.dim + 2 * c.dim_ffn) * DTypeSize(act);
  return matrix + residual + std::max(attention, feed_forward) + kArenaSlackBytes;
}

}  // namespace mrt
