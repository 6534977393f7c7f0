// Products of tiles by the dot products of AVX-512 BF16 (vdpbf16ps), for CPUs without AMX: what
// amx_tiles.h offers, with sums in registers and everything else in memory. Everything here has
// internal linkage: see decision 3.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "kernels/common/cpu/tile_product.h"

namespace mrt {
namespace {

inline void ConfigureTiles() {}
inline void ReleaseTiles() {}

// kRows rows of A against kCols tiles of B side by side. A dword of A is read once for all of them,
// a row of B once for all rows.
template <int kRows, int kCols, bool kAdd>
inline void MultiplyRows(const TileProduct& m) {
  __m512 sums[kRows][kCols];
#pragma GCC unroll 16
  for (int row = 0; row < kRows; ++row)
#pragma GCC unroll 2
    for (int col = 0; col < kCols; ++col)
      sums[row][col] =
          kAdd ? _mm512_loadu_ps(m.c + row * m.c_stride + col * m.c_next_col) : _mm512_setzero_ps();
  const char* a = m.a;
  const char* b = m.b;
#pragma GCC unroll 4
  for (int64_t pair = 0; pair < m.pairs; ++pair, a += kPairBytes, b += m.b_stride) {
    __m512bh across[kCols];
#pragma GCC unroll 2
    for (int col = 0; col < kCols; ++col)
      across[col] = (__m512bh)_mm512_loadu_si512(b + col * m.b_next);
#pragma GCC unroll 16
    for (int row = 0; row < kRows; ++row) {
      int both;
      __builtin_memcpy(&both, a + row * m.a_stride, sizeof(both));
      const __m512bh x = (__m512bh)_mm512_set1_epi32(both);
#pragma GCC unroll 2
      for (int col = 0; col < kCols; ++col)
        sums[row][col] = _mm512_dpbf16_ps(sums[row][col], x, across[col]);
    }
  }
#pragma GCC unroll 16
  for (int row = 0; row < kRows; ++row)
#pragma GCC unroll 2
    for (int col = 0; col < kCols; ++col)
      _mm512_storeu_ps(m.c + row * m.c_stride + col * m.c_next_col, sums[row][col]);
}

constexpr int kRegisterRows = 8;  // with two tiles of B, sums take half of the registers

template <int kRowTiles, int kColTiles, bool kAdd>
inline void MultiplyTiles(const TileProduct& m) {
  TileProduct part = m;
  for (int tile = 0; tile < kRowTiles; ++tile) {
    for (int64_t row = 0; row < kTileRows; row += kRegisterRows) {
      part.a = m.a + tile * m.a_next + row * m.a_stride;
      part.c = m.c + tile * m.c_next_row + row * m.c_stride;
      MultiplyRows<kRegisterRows, kColTiles, kAdd>(part);
    }
  }
}

template <int kColTiles>
inline void MultiplyTall(const TileProduct& m, int64_t rows) {
  TileProduct part = m;
  for (int64_t row = 0; row < rows; row += kRegisterRows) {
    const int64_t at = row < rows - kRegisterRows ? row : rows - kRegisterRows;
    part.a = m.a + at * m.a_stride;
    part.c = m.c + at * m.c_stride;
    MultiplyRows<kRegisterRows, kColTiles, false>(part);
  }
}

template <int kFirst>
inline void MultiplyStrip(const StripProduct& m, float* c, float* /*before*/) {
  MultiplyTiles<1, 2, false>({.a = m.a,
                              .a_stride = m.a_stride,
                              .a_next = 0,
                              .b = m.b,
                              .b_stride = kStripRowBytes,
                              .b_next = kTileRowBytes,
                              .pairs = m.pairs,
                              .c = reinterpret_cast<char*>(c),
                              .c_stride = kStripRowBytes,
                              .c_next_row = 0,
                              .c_next_col = kTileRowBytes});
}
template <int kFirst>
inline void FinishStrip(float* /*c*/) {}

}  // namespace
}  // namespace mrt
