// Products of tiles of bf16, whoever computes them: amx_tiles.h or dot_tiles.h.
//
// A tile is 16 rows of 64 bytes. A product adds A [16, 32] x B [32, 16] to C [16, 16] in float32; A
// lies row by row, B in pairs: dword (p, n) holds B[2p, n] and B[2p + 1, n]. Every tile is full
// size; what is past a tensor's end is zero or not used. Everything here has internal linkage: see
// decision 3.
#pragma once

#include <cstdint>

namespace mrt {
namespace {

constexpr int64_t kTileRows = 16;      // also the float32 columns of a tile
constexpr int64_t kTileDepth = 32;     // bf16 in a row of A: the depth of one product
constexpr int64_t kTileRowBytes = 64;  // a cache line, a vector
constexpr int64_t kPairBytes = 4;      // two bf16

/// kRowTiles x kColTiles tiles of C, each over `pairs` pairs: products of whole tiles if AMX
/// computes them, so A and B must be there, and one of them zero, to the next multiple of 16. All
/// distances in bytes. The columns of A lie one behind the other, and so do the pairs of B,
/// b_stride apart.
struct TileProduct {
  const char* a;
  int64_t a_stride;  // between rows of a tile
  int64_t a_next;    // between tiles
  const char* b;
  int64_t b_stride;  // between pairs
  int64_t b_next;    // between tiles side by side
  int64_t pairs;
  char* c;
  int64_t c_stride;
  int64_t c_next_row;
  int64_t c_next_col;
};

/// One tile of rows, and two tiles of B and C side by side in rows of 128 bytes.
struct StripProduct {
  const char* a;
  int64_t a_stride;  // between rows
  const char* b;
  int64_t pairs;  // as above
};
constexpr int64_t kStripRowBytes = 2 * kTileRowBytes;  // of B and C

}  // namespace
}  // namespace mrt
