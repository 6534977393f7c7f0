// What the parts of the AMX kernel share: sizes, and where things lie. Everything here has internal
// linkage: see decision 3.
#pragma once

#include "kernels/common/cpu/amx_math.h"
#include "kernels/monarch/cpu/amx.h"
#include "kernels/monarch/tiling.h"

namespace mrt::MRT_ISA {
namespace {

// What is asked for often and follows from the shape.
struct Sizes {
  int64_t b1, b2, d;
  int64_t chunks;      // of 32 channels
  int64_t row_bytes;   // of one token of one head
  TokenStrides q, kv;  // in bytes
  float scale;         // s * log2(e): softmaxes use 2^x
};

inline Sizes SizesOf(const MonarchShape& s) {
  const int64_t d = s.head_dim;
  return {.b1 = s.b1(),
          .b2 = s.b2(),
          .d = d,
          .chunks = d / kTileDepth,
          .row_bytes = d * 2,
          .q = InBytes(s.q_strides()),
          .kv = InBytes(s.kv_strides()),
          .scale = kLog2e / __builtin_sqrtf(static_cast<float>(d))};
}

// The first token of a row of a tile, in its frame.
inline int64_t RowBytes(const TokenStrides& strides, const TileRow& row, int64_t head) {
  return row.token * strides.token + head * strides.head;
}

// Some key tiles. Row n of a block is row n / tiles of key tile first + n % tiles: as many rows as
// there are tiles share their queries.
struct Block {
  int64_t first;
  int64_t tiles;
  int64_t rows;
};

}  // namespace
}  // namespace mrt::MRT_ISA
