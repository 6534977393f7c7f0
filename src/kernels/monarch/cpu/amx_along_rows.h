// A block of key tiles along their rows: kbar, vbar and c of every column and row.
//
// Row after row, every two tiles of columns go through ScoreRow and SoftmaxAlongRow; then all of
// them through AverageKeys, and after every second row through AverageValues, because rows of vbar
// lie in pairs. What is at work fits L1. What comes in (keys, values) and goes out (kbar, vbar)
// does not stay in L2, so both are asked for ahead of time, line by line.
#pragma once

#include "kernels/monarch/cpu/amx_task.h"

namespace mrt::MRT_ISA {
namespace {

// A row of keys and values in their frame: the first of b2 tokens.
struct KeyRow {
  const char* keys = nullptr;  // null: there is no such row
  const char* values = nullptr;
};

inline KeyRow FindKeyRow(const MonarchArgs& args, const Sizes& z, const MonarchAmxWork& w,
                         const Block& block, int64_t row) {
  if (row >= block.rows) return {};
  const TileRow place = FindTileRow(args.shape, block.first + row % block.tiles, row / block.tiles);
  const int64_t at = RowBytes(z.kv, place, w.head);
  return {static_cast<const char*>(args.k_frames[place.frame]) + at,
          static_cast<const char*>(args.v_frames[place.frame]) + at};
}

// Fetches a row of keys and then its values into L2, line by line in the order of addresses, while
// the rows before it are at work: a core has no more than 16 misses of L1 in flight, so lines that
// are asked for in a burst, or in an order that the hardware does not continue by itself, hold up
// everything else.
struct Prefetch {
  const char* token = nullptr;   // null: nothing to fetch
  const char* values = nullptr;  // null: they have begun
  int64_t tokens = 0;            // left, of keys or of values
  int64_t at = 0;                // byte of the token
};

inline void FetchLine(const Sizes& z, Prefetch& p) {
  if (p.token == nullptr) return;
  _mm_prefetch(p.token + p.at, _MM_HINT_T1);
  p.at += kTileRowBytes;
  if (p.at < z.row_bytes) return;
  p.at = 0;
  p.token += z.kv.token;
  if (--p.tokens == 0) p = {.token = p.values, .values = nullptr, .tokens = z.b2};
}

// Tokens of a row.
struct Tokens {
  const char* first;
  int64_t stride;
};

// 32 channels of b2 tokens -> pairs [l/2, 32 channels]: B of the means.
inline void PackChunk(const Sizes& z, const Tokens& tokens, int64_t chunk, char* pairs) {
  const int64_t stride = tokens.stride;
  const char* from = tokens.first + chunk * kTileRowBytes;
  int64_t l = 0;
  for (; l + 2 <= z.b2; l += 2, from += 2 * stride, pairs += 2 * kTileRowBytes)
    StorePairs(_mm512_loadu_si512(from), _mm512_loadu_si512(from + stride), pairs);
  if (l < z.b2) StorePairs(_mm512_loadu_si512(from), _mm512_setzero_si512(), pairs);
}

// The keys of a row as A of the scores: where they are if there is a tile of them, else copied,
// with zeros to the end of a tile.
inline Tokens FindKeys(const Sizes& z, const MonarchAmxWork& w, const char* keys) {
  if (z.b2 >= 16) return {keys, z.kv.token};
  for (int64_t l = 0; l < z.b2; ++l)
    for (int64_t at = 0; at < z.row_bytes; at += kTileRowBytes)
      _mm512_storeu_si512(w.keys + l * z.row_bytes + at,
                          _mm512_loadu_si512(keys + l * z.kv.token + at));
  return {w.keys, z.row_bytes};
}

// scores [tile, l, 16 columns] of two tiles of columns, or of the last one alone.
inline void ScoreRow(const Sizes& z, const MonarchAmxWork& w, const Tokens& keys,
                     const char* queries, int64_t tiles) {
  const TileProduct m = {.a = keys.first,
                         .a_stride = keys.stride,
                         .a_next = 0,
                         .b = queries,
                         .b_stride = kTileRowBytes,
                         .b_next = 16 * z.row_bytes,
                         .pairs = z.d / 2,
                         .c = reinterpret_cast<char*>(w.scores),
                         .c_stride = kTileRowBytes,
                         .c_next_row = 0,
                         .c_next_col = w.l_tiles * 16 * kTileRowBytes};
  const int64_t rows = z.b2 < 16 ? 16 : z.b2;  // fewer keys end in zeros
  if (tiles > 1) {
    MultiplyTall<2>(m, rows);
  } else {
    MultiplyTall<1>(m, rows);
  }
}

inline __m512 MaximumOf(const float* x, int64_t rows) {
  __m512 max[4];
  for (auto& m : max) m = _mm512_loadu_ps(x);
  int64_t row = 0;
  for (; row + 4 <= rows; row += 4)
#pragma GCC unroll 4
    for (int n = 0; n < 4; ++n) max[n] = _mm512_max_ps(_mm512_loadu_ps(x + (row + n) * 16), max[n]);
  for (; row < rows; ++row) max[0] = _mm512_max_ps(_mm512_loadu_ps(x + row * 16), max[0]);
  return _mm512_max_ps(_mm512_max_ps(max[0], max[1]), _mm512_max_ps(max[2], max[3]));
}

// x [rows, 16] times factor, rounded to bf16 and transposed: 16 rows of A, for rows [first, first +
// 32). Rows past the last are zero.
template <bool kFull>
inline void StoreWeights(const float* x, int64_t rows, __m512 factor, char* to, int64_t stride) {
  __m512i pairs[16];
#pragma GCC unroll 16
  for (int64_t pair = 0; pair < 16; ++pair) {
    const __m512 zero = _mm512_setzero_ps();
    const bool has_even = kFull || 2 * pair < rows, has_odd = kFull || 2 * pair + 1 < rows;
    const __m512 even = has_even ? _mm512_mul_ps(_mm512_loadu_ps(x + 32 * pair), factor) : zero;
    const __m512 odd = has_odd ? _mm512_mul_ps(_mm512_loadu_ps(x + 32 * pair + 16), factor) : zero;
    pairs[pair] = ToPairs(even, odd);
  }
  Transpose(pairs);
#pragma GCC unroll 16
  for (int64_t column = 0; column < 16; ++column)
    _mm512_storeu_si512(to + column * stride, pairs[column]);
}

// scores of 16 columns -> r [16, l] and c [16].
inline void SoftmaxAlongRow(const Sizes& z, const MonarchAmxWork& w, float* scores, char* weights,
                            float* c, Prefetch& prefetch) {
  constexpr int64_t kKeysPerFetch = 8;
  const __m512 scale = _mm512_set1_ps(z.scale);
  const __m512 max = _mm512_mul_ps(scale, MaximumOf(scores, z.b2));
  __m512 sum[2] = {_mm512_setzero_ps(), _mm512_setzero_ps()};
  __m512 weighted[2] = {sum[0], sum[0]};  // of p * log2 p, with p not yet normalised
  const auto add = [&](int64_t l, int n) {
    const __m512 x = _mm512_fmsub_ps(_mm512_loadu_ps(scores + l * 16), scale, max);
    const __m512 p = Exp2(x);
    sum[n] = _mm512_add_ps(sum[n], p);
    weighted[n] = _mm512_fmadd_ps(p, x, weighted[n]);
    _mm512_storeu_ps(scores + l * 16, p);
  };
  int64_t l = 0;
  for (; l + 2 <= z.b2; l += 2) {
    add(l, 0), add(l + 1, 1);
    if (l % kKeysPerFetch == 0) FetchLine(z, prefetch);
  }
  if (l < z.b2) add(l, 0);
  const __m512 total = _mm512_add_ps(sum[0], sum[1]);
  const __m512 inverse = _mm512_div_ps(_mm512_set1_ps(1), total);
  const __m512 entropy = _mm512_mul_ps(_mm512_add_ps(weighted[0], weighted[1]), inverse);
  _mm512_storeu_ps(c, _mm512_sub_ps(entropy, Log2(total)));
  const int64_t stride = w.l_steps * kTileRowBytes;
  for (int64_t step = 0; step < w.l_steps; ++step) {
    const float* x = scores + step * kTileDepth * 16;
    const int64_t rows = z.b2 - step * kTileDepth;
    char* to = weights + step * kTileRowBytes;
    if (rows >= kTileDepth) {
      StoreWeights<true>(x, rows, inverse, to, stride);
    } else {
      StoreWeights<false>(x, rows, inverse, to, stride);
    }
  }
}

// r of an even or odd row: [n, 16 columns, l].
inline char* WeightsOf(const MonarchAmxWork& w, int64_t row, int64_t tile) {
  return w.weights + (row % 2 * w.column_tiles + tile) * 16 * w.l_steps * kTileRowBytes;
}

// Sums of one tile of columns over 32 channels: [16 columns, 32 channels].
inline float* SumsOf(const MonarchAmxWork& w, int64_t n) { return w.sums + n % 4 * 16 * 32; }

// Pairs [l/2, 32 channels], n < kAmxPackedChunks.
inline char* PairsOf(const MonarchAmxWork& w, int64_t n) {
  return w.pairs + n * w.l_steps * 16 * 2 * kTileRowBytes;
}

// Means 0 to count, of 16 columns over 32 channels: the operands of mean n are find(n); use(n)
// follows once SumsOf(n) is there, one mean behind.
struct Operands {
  const char* weights;
  const char* pairs;
};
template <typename Find, typename Use>
inline void AverageAll(const Sizes& z, const MonarchAmxWork& w, int64_t count, const Find& find,
                       const Use& use) {
  const int64_t pairs = CeilDiv(z.b2, 2);
  for (int64_t n = 0; n < count; ++n) {
    const Operands x = find(n);
    const StripProduct mean = {x.weights, w.l_steps * kTileRowBytes, x.pairs, pairs};
    if (n % 2 == 0) {
      MultiplyStrip<0>(mean, SumsOf(w, n), SumsOf(w, n + 3));
    } else {
      MultiplyStrip<2>(mean, SumsOf(w, n), SumsOf(w, n + 3));
    }
    if (n > 0) use(n - 1);
  }
  if (count % 2 == 0) {
    FinishStrip<2>(SumsOf(w, count - 1));
  } else {
    FinishStrip<0>(SumsOf(w, count - 1));
  }
  use(count - 1);
}

// kbar of a row.
inline void AverageKeys(const Sizes& z, const MonarchAmxWork& w, int64_t row, const Tokens& keys,
                        Prefetch& prefetch) {
  for (int64_t first = 0; first < z.chunks; first += kAmxPackedChunks) {
    const int64_t left = z.chunks - first;
    const int64_t chunks = left < kAmxPackedChunks ? left : kAmxPackedChunks;
    for (int64_t n = 0; n < chunks; ++n) PackChunk(z, keys, first + n, PairsOf(w, n));
    const auto find = [&](int64_t n) {
      return Operands{WeightsOf(w, row, n / chunks), PairsOf(w, n % chunks)};
    };
    AverageAll(z, w, w.column_tiles * chunks, find, [&](int64_t n) {
      const int64_t tile = n / chunks, chunk = n % chunks;
      const float* x = SumsOf(w, n);
      char* kbar = w.kbar + row * w.kbar_stride + tile * 16 * z.row_bytes;
      char* soon = kbar + (16 * z.row_bytes + chunk * 16 * kTileRowBytes);
      kbar += (first + chunk) * kTileRowBytes;
      for (int64_t column = 0; column < 16; ++column, x += 32, kbar += z.row_bytes) {
        PrefetchToWrite(soon + column * kTileRowBytes);
        if (column % 2 == 0) FetchLine(z, prefetch);
        _mm512_storeu_si512(kbar, ToBf16(_mm512_loadu_ps(x), _mm512_loadu_ps(x + 16)));
      }
    });
  }
}

// vbar of the even row `row` and, if rows is 2, of the row after it.
inline void AverageValues(const Sizes& z, const MonarchAmxWork& w, int64_t row, int64_t rows,
                          const char* const (&values)[2], Prefetch& prefetch) {
  constexpr int64_t kChunks = kAmxPackedChunks / 2;
  for (int64_t first = 0; first < z.chunks; first += kChunks) {
    const int64_t left = z.chunks - first, chunks = left < kChunks ? left : kChunks;
    for (int64_t n = 0; n < chunks; ++n)
      for (int64_t odd = 0; odd < rows; ++odd)
        PackChunk(z, {values[odd], z.kv.token}, first + n, PairsOf(w, n * 2 + odd));
    const auto find = [&](int64_t n) {
      const int64_t odd = n % rows, unit = n / rows;
      return Operands{WeightsOf(w, odd, unit / chunks), PairsOf(w, unit % chunks * 2 + odd)};
    };
    AverageAll(z, w, w.column_tiles * chunks * rows, find, [&](int64_t n) {
      if (n % rows + 1 < rows) return;
      const int64_t tile = n / rows / chunks, chunk = first + n / rows % chunks;
      const float *even = SumsOf(w, n + 1 - rows), *odd = SumsOf(w, n);
      char* vbar =
          w.vbar + row / 2 * w.vbar_stride + tile * 32 * z.row_bytes + chunk * 2 * kTileRowBytes;
      for (int64_t column = 0; column < 16; ++column, vbar += 2 * z.row_bytes) {
        if (column % 2 == 0) FetchLine(z, prefetch);
        for (int64_t half = 0; half < 32; half += 16) {
          const int64_t at = column * 32 + half;
          const __m512 x0 = _mm512_loadu_ps(even + at);
          const __m512 x1 = rows == 2 ? _mm512_loadu_ps(odd + at) : _mm512_setzero_ps();
          char* to = vbar + half * kPairBytes;
          PrefetchToWrite(to + 32 * z.row_bytes);
          _mm512_storeu_si512(to, ToPairs(x0, x1));
        }
      }
    });
  }
}

// kbar, c and, if wanted, vbar of a block, in step `step` (from 0).
inline void AverageBlock(const MonarchArgs& args, const Sizes& z, const MonarchAmxWork& w,
                         const Block& block, int64_t step, bool with_values) {
  const auto queries = [&](int64_t row) {
    const int64_t row_bytes = w.column_tiles * 16 * z.row_bytes;
    return step == 0 ? w.q_rows + row / block.tiles * row_bytes : w.qbar_rows + row * row_bytes;
  };
  for (int64_t row = 0; row < block.rows; row += 2) {
    const int64_t rows = row + 1 < block.rows ? 2 : 1;
    const char* values[2] = {};
    Prefetch prefetch;
    for (int64_t odd = 0; odd < rows; ++odd) {
      const int64_t at = row + odd;
      const KeyRow here = FindKeyRow(args, z, w, block, at);
      const KeyRow next = FindKeyRow(args, z, w, block, at + 2);
      prefetch = {next.keys, next.values, z.b2};
      const Tokens keys = FindKeys(z, w, here.keys);
      for (int64_t tile = 0; tile < w.column_tiles; tile += 2) {
        const int64_t tiles = tile + 1 < w.column_tiles ? 2 : 1;
        ScoreRow(z, w, keys, queries(at) + tile * 16 * z.row_bytes, tiles);
        for (int64_t n = 0; n < tiles; ++n)
          SoftmaxAlongRow(z, w, w.scores + n * w.l_tiles * 256, WeightsOf(w, odd, tile + n),
                          w.c + (at * w.column_tiles + tile + n) * 16, prefetch);
      }
      AverageKeys(z, w, at, keys, prefetch);
      values[odd] = here.values;
    }
    if (with_values) AverageValues(z, w, row, rows, values, prefetch);
  }
}

}  // namespace
}  // namespace mrt::MRT_ISA
