// Attention over a part of the keys: the baselines that Monarch is compared with. Contract of every
// implementation.
//
// Tokens form a grid of frames x rows x cols. The queries are the last frames_q frames of the keys,
// so query frame a lies at key frame frames_kv - frames_q + a. A query keeps some of the keys that
// it sees; then, with s = 1/sqrt(head_dim) and for each head,
//
//   o[i] = sum over kept l of  softmax over kept l (s * q[i] . k[l]) * v[l]
//
// kTopK    the keys of the largest scores: exactly max(1, round(density * seen keys)) of them. Of
//          equal scores the lower index is kept; a score that is not a number counts as the
//          largest.
// kWindow  a box: keys at most `frames`, `rows` and `cols` away (WindowReach).
// kRadial  keys whose distance along the frame, in tokens in raster order, is less than a width
// that
//          halves with each doubling of the distance in frames (RadialWidth), as in Radial
//          Attention (arXiv 2506.19852).
//
// The box and the widths are the largest that keep at most density * all pairs of a query and a key
// that it sees, but never less than each query's own position (ChooseWindow, ChooseRadial).
#pragma once

#include <cstdint>
#include <span>

#include "base/cpu_features.h"
#include "base/status.h"
#include "kernels/storage_type.h"

namespace mrt {

/// What Monarch keeps as parameters at 30 x 52: its sparsity is 94.7 %.
constexpr double kSparseDensityDefault = 0.053;

enum class SparsePattern { kTopK, kWindow, kRadial };

struct SparseShape {
  SparsePattern pattern = SparsePattern::kTopK;
  double density = kSparseDensityDefault;  // more than 0, at most 1
  int heads = 1;
  int frames_q = 1;   // at most frames_kv, but for kTopK, which does not ask where a query lies
  int frames_kv = 1;  // kWindow, kRadial: at most 65536, and so are rows and cols
  int rows = 1;       // of the grid of one frame
  int cols = 1;
  int head_dim = 128;
  int causal_block_frames = 0;  // as in MonarchShape
  StorageType storage = StorageType::kF32;
  KvLayout kv_layout = KvLayout::kTokenMajor;
  bool kv_bf16 = false;  // keys and values are bfloat16, whatever `storage` is

  int64_t tokens() const { return int64_t{rows} * cols; }  // of one frame
  StorageType kv_storage() const { return kv_bf16 ? StorageType::kBF16 : storage; }
  TokenStrides kv_strides() const { return StridesOf(kv_layout, tokens(), heads, head_dim); }
};

struct SparseArgs {
  SparseShape shape;
  const void* q = nullptr;                // [frames_q, rows, cols, heads, head_dim]
  const void* const* k_frames = nullptr;  // frames_kv pointers, in order, to kv_layout, where
                                          // tokens are [rows, cols]
  const void* const* v_frames = nullptr;  // the same for the values
  void* out = nullptr;      // [frames_q, rows, cols, heads, head_dim]; must not alias q, k, v
  void* scratch = nullptr;  // scratch_bytes of the shape and ThreadCount(), 64-byte aligned
};

/// Ok, or InvalidArgument with got and need.
Status ValidateSparse(const SparseShape& shape);

/// A query of frame `a` sees the key frames [0, VisibleFrames(shape, a)).
int64_t VisibleFrames(const SparseShape& shape, int64_t a);

/// How many of `seen` keys kTopK keeps.
int64_t KeptByTopK(double density, int64_t seen);

/// What is kept: pairs of a query and a kept key, of all pairs of a query and a key that it sees.
double SparseDensity(const SparseShape& shape);

/// Floating point operations of the matrix products that the pattern needs, a multiplication and an
/// addition counted as two: scores and sums of the kept pairs, but all scores with kTopK.
double SparseFlop(const SparseShape& shape);

struct SparseImpl {
  const char* name;
  const char* (*refuses)(const SparseShape& shape, const CpuFeatures& cpu);
  /// Scratch for `threads` threads; grows with frames_kv.
  int64_t (*scratch_bytes)(const SparseShape& shape, int threads);
  void (*run)(const SparseArgs& args);
  /// The operands of its matrix products are rounded to bfloat16.
  bool bf16_products = false;
};

std::span<const SparseImpl> SparseImpls();

/// As PickMonarch; the environment variable is MRT_SPARSE_IMPL.
Result<const SparseImpl*> PickSparse(const SparseShape& shape, const char* forced = "");

}  // namespace mrt
