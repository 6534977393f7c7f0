// The portable fast path of the gradients: one task per head, streaming over query and key tiles.
#pragma once

#include <cstdint>

#include "kernels/monarch/monarch.h"

namespace mrt {

/// The buffers of one task, in float32. Letters as in monarch.h; a `_pad` extent is rounded up to
/// kPadFloats, and [row, column, d_pad] has rows of row_floats. A variable named d_x is the
/// derivative of the loss by x.
struct MonarchBackwardWork {
  int64_t head = 0;
  int64_t i_pad = 0, j_pad = 0, d_pad = 0, row_floats = 0;

  // Of the query tile:
  float* q = nullptr;              // [i, j, d_pad], times s
  float* d_out = nullptr;          // [i, j, d_pad]
  float* d_q = nullptr;            // [i, j, d_pad], before it is multiplied by s
  float* q_rows = nullptr;         // [i, d_pad, j_pad], times s * log2(e)
  float* q_columns = nullptr;      // [j, d_pad, i_pad], times s * log2(e)
  float* d_out_columns = nullptr;  // [j, d_pad, i_pad]
  float* max = nullptr;            // [j, i_pad]: the running softmax of L
  float* sum = nullptr;            // [j, i_pad]
  float* mean = nullptr;           // [j, i_pad]: sum over (f,k) of L * d_L

  // Of the key tile:
  float* keys = nullptr;    // [k, l, d_pad]
  float* values = nullptr;  // [k, l, d_pad]
  float* kbar = nullptr;    // [k, j, d_pad], later d_kbar
  float* vbar = nullptr;    // [k, j, d_pad], later d_vbar
  float* c = nullptr;       // [k, j_pad], base 2
  float* d_c = nullptr;     // [k, j_pad], by c in base 2
  float* log_r = nullptr;   // [k, l, j_pad], base 2

  // Of one row, column or block of queries:
  float* d_kbar_column = nullptr;  // [k, d_pad]
  float* d_vbar_column = nullptr;  // [k, d_pad]
  float* d_row = nullptr;          // [l, d_pad]
  float* scores = nullptr;         // [max(l, k), kBlockQueries]
  float* d_scores = nullptr;       // [max(l, k), kBlockQueries]
  float* turned = nullptr;         // [d_pad, kBlockQueries]
  float* keep = nullptr;           // [kBlockQueries]
};

namespace portable {
void BackwardHead(const MonarchBackwardArgs& args, const MonarchBackwardWork& work);
}
namespace avx2 {
void BackwardHead(const MonarchBackwardArgs& args, const MonarchBackwardWork& work);
}
namespace avx512 {
void BackwardHead(const MonarchBackwardArgs& args, const MonarchBackwardWork& work);
}

/// The columns of a dispatch row that all instruction sets share, and its last one for each.
int64_t MonarchBackwardScratchBytes(const MonarchShape& shape, int threads);
void RunMonarchBackwardPortable(const MonarchBackwardArgs& args);
void RunMonarchBackwardAvx2(const MonarchBackwardArgs& args);
void RunMonarchBackwardAvx512(const MonarchBackwardArgs& args);

}  // namespace mrt
