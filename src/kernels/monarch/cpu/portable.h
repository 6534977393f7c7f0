// The portable fast path: one task per head and query tile, streaming over the key tiles.
#pragma once

#include <cstdint>

#include "kernels/monarch/monarch.h"

namespace mrt {

/// The buffers of one task, in float32. Letters as in monarch.h; a `_pad` extent is rounded up to
/// kPadFloats. All queries are multiplied by s * log2(e), so that the softmax can use 2^x.
struct MonarchWork {
  int64_t head = 0;
  int64_t a = 0;  // query tile
  int64_t i_pad = 0, j_pad = 0, d_pad = 0;
  int64_t key_row_floats = 0;  // of kbar and vbar: j * d_pad, and a cache line, so that the rows of
                               // a column do not all fall into the same sets of L1

  float* q_rows = nullptr;     // [k, d_pad, j_pad]: q[a,k,j]
  float* q_columns = nullptr;  // [j, d_pad, i_pad]: q[a,i,j]
  float* key_row = nullptr;    // [l, d_pad]: K[f,k,l] of one key tile f and row k
  float* value_row = nullptr;  // [l, d_pad]
  float* scores = nullptr;     // [max(l, k), kBlockQueries]
  float* kbar = nullptr;       // [k, key_row_floats] of one key tile: [j, d_pad] in each row
  float* vbar = nullptr;       // the same
  float* c = nullptr;          // [j, k], base 2
  float* max = nullptr;        // [j, i_pad]: the running softmax of L
  float* sum = nullptr;        // [j, i_pad]
  float* keep = nullptr;       // [kBlockQueries]
  float* out = nullptr;        // [j, i, d_pad]: o times sum; before, the tile's queries

  // Only with more than one refinement step:
  float* q_plain = nullptr;    // [j, i, d_pad]
  float* qbar_rows = nullptr;  // [k, d_pad, j_pad]: damped
  float* qbar = nullptr;       // [k, d_pad] of one column j
  float* n = nullptr;          // [k] of one column j
  float* log_sum = nullptr;    // [iterations - 1, j, i_pad]: log2 of the sum that normalises L
};

MonarchWork PlanMonarchWork(const MonarchShape& shape, int64_t task, float* scratch);

namespace portable {
void AttendQueryTile(const MonarchArgs& args, const MonarchWork& work);
}
namespace avx2 {
void AttendQueryTile(const MonarchArgs& args, const MonarchWork& work);
}
namespace avx512 {
void AttendQueryTile(const MonarchArgs& args, const MonarchWork& work);
}

/// The columns of a dispatch row that all instruction sets share, and its last one for each.
int64_t MonarchPortableScratchBytes(const MonarchShape& shape, int threads);
void RunMonarchPortable(const MonarchArgs& args);
void RunMonarchAvx2(const MonarchArgs& args);
void RunMonarchAvx512(const MonarchArgs& args);

}  // namespace mrt
