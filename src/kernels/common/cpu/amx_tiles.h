// Products of tiles by AMX. No tile is smaller than 16 rows, because a change of the tile
// configuration would zero them all. Everything here has internal linkage: see decision 3.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "kernels/common/cpu/tile_product.h"
#ifdef MRT_EMULATED_TILES
#include "kernels/common/cpu/emulated_tiles.h"
#endif

namespace mrt {
namespace {

/// Before the first product of a task.
inline void ConfigureTiles() {
  struct alignas(64) {
    uint8_t palette = 1;
    uint8_t start_row = 0;
    uint8_t reserved[14] = {};
    uint16_t row_bytes[16] = {};
    uint8_t rows[16] = {};
  } config;
  constexpr int kTiles = 8;
  for (int t = 0; t < kTiles; ++t) {
    config.row_bytes[t] = kTileRowBytes;
    config.rows[t] = kTileRows;
  }
  // g++ 12 does not know that the instruction reads the structure.
  __asm__ volatile("" : : "r"(&config) : "memory");
  _tile_loadconfig(&config);
}

#ifdef MRT_EMULATED_TILES
template <int kTile>
inline void ZeroTile() {
  EmulateZero(kTile);
}
template <int kTile>
inline void LoadTile(const char* from, int64_t stride) {
  EmulateLoad(kTile, from, stride);
}
template <int kTile>
inline void StoreTile(char* to, int64_t stride) {
  EmulateStore(kTile, to, stride);
}
template <int kC, int kA, int kB>
inline void MultiplyTile() {
  EmulateDotBf16(kC, kA, kB);
}
#else
/// The tile instructions, with the tile a template argument: those of g++ 12 take a literal only,
/// and do not tell which memory they read.
template <int kTile>
inline void ZeroTile() {
  __asm__ volatile("tilezero %%tmm%c0" : : "i"(kTile));
}
template <int kTile>
inline void LoadTile(const char* from, int64_t stride) {
  __asm__ volatile("tileloadd (%0,%1,1), %%tmm%c2"
                   :
                   : "r"(from), "r"(stride), "i"(kTile)
                   : "memory");
}
template <int kTile>
inline void StoreTile(char* to, int64_t stride) {
  __asm__ volatile("tilestored %%tmm%c2, (%0,%1,1)"
                   :
                   : "r"(to), "r"(stride), "i"(kTile)
                   : "memory");
}
/// C += A * B.
template <int kC, int kA, int kB>
inline void MultiplyTile() {
  __asm__ volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(kC), "i"(kA), "i"(kB));
}
#endif

/// After the last product of a task: a thread that leaves tiles in use makes every context switch
/// save 8 KB.
inline void ReleaseTiles() { _tile_release(); }

// One load of a tile of A or B serves two products. Stores come last and in the order of the
// products: a store right behind its product would wait for it.
template <int kRowTiles, int kColTiles, bool kAdd>
inline void MultiplyTiles(const TileProduct& m) {
  // g++ 12 does not know which memory the tile instructions read.
  __asm__ volatile("" : : : "memory");
  char* const c1 = m.c + m.c_next_col;
  char* const c2 = m.c + m.c_next_row;
  char* const c3 = c2 + m.c_next_col;
  if constexpr (kAdd) {
    _tile_loadd(0, m.c, m.c_stride);
    if constexpr (kColTiles > 1) _tile_loadd(1, c1, m.c_stride);
    if constexpr (kRowTiles > 1) _tile_loadd(2, c2, m.c_stride);
    if constexpr (kRowTiles > 1 && kColTiles > 1) _tile_loadd(3, c3, m.c_stride);
  } else {
    _tile_zero(0);
    if constexpr (kColTiles > 1) _tile_zero(1);
    if constexpr (kRowTiles > 1) _tile_zero(2);
    if constexpr (kRowTiles > 1 && kColTiles > 1) _tile_zero(3);
  }
  const char* a = m.a;
  const char* b = m.b;
  for (int64_t pair = 0; pair < m.pairs; pair += 16, a += kTileRowBytes, b += 16 * m.b_stride) {
    _tile_loadd(4, a, m.a_stride);
    _tile_loadd(6, b, m.b_stride);
    if constexpr (kColTiles > 1) _tile_loadd(7, b + m.b_next, m.b_stride);
    if constexpr (kRowTiles > 1) _tile_loadd(5, a + m.a_next, m.a_stride);
    _tile_dpbf16ps(0, 4, 6);
    if constexpr (kColTiles > 1) _tile_dpbf16ps(1, 4, 7);
    if constexpr (kRowTiles > 1) _tile_dpbf16ps(2, 5, 6);
    if constexpr (kRowTiles > 1 && kColTiles > 1) _tile_dpbf16ps(3, 5, 7);
  }
  _tile_stored(0, m.c, m.c_stride);
  if constexpr (kColTiles > 1) _tile_stored(1, c1, m.c_stride);
  if constexpr (kRowTiles > 1) _tile_stored(2, c2, m.c_stride);
  if constexpr (kRowTiles > 1 && kColTiles > 1) _tile_stored(3, c3, m.c_stride);
  __asm__ volatile("" : : : "memory");
}

/// C [rows, kColTiles tiles] of at least 16 rows: the last tile ends at the last row.
template <int kColTiles>
inline void MultiplyTall(const TileProduct& m, int64_t rows) {
  const auto first_row = [&](int64_t tile) {
    return tile * kTileRows < rows - kTileRows ? tile * kTileRows : rows - kTileRows;
  };
  TileProduct part = m;
  for (int64_t tile = 0; tile * kTileRows < rows; tile += 2) {
    const int64_t at = first_row(tile), next = first_row(tile + 1) - at;
    part.a = m.a + at * m.a_stride, part.a_next = next * m.a_stride;
    part.c = m.c + at * m.c_stride, part.c_next_row = next * m.c_stride;
    if ((tile + 1) * kTileRows < rows) {
      MultiplyTiles<2, kColTiles, false>(part);
    } else {
      MultiplyTiles<1, kColTiles, false>(part);
    }
  }
}

/// Products of strips one behind the other, in turn with kFirst 0 and 2: this one starts while the
/// one before is stored to `before`, because a store right behind its products would wait for them.
/// `c` will be given to the next one, or to FinishStrip.
template <int kFirst>
inline void MultiplyStrip(const StripProduct& m, float* /*c*/, float* before) {
  constexpr int kBefore = 2 - kFirst;
  char* const to = reinterpret_cast<char*>(before);
  ZeroTile<kFirst>();
  ZeroTile<kFirst + 1>();
  for (int64_t pair = 0; pair < m.pairs; pair += 16) {
    const char* const b = m.b + pair * kStripRowBytes;
    LoadTile<4>(m.a + pair * kPairBytes, m.a_stride);
    LoadTile<6>(b, kStripRowBytes);
    MultiplyTile<kFirst, 4, 6>();
    LoadTile<7>(b + kTileRowBytes, kStripRowBytes);
    MultiplyTile<kFirst + 1, 4, 7>();
    if (pair > 0) continue;
    StoreTile<kBefore>(to, kStripRowBytes);
    StoreTile<kBefore + 1>(to + kTileRowBytes, kStripRowBytes);
  }
}
template <int kFirst>
inline void FinishStrip(float* c) {
  char* const to = reinterpret_cast<char*>(c);
  StoreTile<kFirst>(to, kStripRowBytes);
  StoreTile<kFirst + 1>(to + kTileRowBytes, kStripRowBytes);
}

}  // namespace
}  // namespace mrt
