// What the kernels of tiles are made of: products of tiles in blocks, 2^x, and the layouts tiles
// want. The products themselves are AMX's where the file is compiled for it, else those of
// dot_tiles.h. Everything here has internal linkage: see decision 3.
#pragma once

#include <immintrin.h>

#include <cstdint>

#ifdef MRT_AMX
#include "kernels/common/cpu/amx_tiles.h"
#else
#include "kernels/common/cpu/dot_tiles.h"
#endif
#include "kernels/storage_type.h"

namespace mrt {
namespace {

constexpr float kLog2e = 1.4426950408889634f;

// The running maximum before the first block. Finite, so that scores of -infinity alone give sums
// of 0 and not NaN.
constexpr float kNoMaximum = -3.40282347e38f;

// A running maximum follows the scores only when they exceed it by more than 2^8: most blocks then
// leave what was summed before as it is, and bf16 and float32 have the same relative precision up
// there.
constexpr float kMaximumSlack = 8;

inline int64_t CeilDiv(int64_t x, int64_t y) { return (x + y - 1) / y; }

/// Of bf16 tokens.
inline TokenStrides InBytes(const TokenStrides& strides) {
  constexpr int64_t kBytes = StorageBytes(StorageType::kBF16);
  return {.token = kBytes * strides.token, .head = kBytes * strides.head};
}

/// Its cache line will be written soon.
inline void PrefetchToWrite(const char* at) { __asm__ volatile("prefetchw (%0)" : : "r"(at)); }

/// MultiplyTiles for one or two tiles of rows and of columns.
template <bool kAdd>
inline void MultiplyBlock(const TileProduct& m, bool two_rows, bool two_cols) {
  if (two_rows && two_cols) MultiplyTiles<2, 2, kAdd>(m);
  if (two_rows && !two_cols) MultiplyTiles<2, 1, kAdd>(m);
  if (!two_rows && two_cols) MultiplyTiles<1, 2, kAdd>(m);
  if (!two_rows && !two_cols) MultiplyTiles<1, 1, kAdd>(m);
}

/// The same for any row_tiles and col_tiles, in blocks of 2 x 2.
template <bool kAdd, typename Tick>
inline void MultiplyAllTiles(TileProduct m, int64_t row_tiles, int64_t col_tiles,
                             const Tick& tick) {
  for (int64_t col = 0; col < col_tiles; col += 2) {
    TileProduct block = m;
    block.b += col * m.b_next;
    block.c += col * m.c_next_col;
    for (int64_t row = 0; row < row_tiles; row += 2) {
      MultiplyBlock<kAdd>(block, row + 1 < row_tiles, col + 1 < col_tiles);
      block.a += 2 * m.a_next;
      block.c += 2 * m.c_next_row;
      tick();
    }
  }
}

template <bool kAdd>
inline void MultiplyAllTiles(const TileProduct& m, int64_t row_tiles, int64_t col_tiles) {
  MultiplyAllTiles<kAdd>(m, row_tiles, col_tiles, [] {});
}

/// 2^x with a relative error of 7.5e-5, a fiftieth of what rounding to bf16 costs. 0 for -infinity;
/// NaN stays NaN.
inline __m512 Exp2(__m512 x) {
  constexpr int kTowardsMinusInfinity = 0x09;  // and no exceptions
  const __m512 f = _mm512_reduce_ps(x, kTowardsMinusInfinity);
  // The polynomial of degree 3 of least relative error on [0, 1].
  __m512 p = _mm512_fmadd_ps(f, _mm512_set1_ps(0.07802406f), _mm512_set1_ps(0.22606792f));
  p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(0.69583319f));
  p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(0.99992526f));
  return _mm512_scalef_ps(p, x);  // takes the floor of x itself
}

/// log2 of a positive number, with an error of 1.5e-5.
inline __m512 Log2(__m512 x) {
  const __m512 exponent = _mm512_getexp_ps(x);
  const __m512 m =
      _mm512_sub_ps(_mm512_getmant_ps(x, _MM_MANT_NORM_1_2, _MM_MANT_SIGN_src), _mm512_set1_ps(1));
  // The polynomial of degree 5 of least error on [0, 1], 0 at 0.
  __m512 p = _mm512_fmadd_ps(m, _mm512_set1_ps(0.04638453f), _mm512_set1_ps(-0.19626785f));
  p = _mm512_fmadd_ps(p, m, _mm512_set1_ps(0.41759447f));
  p = _mm512_fmadd_ps(p, m, _mm512_set1_ps(-0.70966245f));
  p = _mm512_fmadd_ps(p, m, _mm512_set1_ps(1.44196559f));
  return _mm512_fmadd_ps(p, m, exponent);
}

/// bf16: low half of the lanes from `low`, high half from `high`.
inline __m512i ToBf16(__m512 low, __m512 high) { return (__m512i)_mm512_cvtne2ps_pbh(high, low); }

/// Dword n = bf16 of even[n] and odd[n]: two rows of B, or of a transposed A.
inline __m512i ToPairs(__m512 even, __m512 odd) {
  const __m512i interleave =
      _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6,
                       21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
  return _mm512_permutexvar_epi16(interleave, ToBf16(even, odd));
}

/// 16 x 16 dwords.
inline void Transpose(__m512i (&x)[16]) {
  __m512i t[16];
#pragma GCC unroll 8
  for (int n = 0; n < 16; n += 2) {
    t[n] = _mm512_unpacklo_epi32(x[n], x[n + 1]);
    t[n + 1] = _mm512_unpackhi_epi32(x[n], x[n + 1]);
  }
#pragma GCC unroll 4
  for (int n = 0; n < 16; n += 4) {
    x[n] = _mm512_unpacklo_epi64(t[n], t[n + 2]);
    x[n + 1] = _mm512_unpackhi_epi64(t[n], t[n + 2]);
    x[n + 2] = _mm512_unpacklo_epi64(t[n + 1], t[n + 3]);
    x[n + 3] = _mm512_unpackhi_epi64(t[n + 1], t[n + 3]);
  }
  constexpr int kEven = 0x88, kOdd = 0xdd;  // 128-bit lanes 0 and 2, or 1 and 3, of both
#pragma GCC unroll 4
  for (int n = 0; n < 4; ++n) {
    t[n] = _mm512_shuffle_i32x4(x[n], x[n + 4], kEven);
    t[n + 4] = _mm512_shuffle_i32x4(x[n], x[n + 4], kOdd);
    t[n + 8] = _mm512_shuffle_i32x4(x[n + 8], x[n + 12], kEven);
    t[n + 12] = _mm512_shuffle_i32x4(x[n + 8], x[n + 12], kOdd);
  }
#pragma GCC unroll 8
  for (int n = 0; n < 8; ++n) {
    x[n] = _mm512_shuffle_i32x4(t[n], t[n + 8], kEven);
    x[n + 8] = _mm512_shuffle_i32x4(t[n], t[n + 8], kOdd);
  }
}

// Two rows of bf16 become pairs by unpacking within lanes of 128 bits, so 32 channels come out as
//   0-3 8-11 16-19 24-27, then 4-7 12-15 20-23 28-31
// in the two tiles of B. Sums over channels only need both sides in the same order, and the output
// is put right once, by FromPairOrder.

/// 32 channels of two rows -> two rows of pairs, in the order above.
inline void StorePairs(__m512i even, __m512i odd, char* to) {
  _mm512_storeu_si512(to, _mm512_unpacklo_epi16(even, odd));
  _mm512_storeu_si512(to + kTileRowBytes, _mm512_unpackhi_epi16(even, odd));
}

/// Where pair `pair` of 16 in that order lies in plain order.
constexpr int PlainPair(int pair) { return pair % 8 / 2 * 4 + pair / 8 * 2 + pair % 2; }

/// 32 bf16 of that order -> plain order.
inline __m512i FromPairOrder(__m512i x) {
  return _mm512_permutexvar_epi64(_mm512_set_epi64(7, 3, 6, 2, 5, 1, 4, 0), x);
}

/// 16 rows of 32 bf16, `count` of them there and the others zero -> 16 pairs x 16.
inline void LoadTransposed(const char* const (&rows)[16], int64_t count, __m512i (&x)[16]) {
  for (int64_t n = 0; n < 16; ++n)
    x[n] = n < count ? _mm512_loadu_si512(rows[n]) : _mm512_setzero_si512();
  Transpose(x);
}

/// The running softmax of 16 queries and what it weighs.
struct SoftmaxState {
  float* max;  // [16], kNoMaximum before the first block
  float* sum;  // [16], 0 before the first block
  float* out;  // [16, d]; null before the first block
  int64_t d;
};

// The queries in `lanes` have a new maximum: what was summed for them shrinks by `keep`.
inline void Rescale(const SoftmaxState& state, __mmask16 lanes, __m512 keep) {
  alignas(64) float factors[16];
  _mm512_storeu_ps(factors, keep);
  for (int i = 0; i < 16; ++i) {
    if ((lanes >> i & 1) == 0) continue;
    const __m512 factor = _mm512_set1_ps(factors[i]);
    float* row = state.out + i * state.d;
    for (int64_t e = 0; e < state.d; e += 16)
      _mm512_storeu_ps(row + e, _mm512_mul_ps(_mm512_loadu_ps(row + e), factor));
  }
}

/// Scores [rows, 16 queries], and what they become: scale * score - offset[row * offset_stride], in
/// base 2. Without offsets the logits need not be kept.
struct Logits {
  float* scores;
  int64_t scores_stride;
  float scale;
  const float* offset = nullptr;
  int64_t offset_stride = 0;
};

// scores -> logits, if there are offsets; returns the maximum of the logits.
inline __m512 FindMaximum(int64_t rows, const Logits& logits) {
  const __m512 scale = _mm512_set1_ps(logits.scale);
  __m512 max[2] = {_mm512_set1_ps(kNoMaximum), _mm512_set1_ps(kNoMaximum)};
  const auto visit = [&](int64_t row, int n) {
    float* at = logits.scores + row * logits.scores_stride;
    const __m512 offset = logits.offset == nullptr
                              ? _mm512_setzero_ps()
                              : _mm512_set1_ps(logits.offset[row * logits.offset_stride]);
    const __m512 x = _mm512_fmsub_ps(_mm512_loadu_ps(at), scale, offset);
    max[n] = _mm512_max_ps(x, max[n]);
    if (logits.offset != nullptr) _mm512_storeu_ps(at, x);
  };
  int64_t row = 0;
  for (; row + 2 <= rows; row += 2) visit(row, 0), visit(row + 1, 1);
  if (row < rows) visit(row, 0);
  return _mm512_max_ps(max[0], max[1]);
}

/// Scores -> weights, 16 rows of A: 2^(logit - max), and zeros from
/// `rows` to the next multiple of 32. Calls flush() before it changes a maximum, and tick(pair)
/// along with every two rows, for prefetches.
template <typename Flush, typename Tick>
inline void UpdateSoftmax(int64_t rows, const Logits& logits, const SoftmaxState& state,
                          char* weights, int64_t weights_stride, const Flush& flush,
                          const Tick& tick) {
  const __m512 block_max = FindMaximum(rows, logits);
  __m512 max = _mm512_loadu_ps(state.max);
  __m512 sums[2] = {_mm512_loadu_ps(state.sum), _mm512_setzero_ps()};
  const __m512 limit = _mm512_add_ps(max, _mm512_set1_ps(kMaximumSlack));
  const __mmask16 lanes = _mm512_cmp_ps_mask(block_max, limit, _CMP_GT_OQ);
  if (lanes != 0) {
    flush();
    // Maxima are integers: then `keep` is a power of two and exact, however often it is applied.
    const __m512 next = _mm512_mask_roundscale_ps(max, lanes, block_max, _MM_FROUND_CEIL);
    const __m512 keep = _mm512_scalef_ps(_mm512_set1_ps(1), _mm512_sub_ps(max, next));
    sums[0] = _mm512_mul_ps(sums[0], keep);
    max = next;
    _mm512_storeu_ps(state.max, max);
    if (state.out != nullptr) Rescale(state, lanes, keep);
  }

  const __m512 scale = _mm512_set1_ps(logits.offset == nullptr ? logits.scale : 1);
  const auto weigh = [&](int64_t row, int n) {
    const __m512 x = _mm512_loadu_ps(logits.scores + row * logits.scores_stride);
    const __m512 p = Exp2(_mm512_fmsub_ps(x, scale, max));
    sums[n] = _mm512_add_ps(sums[n], p);
    return p;
  };
  for (int64_t row = 0; row < rows; row += kTileDepth, weights += kTileRowBytes) {
    __m512i pairs[16];
#pragma GCC unroll 16
    for (int64_t pair = 0; pair < 16; ++pair) {
      const int64_t even = row + 2 * pair;
      pairs[pair] = _mm512_setzero_si512();
      if (even + 1 < rows) {
        const __m512 p = weigh(even, 0);
        pairs[pair] = ToPairs(p, weigh(even + 1, 1));
        tick(even / 2);
      } else if (even < rows) {
        pairs[pair] = ToPairs(weigh(even, 0), _mm512_setzero_ps());
      }
    }
    Transpose(pairs);
#pragma GCC unroll 16
    for (int64_t i = 0; i < 16; ++i) _mm512_storeu_si512(weights + i * weights_stride, pairs[i]);
  }
  _mm512_storeu_ps(state.sum, _mm512_add_ps(sums[0], sums[1]));
}

inline void FillZero(void* to, int64_t bytes) {
  for (int64_t n = 0; n < bytes; n += kTileRowBytes)
    _mm512_storeu_si512(static_cast<char*>(to) + n, _mm512_setzero_si512());
}

}  // namespace
}  // namespace mrt
