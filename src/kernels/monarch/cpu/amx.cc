// Monarch attention of one head and a part of its columns on AMX.
//
// Two key rows at a time are packed (PackRow). Every two tiles of columns then go through
// ScoreRow, SoftmaxAlongRow, AverageKeys and AverageValues, which give kbar, vbar and c. After a
// block of key tiles, every column goes through ScoreColumn, SoftmaxAcrossRows and AddValues, which
// update the running softmax of L and the output. Scores come out transposed, one query per lane,
// so that no softmax shuffles; the weights are transposed once they are bf16.
//
// With n refinement steps the keys are streamed n times, as in portable.cc: pass p runs steps 1..p
// on every block, and RefineQueries makes the queries of a step from the L of the one before.
#include "kernels/monarch/cpu/amx.h"

#include "kernels/common/cpu/amx_math.h"
#include "kernels/monarch/tiling.h"

namespace mrt::amx {
namespace {

// What is asked for often and follows from the shape.
struct Sizes {
  int64_t b1, b2, d;
  int64_t chunks;      // of 32 channels
  int64_t row_bytes;   // of one token of one head
  TokenStrides q, kv;  // in bytes
  float scale;         // s * log2(e): softmaxes use 2^x
};

Sizes SizesOf(const MonarchShape& s) {
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
int64_t RowBytes(const TokenStrides& strides, const TileRow& row, int64_t head) {
  return row.token * strides.token + head * strides.head;
}

// Column `column` of the task, row `row`: a token of q or out, which are laid out alike.
int64_t QueryBytes(const MonarchShape& s, const Sizes& z, const MonarchAmxWork& w, int64_t column,
                   int64_t row) {
  const int64_t at = w.first_column + column;
  const TileRow place = FindTileRow(s, w.first_query_tile + at / z.b2, row);
  return place.frame * s.rows * s.cols * z.q.token + RowBytes(z.q, place, w.head) +
         at % z.b2 * z.q.token;
}

// One row of up to 16 columns -> pairs [d/2, 16 columns]: B of the scores along rows.
void PackColumns(const Sizes& z, const char* const (&columns)[16], int64_t count, char* to) {
  __m512i x[16];
  const char* at[16];
  for (int64_t t = 0; t < 16; ++t) at[t] = columns[t];
  for (int64_t chunk = 0; chunk < z.chunks; ++chunk) {
    LoadTransposed(at, count, x);
    for (int64_t pair = 0; pair < 16; ++pair)
      _mm512_storeu_si512(to + (chunk * 16 + pair) * kTileRowBytes, x[pair]);
    for (int64_t t = 0; t < count; ++t) at[t] += kTileRowBytes;
  }
}

// q_rows and q_columns: B of the two products of scores. The channels of q_columns lie in the order
// that AverageKeys gives those of kbar.
void PackQueries(const MonarchArgs& args, const Sizes& z, const MonarchAmxWork& w) {
  const MonarchShape& s = args.shape;
  const char* q = static_cast<const char*>(args.q);
  const char* rows[16] = {};
  __m512i x[16];
  for (int64_t k = 0; k < z.b1; ++k)
    for (int64_t n = 0; n < w.column_tiles; ++n) {
      const int64_t count = w.columns - n * 16 < 16 ? w.columns - n * 16 : 16;
      for (int64_t t = 0; t < count; ++t) rows[t] = q + QueryBytes(s, z, w, n * 16 + t, k);
      PackColumns(z, rows, count, w.q_rows + (k * w.column_tiles + n) * 16 * z.row_bytes);
    }
  const int64_t pair_stride = w.i_tiles * kTileRowBytes;
  for (int64_t column = 0; column < w.columns; ++column)
    for (int64_t tile = 0; tile < w.i_tiles; ++tile) {
      const int64_t count = z.b1 - tile * 16 < 16 ? z.b1 - tile * 16 : 16;
      for (int64_t t = 0; t < count; ++t) rows[t] = q + QueryBytes(s, z, w, column, tile * 16 + t);
      char* to = w.q_columns + column * (z.d / 2) * pair_stride + tile * kTileRowBytes;
      for (int64_t chunk = 0; chunk < z.chunks; ++chunk) {
        LoadTransposed(rows, count, x);
        for (int pair = 0; pair < 16; ++pair)
          _mm512_storeu_si512(to + (chunk * 16 + pair) * pair_stride, x[PlainPair(pair)]);
        for (int64_t t = 0; t < count; ++t) rows[t] += kTileRowBytes;
      }
    }
}

// q_pairs: B of the product that gives qbar. Rows past the last are zero.
void PackQueryPairs(const MonarchArgs& args, const Sizes& z, const MonarchAmxWork& w) {
  const char* q = static_cast<const char*>(args.q);
  char* to = w.q_pairs;
  for (int64_t column = 0; column < w.columns; ++column)
    for (int64_t i = 0; i < w.i_steps * kTileDepth; i += 2, to += 2 * z.row_bytes)
      for (int64_t at = 0; at < z.row_bytes; at += kTileRowBytes) {
        const auto load = [&](int64_t row) {
          if (row >= z.b1) return _mm512_setzero_si512();
          return _mm512_loadu_si512(q + QueryBytes(args.shape, z, w, column, row) + at);
        };
        StorePairs(load(i), load(i + 1), to + 2 * at);
      }
}

// A row of keys and values in their frame: the first of b2 tokens.
struct KeyRow {
  const char* keys = nullptr;  // null: there is no such row
  const char* values = nullptr;
};

// Rows are counted through all visible key tiles.
KeyRow FindKeyRow(const MonarchArgs& args, const Sizes& z, const MonarchAmxWork& w, int64_t row) {
  if (row >= w.key_tiles * z.b1) return {};
  const TileRow place = FindTileRow(args.shape, row / z.b1, row % z.b1);
  const int64_t at = RowBytes(z.kv, place, w.head);
  return {static_cast<const char*>(args.k_frames[place.frame]) + at,
          static_cast<const char*>(args.v_frames[place.frame]) + at};
}

// Fetches the next two rows into L2 while others are at work: the hardware does not foresee tokens
// that lie heads * head_dim apart, nor where a row begins. One line of keys and of values at a
// time, because a core has no more than 16 misses of L1 in flight.
struct Prefetch {
  KeyRow row;
  KeyRow row_after;
  int64_t tokens = 0;  // of `row`, left
  int64_t at = 0;      // byte of the token
};

inline void FetchLine(const Sizes& z, Prefetch& p) {
  if (p.row.keys == nullptr) return;
  _mm_prefetch(p.row.keys + p.at, _MM_HINT_T1);
  _mm_prefetch(p.row.values + p.at, _MM_HINT_T1);
  p.at += kTileRowBytes;
  if (p.at < z.row_bytes) return;
  p.at = 0;
  p.row.keys += z.kv.token;
  p.row.values += z.kv.token;
  if (--p.tokens == 0) p = {.row = p.row_after, .row_after = {}, .tokens = z.b2};
}

// b2 tokens -> pairs and, if wanted, `plain` [l, d].
void PackTokens(const Sizes& z, const char* from, char* pairs, char* plain) {
  for (int64_t l = 0; l < z.b2; l += 2, from += 2 * z.kv.token, pairs += 2 * z.row_bytes) {
    const bool two = l + 1 < z.b2;
    for (int64_t at = 0; at < z.row_bytes; at += kTileRowBytes) {
      const __m512i even = _mm512_loadu_si512(from + at);
      const __m512i odd = two ? _mm512_loadu_si512(from + z.kv.token + at) : _mm512_setzero_si512();
      StorePairs(even, odd, pairs + 2 * at);
      if (plain == nullptr) continue;
      _mm512_storeu_si512(plain + l * z.row_bytes + at, even);
      if (two) _mm512_storeu_si512(plain + (l + 1) * z.row_bytes + at, odd);
    }
  }
}

// Where the even and the odd row lie once packed.
char* KeysOf(const Sizes& z, const MonarchAmxWork& w, int64_t row) {
  return w.keys + row % 2 * w.l_tiles * 16 * z.row_bytes;
}
char* KeyPairsOf(const Sizes& z, const MonarchAmxWork& w, int64_t row) {
  return w.key_pairs + row % 2 * w.l_steps * 32 * z.row_bytes;
}
char* ValuePairsOf(const Sizes& z, const MonarchAmxWork& w, int64_t row) {
  return w.value_pairs + row % 2 * w.l_steps * 32 * z.row_bytes;
}

void PackRow(const Sizes& z, const MonarchAmxWork& w, const KeyRow& from, int64_t row,
             bool with_values) {
  PackTokens(z, from.keys, KeyPairsOf(z, w, row), KeysOf(z, w, row));
  if (with_values) PackTokens(z, from.values, ValuePairsOf(z, w, row), nullptr);
}

// Two tiles of columns, or the last one alone.
struct Group {
  int64_t first_tile;
  int64_t tiles;
};

// scores [tile, l, 16 columns] of row `row` of the block, asked by one row of queries, pairs [n,
// d/2, 16 columns].
void ScoreRow(const Sizes& z, const MonarchAmxWork& w, const Group& g, int64_t row,
              const char* queries) {
  const int64_t tile_bytes = 16 * z.row_bytes;
  MultiplyAllTiles<false>({.a = KeysOf(z, w, row),
                           .a_stride = z.row_bytes,
                           .a_next = tile_bytes,
                           .a_step = kTileRowBytes,
                           .b = queries + g.first_tile * tile_bytes,
                           .b_stride = kTileRowBytes,
                           .b_next = tile_bytes,
                           .b_step = 16 * kTileRowBytes,
                           .steps = z.chunks,
                           .c = reinterpret_cast<char*>(w.scores),
                           .c_stride = kTileRowBytes,
                           .c_next_row = 16 * kTileRowBytes,
                           .c_next_col = w.l_tiles * 16 * kTileRowBytes},
                          w.l_tiles, g.tiles);
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
void SoftmaxAlongRow(const Sizes& z, const MonarchAmxWork& w, float* scores, char* weights,
                     float* c) {
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
  for (; l + 2 <= z.b2; l += 2) add(l, 0), add(l + 1, 1);
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

// r of an even or odd row: [tile, 16 columns, l].
char* WeightsOf(const MonarchAmxWork& w, int64_t row) {
  return w.weights + row % 2 * 2 * 16 * w.l_steps * kTileRowBytes;
}

// Sums of 32 channels: two buffers, for the chunk of channels at hand and the one before, and in
// each one for the even and one for the odd row: [tile, 16 columns, 32 channels].
float* SumsOf(const MonarchAmxWork& w, int64_t chunk, int64_t row) {
  return w.sums + (chunk % 2 * 2 + row % 2) * 2 * 16 * 32;
}

// The mean of 32 channels of `pairs`, keys or values of a row.
void AverageChunk(const Sizes& z, const MonarchAmxWork& w, const Group& g, const char* pairs,
                  int64_t chunk, int64_t row) {
  const int64_t weights_stride = w.l_steps * kTileRowBytes;
  constexpr int64_t kSumsStride = 2 * kTileRowBytes;
  MultiplyAllTiles<false>({.a = WeightsOf(w, row),
                           .a_stride = weights_stride,
                           .a_next = 16 * weights_stride,
                           .a_step = kTileRowBytes,
                           .b = pairs + chunk * kSumsStride,
                           .b_stride = 2 * z.row_bytes,
                           .b_next = kTileRowBytes,
                           .b_step = 16 * 2 * z.row_bytes,
                           .steps = w.l_steps,
                           .c = reinterpret_cast<char*>(SumsOf(w, chunk, row)),
                           .c_stride = kSumsStride,
                           .c_next_row = 16 * kSumsStride,
                           .c_next_col = kTileRowBytes},
                          g.tiles, 2);
}

// kbar of a row. A chunk is converted to bf16 while the tiles work on the next.
void AverageKeys(const Sizes& z, const MonarchAmxWork& w, const Group& g, int64_t row,
                 Prefetch& prefetch) {
  for (int64_t chunk = 0; chunk <= z.chunks; ++chunk) {
    if (chunk < z.chunks) AverageChunk(z, w, g, KeyPairsOf(z, w, row), chunk, row);
    if (chunk == 0) continue;
    const float* sums = SumsOf(w, chunk - 1, row);
    char* kbar = w.kbar + row * w.kbar_stride + g.first_tile * 16 * z.row_bytes +
                 (chunk - 1) * kTileRowBytes;
    for (int64_t column = 0; column < g.tiles * 16; ++column) {
      const float* x = sums + column * 32;
      _mm512_storeu_si512(kbar + column * z.row_bytes,
                          ToBf16(_mm512_loadu_ps(x), _mm512_loadu_ps(x + 16)));
      FetchLine(z, prefetch);
    }
  }
}

// vbar of the even row `row` and of the row after it, unless that is not of the block.
void AverageValues(const Sizes& z, const MonarchAmxWork& w, const Group& g, int64_t row,
                   bool has_odd) {
  for (int64_t chunk = 0; chunk <= z.chunks; ++chunk) {
    if (chunk < z.chunks) {
      AverageChunk(z, w, g, ValuePairsOf(z, w, 0), chunk, 0);
      if (has_odd) AverageChunk(z, w, g, ValuePairsOf(z, w, 1), chunk, 1);
    }
    if (chunk == 0) continue;
    const float* sums[2] = {SumsOf(w, chunk - 1, 0), SumsOf(w, chunk - 1, 1)};
    char* vbar = w.vbar + row / 2 * w.vbar_stride + g.first_tile * 16 * 2 * z.row_bytes +
                 (chunk - 1) * 2 * kTileRowBytes;
    for (int64_t column = 0; column < g.tiles * 16; ++column)
      for (int64_t half = 0; half < 32; half += 16) {
        const int64_t at = column * 32 + half;
        const __m512 x0 = _mm512_loadu_ps(sums[0] + at);
        const __m512 x1 = has_odd ? _mm512_loadu_ps(sums[1] + at) : _mm512_setzero_ps();
        _mm512_storeu_si512(vbar + column * 2 * z.row_bytes + half * kPairBytes, ToPairs(x0, x1));
      }
  }
}

// The even row `row` of a block and, if there is one, the row after it, which are packed.
struct RowPair {
  int64_t row;
  bool has_odd;
  const char* queries[2];  // that ask for them: pairs [n, d/2, 16 columns]
};

// kbar, c and, if wanted, vbar of two rows.
void AttendAlongRows(const Sizes& z, const MonarchAmxWork& w, const RowPair& pair, bool with_values,
                     Prefetch& prefetch) {
  for (int64_t tile = 0; tile < w.column_tiles; tile += 2) {
    const Group g = {tile, tile + 1 < w.column_tiles ? 2 : 1};
    for (int64_t odd = 0; odd <= (pair.has_odd ? 1 : 0); ++odd) {
      const int64_t r = pair.row + odd;
      ScoreRow(z, w, g, r, pair.queries[odd]);
      for (int64_t n = 0; n < g.tiles; ++n)
        SoftmaxAlongRow(z, w, w.scores + n * w.l_tiles * 256,
                        WeightsOf(w, r) + n * 16 * w.l_steps * kTileRowBytes,
                        w.c + (r * w.column_tiles + tile + n) * 16);
      AverageKeys(z, w, g, r, prefetch);
    }
    if (with_values) AverageValues(z, w, g, pair.row, pair.has_odd);
  }
}

// Rows [first, first + rows) of all visible key tiles.
struct Block {
  int64_t first;
  int64_t rows;
};

// kbar, c and, if wanted, vbar of a block, in step `step` (from 0).
void AverageBlock(const MonarchArgs& args, const Sizes& z, const MonarchAmxWork& w,
                  const Block& block, int64_t step, bool with_values) {
  const auto queries = [&](int64_t row) {
    const int64_t row_bytes = w.column_tiles * 16 * z.row_bytes;
    return step == 0 ? w.q_rows + (block.first + row) % z.b1 * row_bytes
                     : w.qbar_rows + row * row_bytes;
  };
  for (int64_t row = 0; row < block.rows; row += 2) {
    const bool has_odd = row + 1 < block.rows;
    const int64_t at = block.first + row, next = at + (has_odd ? 2 : 1);
    Prefetch prefetch = {FindKeyRow(args, z, w, next), FindKeyRow(args, z, w, next + 1), z.b2};
    PackRow(z, w, FindKeyRow(args, z, w, at), 0, with_values);
    if (has_odd) PackRow(z, w, FindKeyRow(args, z, w, at + 1), 1, with_values);
    AttendAlongRows(z, w, {row, has_odd, {queries(row), has_odd ? queries(row + 1) : nullptr}},
                    with_values, prefetch);
  }
}

// Up to 32 queries of one column against the rows of a block.
struct QueryBlock {
  int64_t column;
  int64_t at;          // of the first query in max, sum, and (times d) out
  int64_t first_tile;  // of 16 queries
  int64_t tiles;       // 1 or 2
  int64_t rows;        // of the block
};

// scores [k, 32 queries].
void ScoreColumn(const Sizes& z, const MonarchAmxWork& w, const QueryBlock& q, float* scores) {
  const int64_t pair_stride = w.i_tiles * kTileRowBytes;
  constexpr int64_t kScoreStride = 2 * kTileRowBytes;
  const int64_t column_queries = q.column * w.i_tiles * 16;
  MultiplyAllTiles<false>(
      {.a = w.kbar + q.column * z.row_bytes,
       .a_stride = w.kbar_stride,
       .a_next = 16 * w.kbar_stride,
       .a_step = kTileRowBytes,
       .b = w.q_columns + column_queries * z.row_bytes + q.first_tile * kTileRowBytes,
       .b_stride = pair_stride,
       .b_next = kTileRowBytes,
       .b_step = 16 * pair_stride,
       .steps = z.chunks,
       .c = reinterpret_cast<char*>(scores),
       .c_stride = kScoreStride,
       .c_next_row = 16 * kScoreStride,
       .c_next_col = kTileRowBytes},
      CeilDiv(q.rows, 16), q.tiles);
}

// What the columns to come will read, fetched into L2 a few lines at a time: the kbar of the one
// after next, which is scored first, and the vbar and output of the next.
struct ColumnPrefetch {
  const char* kbar;
  const char* vbar;
  const char* out;
  int64_t kbar_stride;
  int64_t vbar_stride;
  int64_t row_bytes;

  // With rows 2 * pair and 2 * pair + 1 of a block.
  void Fetch(int64_t pair) const {
    const char* k = kbar + pair * 2 * kbar_stride;
    for (int64_t at = 0; at < row_bytes; at += kTileRowBytes) {
      _mm_prefetch(k + at, _MM_HINT_T1);
      _mm_prefetch(k + kbar_stride + at, _MM_HINT_T1);
      _mm_prefetch(vbar + pair * vbar_stride + 2 * at, _MM_HINT_T1);
      _mm_prefetch(vbar + pair * vbar_stride + 2 * at + kTileRowBytes, _MM_HINT_T1);
      _mm_prefetch(out + pair * 2 * row_bytes + 2 * at, _MM_HINT_T1);
      _mm_prefetch(out + pair * 2 * row_bytes + 2 * at + kTileRowBytes, _MM_HINT_T1);
    }
  }
};

// scores [k, 16 queries of 32] -> weights [16, k] and the running softmax. `at` is the first
// query's place in max, sum and out; c is of its column.
template <typename Tick>
void SoftmaxAcrossRows(const Sizes& z, const MonarchAmxWork& w, int64_t rows, float* scores,
                       const float* c, int64_t at, char* weights, const Tick& tick) {
  UpdateSoftmax(
      rows,
      {.scores = scores,
       .scores_stride = 32,
       .scale = z.scale,
       .offset = c,
       .offset_stride = w.column_tiles * 16},
      {.max = w.max + at, .sum = w.sum + at, .out = w.out + at * z.d, .d = z.d}, weights,
      w.k_steps * kTileRowBytes, [] {}, tick);
}

// out += weights * vbar.
void AddValues(const Sizes& z, const MonarchAmxWork& w, const QueryBlock& q) {
  const int64_t weights_stride = w.k_steps * kTileRowBytes;
  const int64_t out_stride = z.d * int64_t{sizeof(float)};
  MultiplyAllTiles<true>({.a = w.weights,
                          .a_stride = weights_stride,
                          .a_next = 16 * weights_stride,
                          .a_step = kTileRowBytes,
                          .b = w.vbar + q.column * 2 * z.row_bytes,
                          .b_stride = w.vbar_stride,
                          .b_next = kTileRowBytes,
                          .b_step = 16 * w.vbar_stride,
                          .steps = CeilDiv(q.rows, kTileDepth),
                          .c = reinterpret_cast<char*>(w.out + q.at * z.d),
                          .c_stride = out_stride,
                          .c_next_row = 16 * out_stride,
                          .c_next_col = kTileRowBytes},
                         q.tiles, z.d / 16);
}

// The rows of a block in the softmax and, if wanted, the output of every column. The tiles score
// one column while the one before is in its softmax.
void AttendAcrossRows(const Sizes& z, const MonarchAmxWork& w, int64_t rows, bool with_values) {
  const int64_t blocks_per_column = w.i_steps;
  const int64_t blocks = w.columns * blocks_per_column;
  const auto block = [&](int64_t n) {
    const int64_t column = n / blocks_per_column, tile = n % blocks_per_column * 2;
    const int64_t left = w.i_tiles - tile, at = (column * w.i_tiles + tile) * 16;
    return QueryBlock{column, at, tile, left < 2 ? left : 2, rows};
  };
  const auto scores = [&](int64_t n) { return w.scores + n % 2 * w.k_steps * 32 * 32; };
  ScoreColumn(z, w, block(0), scores(0));
  for (int64_t n = 0; n < blocks; ++n) {
    if (n + 1 < blocks) ScoreColumn(z, w, block(n + 1), scores(n + 1));
    const QueryBlock q = block(n);
    const ColumnPrefetch prefetch = {
        .kbar = w.kbar + (q.column + 2) * z.row_bytes,
        .vbar = w.vbar + (q.column + 1) * 2 * z.row_bytes,
        .out = reinterpret_cast<const char*>(w.out + (q.at + q.tiles * 16) * z.d),
        .kbar_stride = w.kbar_stride,
        .vbar_stride = w.vbar_stride,
        .row_bytes = z.row_bytes};
    for (int64_t t = 0; t < q.tiles; ++t)
      SoftmaxAcrossRows(z, w, rows, scores(n) + t * 16, w.c + q.column, q.at + t * 16,
                        w.weights + t * 16 * w.k_steps * kTileRowBytes, [&](int64_t pair) {
                          if (pair % q.tiles == t) prefetch.Fetch(pair);
                        });
    if (with_values) AddValues(z, w, q);
  }
}

// scores [k, 32 queries] -> L as A of the next product, bf16 [k, 32 queries]; n[k] grows by its sum
// over these queries. Queries past the last have an infinite log_sum, so that their L is 0.
void WeighQueries(const Sizes& z, const MonarchAmxWork& w, const QueryBlock& q,
                  const float* log_sum) {
  const __m512 scale = _mm512_set1_ps(z.scale);
  const float* c = w.c + q.column;
  for (int64_t k = 0; k < q.rows; ++k, c += w.column_tiles * 16) {
    __m512 left[2] = {_mm512_setzero_ps(), _mm512_setzero_ps()};
    for (int64_t t = 0; t < q.tiles; ++t) {
      const __m512 offset =
          _mm512_add_ps(_mm512_set1_ps(*c), _mm512_loadu_ps(log_sum + q.at + t * 16));
      left[t] = Exp2(_mm512_fmsub_ps(_mm512_loadu_ps(w.scores + k * 32 + t * 16), scale, offset));
    }
    w.n[k] += _mm512_reduce_add_ps(_mm512_add_ps(left[0], left[1]));
    _mm512_storeu_si512(w.weights + k * kTileRowBytes, ToBf16(left[0], left[1]));
  }
}

// n and qbar of the rows of a block, for one column.
void SumQueries(const Sizes& z, const MonarchAmxWork& w, int64_t column, int64_t rows,
                const float* log_sum) {
  for (int64_t k = 0; k < rows; ++k) w.n[k] = 0;
  for (int64_t step = 0; step < w.i_steps; ++step) {
    const int64_t tile = 2 * step, left = w.i_tiles - tile;
    const QueryBlock q = {column, (column * w.i_tiles + tile) * 16, tile, left < 2 ? left : 2,
                          rows};
    ScoreColumn(z, w, q, w.scores);
    WeighQueries(z, w, q, log_sum);
    const TileProduct sums = {.a = w.weights,
                              .a_stride = kTileRowBytes,
                              .a_next = 16 * kTileRowBytes,
                              .a_step = 0,
                              .b = w.q_pairs + (column * w.i_steps + step) * 16 * 2 * z.row_bytes,
                              .b_stride = 2 * z.row_bytes,
                              .b_next = kTileRowBytes,
                              .b_step = 0,
                              .steps = 1,
                              .c = reinterpret_cast<char*>(w.qbar),
                              .c_stride = z.d * int64_t{sizeof(float)},
                              .c_next_row = 16 * z.d * int64_t{sizeof(float)},
                              .c_next_col = kTileRowBytes};
    if (step == 0) {
      MultiplyAllTiles<false>(sums, CeilDiv(rows, 16), z.d / 16);
    } else {
      MultiplyAllTiles<true>(sums, CeilDiv(rows, 16), z.d / 16);
    }
  }
}

// qbar_rows of the next step, from kbar, c and log_sum of this one. The damped qbar of a column
// takes the place of its kbar until all columns are there.
void RefineQueries(const Sizes& z, const MonarchAmxWork& w, int64_t rows, const float* log_sum) {
  for (int64_t column = 0; column < w.columns; ++column) {
    SumQueries(z, w, column, rows, log_sum);
    for (int64_t k = 0; k < rows; ++k) {
      const double inverse = 1 / (w.n[k] + kMonarchDampingEpsilon);
      const __m512 damping = _mm512_set1_ps(
          static_cast<float>(inverse < kMonarchDampingMax ? inverse : kMonarchDampingMax));
      const float* x = w.qbar + k * z.d;
      char* to = w.kbar + k * w.kbar_stride + column * z.row_bytes;
      for (int64_t chunk = 0; chunk < z.chunks; ++chunk, x += 32)
        _mm512_storeu_si512(to + chunk * kTileRowBytes,
                            FromPairOrder(ToBf16(_mm512_mul_ps(_mm512_loadu_ps(x), damping),
                                                 _mm512_mul_ps(_mm512_loadu_ps(x + 16), damping))));
    }
  }
  const char* columns[16] = {};
  for (int64_t k = 0; k < rows; ++k)
    for (int64_t n = 0; n < w.column_tiles; ++n) {
      const int64_t count = w.columns - n * 16 < 16 ? w.columns - n * 16 : 16;
      for (int64_t t = 0; t < count; ++t)
        columns[t] = w.kbar + k * w.kbar_stride + (n * 16 + t) * z.row_bytes;
      PackColumns(z, columns, count, w.qbar_rows + (k * w.column_tiles + n) * 16 * z.row_bytes);
    }
}

// The sum that normalises the L of a step, from its running softmax, which begins anew.
void KeepLogSum(const Sizes& z, const MonarchAmxWork& w, float* log_sum) {
  for (int64_t column = 0; column < w.columns; ++column)
    for (int64_t i = 0; i < w.i_tiles * 16; ++i) {
      const int64_t at = column * w.i_tiles * 16 + i;
      log_sum[at] = i < z.b1 ? w.max[at] + __builtin_log2f(w.sum[at]) : __builtin_inff();
      w.max[at] = kNoMaximum;
      w.sum[at] = 0;
    }
}

void StoreOutput(const MonarchArgs& args, const Sizes& z, const MonarchAmxWork& w) {
  for (int64_t column = 0; column < w.columns; ++column)
    for (int64_t i = 0; i < z.b1; ++i) {
      const int64_t at = column * w.i_tiles * 16 + i;
      const __m512 inverse = _mm512_set1_ps(1 / w.sum[at]);
      const float* x = w.out + at * z.d;
      char* to = static_cast<char*>(args.out) + QueryBytes(args.shape, z, w, column, i);
      for (int64_t chunk = 0; chunk < z.chunks; ++chunk, x += 32)
        _mm512_storeu_si512(to + chunk * kTileRowBytes,
                            FromPairOrder(ToBf16(_mm512_mul_ps(_mm512_loadu_ps(x), inverse),
                                                 _mm512_mul_ps(_mm512_loadu_ps(x + 16), inverse))));
    }
}

// What is read before it is written, or never written: padding.
void ClearBuffers(const Sizes& z, const MonarchAmxWork& w) {
  const int64_t queries = w.column_tiles * 16 * w.i_tiles * 16;
  FillZero(w.keys, 2 * w.l_tiles * 16 * z.row_bytes);
  FillZero(w.key_pairs, 2 * w.l_steps * 32 * z.row_bytes);
  FillZero(w.value_pairs, 2 * w.l_steps * 32 * z.row_bytes);
  FillZero(w.kbar, w.k_steps * 32 * w.kbar_stride);
  FillZero(w.vbar, w.k_steps * 16 * w.vbar_stride);
  FillZero(w.sum, queries * int64_t{sizeof(float)});
  FillZero(w.out, queries * z.d * int64_t{sizeof(float)});
  for (int64_t n = 0; n < queries; n += 16) _mm512_storeu_ps(w.max + n, _mm512_set1_ps(kNoMaximum));
}

}  // namespace

void AttendColumns(const MonarchArgs& args, const MonarchAmxWork& w) {
  const Sizes z = SizesOf(args.shape);
  const int64_t steps = args.shape.iterations;
  ConfigureTiles();
  PackQueries(args, z, w);
  if (steps > 1) PackQueryPairs(args, z, w);
  ClearBuffers(z, w);
  const int64_t rows = w.key_tiles * z.b1, block_rows = w.key_tiles_per_block * z.b1;
  const auto log_sum = [&](int64_t step) {
    return w.log_sum + step * w.column_tiles * 16 * w.i_tiles * 16;
  };
  for (int64_t pass = 0; pass < steps; ++pass) {
    const bool last = pass == steps - 1;
    for (int64_t first = 0; first < rows; first += block_rows) {
      const Block block = {first, rows - first < block_rows ? rows - first : block_rows};
      for (int64_t step = 0; step < pass; ++step) {
        AverageBlock(args, z, w, block, step, false);
        RefineQueries(z, w, block.rows, log_sum(step));
      }
      AverageBlock(args, z, w, block, pass, last);
      AttendAcrossRows(z, w, block.rows, last);
    }
    if (!last) KeepLogSum(z, w, log_sum(pass));
  }
  _tile_release();
  StoreOutput(args, z, w);
}

}  // namespace mrt::amx
