// Attention over frames of a token grid, dense, Monarch or a baseline, on the best kernel this
// machine has.
#pragma once

#include <span>
#include <string>

#include "base/status.h"
#include "ops/context.h"
#include "ops/kv_frames.h"

namespace mrt::ops {

enum class AttentionMode { kDense, kMonarch, kTopK, kWindow, kRadial };

/// Which attention, and how it tiles (DESIGN: f_tied frames per tile, h_reduce cuts of the rows,
/// w_reduce of the columns; they must divide the grid).
struct AttentionConfig {
  AttentionMode mode = AttentionMode::kMonarch;
  int f_tied = 1;
  int h_reduce = 1;
  int w_reduce = 1;
  int iterations = 1;          // refinement steps, >= 1
  std::string implementation;  // a kernel's name ("avx2", "reference", ...), or empty for the best
  double density = 0.053;      // kTopK, kWindow, kRadial: kernels/sparse/sparse.h
};

struct AttentionGrid {
  int rows = 1;  // of one latent frame, in tokens
  int cols = 1;
  int heads = 1;
  int head_dim = 1;
};

/// Says whether the tiling fits and the kernel runs here in `precision` and on `backend` (those of
/// the context to be used): InvalidArgument or Unavailable with got and need otherwise.
Status ValidateAttention(const AttentionConfig& config, const AttentionGrid& grid, int frames_q,
                         int frames_kv, Precision precision = Precision::kF32,
                         Backend* backend = nullptr);

/// Monarch: parameters for each entry of the attention map. Else what is computed of its entries.
/// The shapes have been validated.
double AttentionDensity(const AttentionConfig& config, const AttentionGrid& grid, int frames_q,
                        int frames_kv);

/// Bytes of the arena that SelfAttention takes for itself with the current thread count. The shapes
/// have been validated.
int64_t AttentionScratchBytes(const AttentionConfig& config, const AttentionGrid& grid,
                              int frames_q, int frames_kv, Precision precision,
                              Backend* backend = nullptr);

/// q, out: act [frames_q, rows, cols, heads, head_dim]. kv: what StoreKeys and StoreValues
/// (rowwise.h) wrote. The caller has validated the shapes.
void SelfAttention(Context& context, const AttentionConfig& config, const AttentionGrid& grid,
                   const ConstTensorView& q, const KvFrames& kv, const TensorView& out);

/// Plain attention of q act [tokens_q, heads, head_dim] over k, v act [tokens_kv, heads, head_dim]
/// -> out act. `scale` multiplies the scores. `bias` is added to them, or empty: F32 [heads,
/// tokens_q, tokens_kv]; or [tokens_kv]; or [heads, tokens_q + tokens_kv - 1], where key k of query
/// i finds its own at k - i + tokens_q - 1.
void DenseAttention(Context& context, const ConstTensorView& q, const ConstTensorView& k,
                    const ConstTensorView& v, float scale, const ConstTensorView& bias,
                    const TensorView& out);

}  // namespace mrt::ops
