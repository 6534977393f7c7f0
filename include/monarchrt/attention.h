// Attention over frames of a token grid, dense, Monarch or one of the baselines that Monarch is
// compared with (docs/attention.md), on plain pointers and without the engine:
//
//   const size_t frame = 30 * 52 * 12 * 128;
//   const std::vector<float> q(3 * frame), k(21 * frame), v(21 * frame);
//   std::vector<float> out(q.size());
//   const monarchrt::AttentionProblem problem = {
//       .frames_q = 3, .frames_kv = 21, .rows = 30, .cols = 52, .heads = 12, .head_dim = 128};
//   const monarchrt::Status status =
//       monarchrt::Attend({}, problem, {q.data(), k.data(), v.data(), out.data()});
//
// Scores are scaled by 1 / sqrt(head_dim). Sums are float32 whatever the tensors are.
//
// Threads: every function may be called from several threads at once. Attend spreads its work over
// threads of its own, one pool for each thread that calls it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "monarchrt/export.h"
#include "monarchrt/status.h"

namespace monarchrt {

enum class AttentionMode {
  kDense,
  kMonarch,
  kTopK,    // of each query exactly max(1, round(density * keys it sees)): those of the largest
            // scores, of equal ones those that come first. All scores are computed to know them
  kWindow,  // keys in a box around the query, which lies in the last frames_q of the key frames
  kRadial,  // keys near the query in its own frame, and half as near for each doubling of the
            // distance in frames
};

/// "dense", "monarch", "topk", "window", "radial"
MRT_API const char* AttentionModeName(AttentionMode mode);
/// All of them.
MRT_API std::vector<AttentionMode> ListAttentionModes();

struct AttentionOptions {
  AttentionMode mode = AttentionMode::kMonarch;
  int f_tied = 1;              // latent frames per tile; divides the frames
  int h_reduce = 1;            // cuts of the token rows; divides them
  int w_reduce = 1;            // cuts of the token columns; divides them
  int iterations = 1;          // refinement steps
  std::string implementation;  // a kernel's name ("avx512", "reference" ...), or empty for the best
  /// How much kTopK, kWindow and kRadial keep: pairs of a query and a key, of those that a query
  /// sees; more than 0, at most 1. The box and the radial pattern are the largest that keep at most
  /// that much of all pairs, but never less than each query's own position: AttentionDensity tells
  /// how much that is. The default is about what Monarch has as parameters at 30 x 52.
  double density = 0.053;
};

enum class ElementType { kF32, kBF16 };

/// How keys, values and their gradients lie. Kernels work on one head at a time: head-major tensors
/// are read in one piece, which is faster where memory is the limit.
enum class AttentionKvLayout {
  kTokenMajor,  // [batch, frames_kv, rows, cols, heads, head_dim]
  kHeadMajor,   // [batch, frames_kv, heads, rows, cols, head_dim]
};

/// The sizes. A token is one cell of the grid; a grid with one row and one frame is plain text.
struct AttentionProblem {
  int64_t batch = 1;
  int frames_q = 1;   // frames of queries
  int frames_kv = 1;  // frames of keys and values
  int rows = 1;       // of the grid of one frame
  int cols = 1;
  int heads = 1;  // of queries, keys and values alike
  int head_dim = 128;
  /// 0: every query sees every key. n > 0: a query sees the key frames of its own block of n frames
  /// and before; then frames_q == frames_kv, and n divides it.
  int causal_block_frames = 0;
  ElementType element = ElementType::kF32;
  AttentionKvLayout kv_layout = AttentionKvLayout::kTokenMajor;
};

/// The tensors: contiguous, the last axis fastest, aligned to their elements. The caller owns them.
struct AttentionTensors {
  const void* q = nullptr;  // [batch, frames_q,  rows, cols, heads, head_dim]
  const void* k = nullptr;  // as kv_layout says
  const void* v = nullptr;  // as k
  void* out = nullptr;      // as q; must not overlap q, k or v
};

/// Writes out. `threads`: 0 means all CPUs this process may use. Scratch memory grows with
/// frames_kv only in kTopK, kWindow and kRadial; up to 256 MB of it are kept for the next call.
/// InvalidArgument for sizes, tilings and pointers that cannot be, and for an implementation nobody
/// has heard of; Unavailable if the one that was named refuses; OutOfMemory. Then out is as it was.
MRT_API Status Attend(const AttentionOptions& options, const AttentionProblem& problem,
                      const AttentionTensors& tensors, int threads = 0);

/// What MonarchAttentionBackward takes and gives besides q, k and v. Gradients are float32 whatever
/// the tensors are, because those of k and v are sums over all queries.
struct AttentionGradients {
  const void* d_out = nullptr;  // of out, and stored like it: the derivative of the loss by it
  float* d_q = nullptr;         // as q
  float* d_k = nullptr;         // as k
  float* d_v = nullptr;         // as v
};

/// Writes the derivatives by q, k and v of Attend with kMonarch, through all refinement steps. It
/// computes again what it needs: tensors.out is not used. options.implementation names a kernel of
/// its own ("avx512", "avx2", "portable", "reference"); only "reference", which is slow and takes
/// memory that grows with frames_kv, knows more than one iteration. The work is spread by heads,
/// and the bits do not depend on threads. Gradients must not overlap one another or anything that
/// is read. It fails as Attend does, and with InvalidArgument for a mode other than kMonarch.
MRT_API Status MonarchAttentionBackward(const AttentionOptions& options,
                                        const AttentionProblem& problem,
                                        const AttentionTensors& tensors,
                                        const AttentionGradients& gradients, int threads = 0);

struct AttentionImplementation {
  std::string name;     // as AttentionOptions::implementation takes it
  std::string refuses;  // why it cannot run this problem here, as a sentence, or empty
  bool chosen = false;  // Attend would run this one
  /// The operands of its matrix products are rounded to bfloat16: errors of 3e-3 to 7e-3 instead of
  /// the 2e-3 that a bfloat16 result alone costs.
  bool bf16_products = false;
};

/// All implementations of options.mode, the best first. The status says why if Attend would refuse
/// the sizes or the tiling.
MRT_API Result<std::vector<AttentionImplementation>> ListAttentionImplementations(
    const AttentionOptions& options, const AttentionProblem& problem);

/// The share of the attention map that is not computed: 1 - AttentionDensity. 0 when dense. Fails
/// as Attend does for sizes and tilings.
MRT_API Result<double> AttentionSparsity(const AttentionOptions& options,
                                         const AttentionProblem& problem);

/// Monarch: (b1 + b2) / (b1 * b2) of a tile of b1 rows and b2 columns, parameters for each entry of
/// the map; more than 1 if the tile has one row or column. kTopK, kWindow, kRadial: pairs of a
/// query and a key that are kept, of those that a query sees. 1 when dense. Fails as Attend does
/// for sizes and tilings.
MRT_API Result<double> AttentionDensity(const AttentionOptions& options,
                                        const AttentionProblem& problem);

/// Floating point operations of the matrix products, a multiplication and an addition counted as
/// two; softmax is not counted. Of kTopK these are all scores and the sums of what is kept, of
/// kWindow and kRadial what is kept alone. Fails as Attend does for sizes and tilings.
MRT_API Result<double> AttentionFlop(const AttentionOptions& options,
                                     const AttentionProblem& problem);

}  // namespace monarchrt
