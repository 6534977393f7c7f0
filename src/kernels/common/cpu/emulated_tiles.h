// The tile instructions in C++, in place of those of the CPU (CMake's MRT_EMULATED_TILES; the
// preset asan): AddressSanitizer sees what they read and write, and a CPU with AVX-512 BF16 but
// without AMX tests the kernels that use them. Everything here has internal linkage: see
// decision 3.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace mrt {
namespace {

// The eight tiles, each 16 rows of 64 bytes.
inline thread_local __m512i emulated_tiles[8][16];

inline void EmulateZero(int tile) {
  for (__m512i& row : emulated_tiles[tile]) row = _mm512_setzero_si512();
}

inline void EmulateLoad(int tile, const void* from, int64_t stride) {
  for (int64_t row = 0; row < 16; ++row)
    emulated_tiles[tile][row] = _mm512_loadu_si512(static_cast<const char*>(from) + row * stride);
}

inline void EmulateStore(int tile, void* to, int64_t stride) {
  for (int64_t row = 0; row < 16; ++row)
    _mm512_storeu_si512(static_cast<char*>(to) + row * stride, emulated_tiles[tile][row]);
}

// Sums may be in another order than AMX's.
inline void EmulateDotBf16(int c, int a, int b) {
  for (int row = 0; row < 16; ++row) {
    alignas(64) int pairs[16];
    _mm512_store_si512(pairs, emulated_tiles[a][row]);
    auto sum = (__m512)emulated_tiles[c][row];
    for (int pair = 0; pair < 16; ++pair)
      sum = _mm512_dpbf16_ps(sum, (__m512bh)_mm512_set1_epi32(pairs[pair]),
                             (__m512bh)emulated_tiles[b][pair]);
    emulated_tiles[c][row] = (__m512i)sum;
  }
}

// Of unsigned A and signed B.
inline void EmulateDotInt8(int c, int a, int b) {
  for (int row = 0; row < 16; ++row) {
    alignas(64) int quads[16];
    _mm512_store_si512(quads, emulated_tiles[a][row]);
    __m512i sum = emulated_tiles[c][row];
    for (int quad = 0; quad < 16; ++quad) {
      const __m512i x = _mm512_set1_epi32(quads[quad]), y = emulated_tiles[b][quad];
      const __m512i even = _mm512_madd_epi16(_mm512_and_si512(x, _mm512_set1_epi16(0xff)),
                                             _mm512_srai_epi16(_mm512_slli_epi16(y, 8), 8));
      const __m512i odd = _mm512_madd_epi16(_mm512_srli_epi16(x, 8), _mm512_srai_epi16(y, 8));
      sum = _mm512_add_epi32(sum, _mm512_add_epi32(even, odd));
    }
    emulated_tiles[c][row] = sum;
  }
}

}  // namespace
}  // namespace mrt

// Macros, because those of the compilers are.
#undef _tile_zero
#undef _tile_loadd
#undef _tile_stored
#undef _tile_dpbf16ps
#undef _tile_dpbusd
#undef _tile_loadconfig
#undef _tile_release
#define _tile_zero(tile) ::mrt::EmulateZero(tile)
#define _tile_loadd(tile, from, stride) ::mrt::EmulateLoad(tile, from, stride)
#define _tile_stored(tile, to, stride) ::mrt::EmulateStore(tile, to, stride)
#define _tile_dpbf16ps(c, a, b) ::mrt::EmulateDotBf16(c, a, b)
#define _tile_dpbusd(c, a, b) ::mrt::EmulateDotInt8(c, a, b)
#define _tile_loadconfig(config) static_cast<void>(config)
#define _tile_release() static_cast<void>(0)
