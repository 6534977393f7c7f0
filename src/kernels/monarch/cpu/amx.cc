// Monarch attention of one head and a part of its columns by products of tiles, compiled for AMX
// and for AVX-512 BF16.
//
// All columns go through a block of key tiles along its rows (amx_along_rows.h), which gives kbar,
// vbar and c, and then across its rows (amx_across_rows.h), which updates the running softmax of L
// and the output. Scores come out transposed, one query per lane, so that no softmax shuffles; the
// weights are transposed once they are bf16.
//
// With n refinement steps the keys are streamed n times, as in portable.cc: pass p runs steps 1..p
// on every block, and RefineQueries makes the queries of a step from the L of the one before.
#include "kernels/monarch/cpu/amx.h"

#include "kernels/monarch/cpu/amx_across_rows.h"
#include "kernels/monarch/cpu/amx_along_rows.h"
#include "kernels/monarch/cpu/amx_task.h"

namespace mrt::MRT_ISA {
namespace {

// Where the rows of the query tiles begin.
void FindQueryRows(const MonarchShape& s, const Sizes& z, const MonarchAmxWork& w) {
  const int64_t tiles = (w.first_column + w.columns - 1) / z.b2 + 1;
  for (int64_t tile = 0; tile < tiles; ++tile)
    for (int64_t row = 0; row < z.b1; ++row) {
      const TileRow place = FindTileRow(s, w.first_query_tile + tile, row);
      w.query_rows[tile * z.b1 + row] =
          place.frame * s.rows * s.cols * z.q.token + RowBytes(z.q, place, w.head);
    }
}

// Column `column` of the task, row `row`: a token of q or out, which are laid out alike.
inline int64_t QueryBytes(const Sizes& z, const MonarchAmxWork& w, int64_t column, int64_t row) {
  const int64_t at = w.first_column + column;
  return w.query_rows[at / z.b2 * z.b1 + row] + at % z.b2 * z.q.token;
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

// B of the scores along rows, of one tile of columns.
void PackQueryRows(const MonarchArgs& args, const Sizes& z, const MonarchAmxWork& w, int64_t tile) {
  const char* q = static_cast<const char*>(args.q);
  const char* columns[16] = {};
  const int64_t left = w.columns - tile * 16, count = left < 16 ? left : 16;
  for (int64_t k = 0; k < z.b1; ++k) {
    for (int64_t t = 0; t < count; ++t) columns[t] = q + QueryBytes(z, w, tile * 16 + t, k);
    PackColumns(z, columns, count, w.q_rows + (k * w.column_tiles + tile) * 16 * z.row_bytes);
  }
}

// B of the scores across rows, of one column. The channels lie in the order that AverageKeys gives
// those of kbar.
void PackQueryColumn(const MonarchArgs& args, const Sizes& z, const MonarchAmxWork& w,
                     int64_t column) {
  const char* q = static_cast<const char*>(args.q);
  const char* rows[16] = {};
  __m512i x[16];
  const int64_t pair_stride = w.i_tiles * kTileRowBytes;
  for (int64_t tile = 0; tile < w.i_tiles; ++tile) {
    const int64_t left = z.b1 - tile * 16, count = left < 16 ? left : 16;
    for (int64_t t = 0; t < count; ++t) rows[t] = q + QueryBytes(z, w, column, tile * 16 + t);
    char* to = w.q_columns + column * (z.d / 2) * pair_stride + tile * kTileRowBytes;
    for (int64_t chunk = 0; chunk < z.chunks; ++chunk) {
      LoadTransposed(rows, count, x);
      for (int pair = 0; pair < 16; ++pair)
        _mm512_storeu_si512(to + (chunk * 16 + pair) * pair_stride, x[PlainPair(pair)]);
      for (int64_t t = 0; t < count; ++t) rows[t] += kTileRowBytes;
    }
  }
}

// Both, tile by tile: what the first reads, the second finds in L2.
void PackQueries(const MonarchArgs& args, const Sizes& z, const MonarchAmxWork& w) {
  for (int64_t tile = 0; tile < w.column_tiles; ++tile) {
    PackQueryRows(args, z, w, tile);
    for (int64_t column = tile * 16; column < tile * 16 + 16 && column < w.columns; ++column)
      PackQueryColumn(args, z, w, column);
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
          return _mm512_loadu_si512(q + QueryBytes(z, w, column, row) + at);
        };
        StorePairs(load(i), load(i + 1), to + 2 * at);
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
    ScoreColumn(z, w, q, w.scores, [] {});
    WeighQueries(z, w, q, log_sum);
    const TileProduct sums = {.a = w.weights,
                              .a_stride = kTileRowBytes,
                              .a_next = 16 * kTileRowBytes,
                              .b = w.q_pairs + (column * w.i_steps + step) * 16 * 2 * z.row_bytes,
                              .b_stride = 2 * z.row_bytes,
                              .b_next = kTileRowBytes,
                              .pairs = 16,
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
      char* to = static_cast<char*>(args.out) + QueryBytes(z, w, column, i);
      for (int64_t chunk = 0; chunk < z.chunks; ++chunk, x += 32)
        _mm512_storeu_si512(to + chunk * kTileRowBytes,
                            FromPairOrder(ToBf16(_mm512_mul_ps(_mm512_loadu_ps(x), inverse),
                                                 _mm512_mul_ps(_mm512_loadu_ps(x + 16), inverse))));
    }
}

// Pairs of rows of vbar up to the depth of a tile: their weights are zero.
void ClearPadding(const MonarchAmxWork& w, int64_t rows) {
  const int64_t first = CeilDiv(rows, 2), last = CeilDiv(rows, kTileDepth) * 16;
  FillZero(w.vbar + first * w.vbar_stride, (last - first) * w.vbar_stride);
}

// What is read before it is written, or never written: padding.
void ClearBuffers(const Sizes& z, const MonarchAmxWork& w) {
  const int64_t queries = w.column_tiles * 16 * w.i_tiles * 16;
  FillZero(w.keys, 16 * z.row_bytes);
  FillZero(w.pairs, kAmxPackedChunks * w.l_steps * 32 * kTileRowBytes);
  FillZero(w.sum, queries * int64_t{sizeof(float)});
  for (int64_t n = 0; n < queries; n += 16) _mm512_storeu_ps(w.max + n, _mm512_set1_ps(kNoMaximum));
}

}  // namespace

void AttendColumns(const MonarchArgs& args, const MonarchAmxWork& w) {
  const Sizes z = SizesOf(args.shape);
  const int64_t steps = args.shape.iterations;
  ConfigureTiles();
  FindQueryRows(args.shape, z, w);
  PackQueries(args, z, w);
  if (steps > 1) PackQueryPairs(args, z, w);
  ClearBuffers(z, w);
  const auto log_sum = [&](int64_t step) {
    return w.log_sum + step * w.column_tiles * 16 * w.i_tiles * 16;
  };
  for (int64_t pass = 0; pass < steps; ++pass) {
    const bool last = pass == steps - 1;
    for (int64_t first = 0; first < w.key_tiles; first += w.key_tiles_per_block) {
      const int64_t left = w.key_tiles - first;
      const int64_t tiles = left < w.key_tiles_per_block ? left : w.key_tiles_per_block;
      const Block block = {first, tiles, tiles * z.b1};
      if (first == 0 || tiles < w.key_tiles_per_block) ClearPadding(w, block.rows);
      for (int64_t step = 0; step < pass; ++step) {
        AverageBlock(args, z, w, block, step, false);
        RefineQueries(z, w, block.rows, log_sum(step));
      }
      AverageBlock(args, z, w, block, pass, last);
      AttendAcrossRows(z, w, block.rows, first == 0, last);
    }
    if (!last) KeepLogSum(z, w, log_sum(pass));
  }
  ReleaseTiles();
  StoreOutput(args, z, w);
}

}  // namespace mrt::MRT_ISA
