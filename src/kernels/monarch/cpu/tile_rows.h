// The rows of a tile in the tensors of one head, for the kernels that are compiled once per
// instruction set: everything here has internal linkage.
#pragma once

#include "kernels/common/cpu/tile_math.h"
#include "kernels/monarch/monarch.h"
#include "kernels/monarch/tiling.h"

namespace mrt::MRT_ISA {
namespace {

// The element of its frame where a tile's row begins.
inline int64_t RowOffset(const MonarchShape& s, const TileRow& row, int64_t head) {
  return (row.token * s.heads + head) * s.head_dim;
}

// The tokens of one row of a tile -> [column, d_pad]; what lies past head_dim is left as it is.
inline void LoadRow(const MonarchShape& s, const void* frame, const TileRow& row, int64_t head,
                    int64_t d_pad, float* to) {
  const int64_t first = RowOffset(s, row, head);
  const int64_t token_stride = int64_t{s.heads} * s.head_dim;
  for (int64_t j = 0; j < s.b2(); ++j)
    LoadFloats(frame, s.storage, first + j * token_stride, s.head_dim, to + j * d_pad);
}

// A row will be read soon: its tokens lie heads * head_dim apart, too far for the hardware to
// foresee.
inline void PrefetchRow(const MonarchShape& s, const void* frame, StorageType type,
                        const TileRow& row, int64_t head) {
  constexpr int64_t kCacheLine = 64;
  const int64_t token_bytes = s.head_dim * StorageBytes(type);
  const char* token =
      static_cast<const char*>(frame) + RowOffset(s, row, head) * StorageBytes(type);
  for (int64_t j = 0; j < s.b2(); ++j, token += s.heads * token_bytes)
    for (int64_t byte = 0; byte < token_bytes; byte += kCacheLine)
      __builtin_prefetch(token + byte, 0, 2);
}

}  // namespace
}  // namespace mrt::MRT_ISA
