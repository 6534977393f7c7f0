// The UMT5 text encoder of Wan 2.1 (MODEL.md, "UMT5 encoder"): token ids -> one row per token.
//
// The released one has 5.7 G parameters and runs once per prompt, so on the CPU it is never loaded
// as a whole: its file stays mapped, and one weight matrix at a time is read, used and its pages
// given back. A GPU that has room for them keeps the matrices. Of the embedding only the rows of
// the prompt are touched.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "base/status.h"
#include "ops/linear.h"
#include "tensor/checkpoint.h"

namespace mrt {

namespace ops {
class Backend;
}  // namespace ops

struct Umt5Config {
  int64_t vocabulary = 0;  // rows of the embedding
  int64_t dim = 0;         // width of the residual stream
  int64_t dim_attn = 0;    // all heads together
  int64_t dim_ffn = 0;
  int64_t heads = 0;  // they divide dim_attn
  int64_t layers = 0;
  int64_t buckets = 0;  // of relative positions, both signs together

  int64_t head_dim() const { return dim_attn / heads; }
  /// All sizes from the tensors' shapes. BadData if they do not make an encoder.
  static Result<Umt5Config> Read(const Checkpoint& checkpoint);
};

class Umt5Encoder {
 public:
  /// Checks the names and shapes of all tensors and packs nothing. NotFound or BadData lists those
  /// that are missing and those that differ (tensor/weight_reader.h).
  static Result<Umt5Encoder> Open(Checkpoint checkpoint);

  const Umt5Config& config() const { return config_; }

  /// Whether Encode can run on a backend: the layers' matrices are BF16, and it has an attention of
  /// that head_dim.
  bool RunsOn(ops::Backend& backend) const;
  /// Copies the matrices there: Encode needs a context with that backend from then on. RunsOn must
  /// be true. Throws std::bad_alloc.
  void MoveMatrices(ops::Backend& backend);
  /// Of all that MoveMatrices copies.
  int64_t MatrixBytes() const;

  /// ids (not padded, at most text_len) -> F32 [text_len, dim]; rows past the text are 0.
  /// InvalidArgument for an id outside the vocabulary or too many ids; BadData if the file has
  /// changed since Open().
  Result<Tensor> Encode(ops::Context& context, std::span<const int32_t> ids, int text_len) const;

  /// Bytes Encode needs at its peak for a text of text_len tokens, mapped pages of the file and the
  /// result included: the largest weight matrix and the activations, however many layers there are.
  /// Once the matrices were moved, as much is needed there, but for the largest matrix.
  int64_t PeakBytes(ops::Precision precision, int64_t text_len = 512) const;

 private:
  struct Layer {                            // "Linear" weights without bias: [out, in]
    ConstTensorView norm1, q, k, v, o;      // [dim], 3 x [dim_attn, dim], [dim, dim_attn]
    ConstTensorView position_bias;          // [buckets, heads]
    ConstTensorView norm2, gate, up, down;  // [dim], 2 x [dim_ffn, dim], [dim, dim_ffn]
  };

  Umt5Encoder() = default;
  /// All matrices of a layer.
  template <typename L>
  static auto Matrices(L& layer) {
    return std::array{&layer.q, &layer.k, &layer.v, &layer.o, &layer.gate, &layer.up, &layer.down};
  }
  void Embed(std::span<const int32_t> ids, const TensorView& x) const;
  void SelfAttention(ops::Context& context, const Layer& layer, const TensorView& x) const;
  void FeedForward(ops::Context& context, const Layer& layer, const TensorView& x) const;
  void Normalize(ops::Context& context, const ConstTensorView& weight, const ConstTensorView& x,
                 const TensorView& y, ops::Output output = ops::Output::kActivation) const;
  void Project(ops::Context& context, const ConstTensorView& weight, const ConstTensorView& x,
               const TensorView& y, ops::Activation activation = ops::Activation::kNone,
               ops::Output output = ops::Output::kActivation) const;
  void ProjectAndAdd(ops::Context& context, const ConstTensorView& weight, const ConstTensorView& y,
                     const TensorView& x) const;

  Checkpoint checkpoint_;
  Umt5Config config_;
  ConstTensorView embedding_;  // [vocabulary, dim]
  std::vector<Layer> layers_;
  std::vector<Tensor> moved_;  // what the matrices of layers_ are once they were moved
  ConstTensorView norm_;       // [dim]
};

}  // namespace mrt
