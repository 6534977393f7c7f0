// Tiled Monarch attention (MonarchRT, arXiv 2602.12271): contract of every implementation.
//
// Tokens form a grid of frames x rows x cols. A tile is a box of f_tied frames x rows/h_reduce x
// cols/w_reduce. Inside a tile a token has a row in b1 = f_tied * rows / h_reduce (frame-major) and
// a column in b2 = cols / w_reduce. Letters: a query tile, f key tile, i query row, k key row, j
// query column, l key column, d channel, s = 1/sqrt(head_dim). One step is
//
//   r[a,f,k,j,l]   = softmax over l of      s * q[a,k,j] . K[f,k,l]
//   kbar[a,f,j,k]  = sum_l r * K[f,k,l]     vbar[a,f,j,k] = sum_l r * V[f,k,l]
//   c[a,f,j,k]     = sum_l r * log r
//   L[a,j,i,(f,k)] = softmax over (f,k) of  s * q[a,i,j] . kbar[a,f,j,k] - c[a,f,j,k]
//   o[a,i,j]       = sum over (f,k) of      L * vbar[a,f,j,k]
//
// and each further step refines r with the L before it:
//
//   n[a,f,k,j] = sum_i L[a,j,i,(f,k)]       qbar[a,f,k,j] = sum_i L * q[a,i,j]
//   r          = softmax over l of          s * (qbar . K[f,k,l]) * min(1 / (n + 1e-6), 1e4)
#pragma once

#include <cstdint>
#include <span>

#include "base/cpu_features.h"
#include "base/status.h"
#include "kernels/storage_type.h"

namespace mrt {

// The two numbers of the last formula.
constexpr double kMonarchDampingEpsilon = 1e-6;
constexpr double kMonarchDampingMax = 1e4;

struct MonarchShape {
  int heads = 1;      // query heads == key heads; Wan 2.1 has no grouped heads
  int frames_q = 1;   // latent frames being denoised
  int frames_kv = 1;  // latent frames in the key/value window
  int rows = 1;       // latent grid rows per frame (30 at 480x832)
  int cols = 1;       // latent grid columns per frame (52 at 480x832)
  int head_dim = 128;
  int f_tied = 1;      // frames per tile; divides frames_q and frames_kv
  int h_reduce = 1;    // cuts of the rows; divides rows
  int w_reduce = 1;    // cuts of the columns; divides cols
  int iterations = 1;  // refinement steps, >= 1
  // Block-causal: 0 = every query sees every key frame. n > 0: a query frame sees the key frames of
  // its own block of n frames and before; then frames_q == frames_kv, n divides it, and f_tied
  // divides n.
  int causal_block_frames = 0;
  StorageType storage = StorageType::kF32;
  KvLayout kv_layout = KvLayout::kTokenMajor;
  bool kv_bf16 = false;  // keys and values are bfloat16, whatever `storage` is

  int b1() const { return f_tied * (rows / h_reduce); }
  int b2() const { return cols / w_reduce; }
  TokenStrides q_strides() const {
    return StridesOf(KvLayout::kTokenMajor, int64_t{rows} * cols, heads, head_dim);
  }
  StorageType kv_storage() const { return kv_bf16 ? StorageType::kBF16 : storage; }
  TokenStrides kv_strides() const {
    return StridesOf(kv_layout, int64_t{rows} * cols, heads, head_dim);
  }
};

struct MonarchArgs {
  MonarchShape shape;
  const void* q = nullptr;                // [frames_q, rows, cols, heads, head_dim]
  const void* const* k_frames = nullptr;  // frames_kv pointers, in order, to kv_layout, where
                                          // tokens are [rows, cols]
  const void* const* v_frames = nullptr;  // the same for the values
  void* out = nullptr;      // [frames_q, rows, cols, heads, head_dim]; must not alias q, k, v
  void* scratch = nullptr;  // scratch_bytes of the shape and ThreadCount(), 64-byte aligned
};

/// Ok, or InvalidArgument with got and need.
Status ValidateMonarch(const MonarchShape& shape);

/// "Sparsity" always means 1 - (b1 + b2) / (b1 * b2), the share of map entries that are not
/// parameters.
double MonarchSparsity(const MonarchShape& shape);

/// Floating point operations of the matrix products, one step times the iterations, a
/// multiplication and an addition counted as two. Softmax is not counted.
double MonarchFlop(const MonarchShape& shape);

struct MonarchImpl {
  const char* name;
  /// Null if it can run this shape on this CPU, else why not, as a sentence.
  const char* (*refuses)(const MonarchShape& shape, const CpuFeatures& cpu);
  /// Scratch for `threads` threads; does not grow with frames_kv.
  int64_t (*scratch_bytes)(const MonarchShape& shape, int threads);
  void (*run)(const MonarchArgs& args);
  /// The operands of its matrix products are rounded to bfloat16: Rounding::kBf16Operands says what
  /// that costs.
  bool bf16_products = false;
};

/// All implementations, best first; the last one always applies.
std::span<const MonarchImpl> MonarchImpls();

/// The first that does not refuse; the one named by `forced` (or by MRT_MONARCH_IMPL in the
/// environment if `forced` is empty). Unavailable with the reason if the forced one refuses,
/// InvalidArgument with the list of names if there is none of that name.
Result<const MonarchImpl*> PickMonarch(const MonarchShape& shape, const char* forced = "");

/// The derivatives of sum(d_out * out) by q, k and v: always float32, whatever the storage of the
/// tensors, because those of k and v are sums over all queries. They are written, not added to; no
/// two tensors may overlap but k and v.
struct MonarchBackwardArgs {
  MonarchShape shape;
  const void* q = nullptr;                // [frames_q, rows, cols, heads, head_dim]
  const void* const* k_frames = nullptr;  // as in MonarchArgs
  const void* const* v_frames = nullptr;
  const void* d_out = nullptr;         // as q
  float* d_q = nullptr;                // as q
  float* const* d_k_frames = nullptr;  // as k_frames, kv_layout too
  float* const* d_v_frames = nullptr;
  void* scratch = nullptr;  // scratch_bytes of the shape and ThreadCount(), 64-byte aligned
};

struct MonarchBackwardImpl {
  const char* name;
  /// As in MonarchImpl.
  const char* (*refuses)(const MonarchShape& shape, const CpuFeatures& cpu);
  /// Scratch for `threads` threads; does not grow with frames_q or frames_kv.
  int64_t (*scratch_bytes)(const MonarchShape& shape, int threads);
  void (*run)(const MonarchBackwardArgs& args);
};

/// All implementations, best first; the last one always applies.
std::span<const MonarchBackwardImpl> MonarchBackwardImpls();

/// As PickMonarch, with the environment variable MRT_MONARCH_BACKWARD_IMPL.
Result<const MonarchBackwardImpl*> PickMonarchBackward(const MonarchShape& shape,
                                                       const char* forced = "");

}  // namespace mrt
