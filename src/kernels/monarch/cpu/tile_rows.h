// The rows of a tile in the tensors of one head, for the kernels that are compiled once per
// instruction set: everything here has internal linkage.
#pragma once

#include "kernels/common/cpu/tile_math.h"
#include "kernels/monarch/monarch.h"
#include "kernels/monarch/tiling.h"

namespace mrt::MRT_ISA {
namespace {

// The element of its frame where a tile's row begins.
inline int64_t RowOffset(const TokenStrides& strides, const TileRow& row, int64_t head) {
  return row.token * strides.token + head * strides.head;
}

// The tokens of one row of a tile -> [column, d_pad]; what lies past head_dim is left as it is.
inline void LoadRow(const MonarchShape& s, StorageType storage, const TokenStrides& strides,
                    const void* frame, const TileRow& row, int64_t head, int64_t d_pad, float* to) {
  const int64_t first = RowOffset(strides, row, head);
  for (int64_t j = 0; j < s.b2(); ++j)
    LoadFloats(frame, storage, first + j * strides.token, s.head_dim, to + j * d_pad);
}

// A row of keys or values will be read soon. The hardware does not foresee tokens that lie heads *
// head_dim apart, nor where the next row begins.
inline void PrefetchRow(const MonarchShape& s, const void* frame, StorageType type,
                        const TileRow& row, int64_t head) {
  constexpr int64_t kCacheLine = 64;
  const TokenStrides strides = s.kv_strides();
  const int64_t bytes = StorageBytes(type), token_bytes = s.head_dim * bytes;
  const char* token = static_cast<const char*>(frame) + RowOffset(strides, row, head) * bytes;
  for (int64_t j = 0; j < s.b2(); ++j, token += strides.token * bytes)
    for (int64_t byte = 0; byte < token_bytes; byte += kCacheLine)
      __builtin_prefetch(token + byte, 0, 2);
}

}  // namespace
}  // namespace mrt::MRT_ISA
