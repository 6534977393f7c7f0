// The shape of a Monarch kernel's call; only for the files of this folder and its backends.
#pragma once

#include "kernels/monarch/monarch.h"
#include "ops/attention.h"

namespace mrt::ops {

inline MonarchShape MonarchShapeOf(const AttentionConfig& config, const AttentionGrid& grid,
                                   int frames_q, int frames_kv, StorageType storage,
                                   KvLayout kv_layout) {
  return {.heads = grid.heads,
          .frames_q = frames_q,
          .frames_kv = frames_kv,
          .rows = grid.rows,
          .cols = grid.cols,
          .head_dim = grid.head_dim,
          .f_tied = config.f_tied,
          .h_reduce = config.h_reduce,
          .w_reduce = config.w_reduce,
          .iterations = config.iterations,
          .storage = storage,
          .kv_layout = kv_layout};
}

}  // namespace mrt::ops
