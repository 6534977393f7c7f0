// A block of key tiles across its rows: every column's running softmax of L and its output.
#pragma once

#include "kernels/monarch/cpu/amx_task.h"

namespace mrt::MRT_ISA {
namespace {

// Up to 32 queries of one column against the rows of a block.
struct QueryBlock {
  int64_t column;
  int64_t at;          // of the first query in max, sum, and (times d) out
  int64_t first_tile;  // of 16 queries
  int64_t tiles;       // 1 or 2
  int64_t rows;        // of the block
};

// scores [k, 32 queries].
template <typename Tick>
inline void ScoreColumn(const Sizes& z, const MonarchAmxWork& w, const QueryBlock& q, float* scores,
                        const Tick& tick) {
  const int64_t pair_stride = w.i_tiles * kTileRowBytes;
  constexpr int64_t kScoreStride = 2 * kTileRowBytes;
  const int64_t column_queries = q.column * w.i_tiles * 16;
  MultiplyAllTiles<false>(
      {.a = w.kbar + q.column * z.row_bytes,
       .a_stride = w.kbar_stride,
       .a_next = 16 * w.kbar_stride,
       .b = w.q_columns + column_queries * z.row_bytes + q.first_tile * kTileRowBytes,
       .b_stride = pair_stride,
       .b_next = kTileRowBytes,
       .pairs = z.d / 2,
       .c = reinterpret_cast<char*>(scores),
       .c_stride = kScoreStride,
       .c_next_row = 16 * kScoreStride,
       .c_next_col = kTileRowBytes},
      CeilDiv(q.rows, 16), q.tiles, tick);
}

// Fetches what the columns to come will read into L2, a little at a time: kbar and queries of the
// one after next, which is scored first, and vbar and output of the next. Every block of queries
// fetches its part of the rows.
class ColumnPrefetch {
 public:
  ColumnPrefetch(const Sizes& z, const MonarchAmxWork& w, const QueryBlock& q) : z_(z), w_(w) {
    const int64_t part = q.first_tile / 2, pairs = CeilDiv(q.rows, 2);
    pair_ = pairs * part / w.i_steps;
    last_ = pairs * (part + 1) / w.i_steps;
    kbar_ = w.kbar + (q.column + 2) * z.row_bytes + 2 * pair_ * w.kbar_stride;
    vbar_ = w.vbar + (q.column + 1) * 2 * z.row_bytes + pair_ * w.vbar_stride;
    const int64_t queries = w.i_tiles * 16;
    lines_ = CeilDiv(queries * z.chunks, pairs);
    queries_ =
        w.q_columns + (q.column + 2) * queries * z.row_bytes + pair_ * lines_ * kTileRowBytes;
    out_ = reinterpret_cast<const char*>(w.out + (q.column + 1) * queries * z.d) +
           pair_ * lines_ * 2 * kTileRowBytes;
  }

  // The next `pairs` pairs of rows, and their share of the queries and the output.
  void Fetch(int64_t pairs) {
    for (int64_t n = 0; n < pairs && pair_ < last_; ++n, ++pair_) {
      for (int64_t at = 0; at < z_.row_bytes; at += kTileRowBytes) {
        _mm_prefetch(kbar_ + at, _MM_HINT_T1);
        _mm_prefetch(kbar_ + w_.kbar_stride + at, _MM_HINT_T1);
        _mm_prefetch(vbar_ + 2 * at, _MM_HINT_T1);
        _mm_prefetch(vbar_ + 2 * at + kTileRowBytes, _MM_HINT_T1);
      }
      kbar_ += 2 * w_.kbar_stride;
      vbar_ += w_.vbar_stride;
      for (int64_t line = 0; line < lines_; ++line) {
        _mm_prefetch(queries_, _MM_HINT_T1);
        _mm_prefetch(out_, _MM_HINT_T1);
        _mm_prefetch(out_ + kTileRowBytes, _MM_HINT_T1);
        queries_ += kTileRowBytes;
        out_ += 2 * kTileRowBytes;
      }
    }
  }

  // So many at every block of tiles spread half of them over the products of a column.
  int64_t PairsPerTick(int64_t ticks) const { return CeilDiv(last_ - pair_, 2 * ticks); }

 private:
  const Sizes& z_;
  const MonarchAmxWork& w_;
  int64_t pair_;  // of rows
  int64_t last_;
  const char* kbar_;
  const char* vbar_;
  int64_t lines_;  // of queries along with a pair; the output has twice as many
  const char* queries_;
  const char* out_;
};

// scores [k, 16 queries of 32] -> weights [16, k] and the running softmax. `at` is the first
// query's place in max, sum and out; c is of its column.
template <typename Tick>
inline void SoftmaxAcrossRows(const Sizes& z, const MonarchAmxWork& w, int64_t rows, bool first,
                              float* scores, const float* c, int64_t at, char* weights,
                              const Tick& tick) {
  float* out = first ? nullptr : w.out + at * z.d;
  UpdateSoftmax(
      rows,
      {.scores = scores,
       .scores_stride = 32,
       .scale = z.scale,
       .offset = c,
       .offset_stride = w.column_tiles * 16},
      {.max = w.max + at, .sum = w.sum + at, .out = out, .d = z.d}, weights,
      w.k_steps * kTileRowBytes, [] {}, tick);
}

// out = weights * vbar, or grows by it.
template <bool kAdd, typename Tick>
inline void AddValues(const Sizes& z, const MonarchAmxWork& w, const QueryBlock& q,
                      const Tick& tick) {
  const int64_t weights_stride = w.k_steps * kTileRowBytes;
  const int64_t out_stride = z.d * int64_t{sizeof(float)};
  MultiplyAllTiles<kAdd>({.a = w.weights,
                          .a_stride = weights_stride,
                          .a_next = 16 * weights_stride,
                          .b = w.vbar + q.column * 2 * z.row_bytes,
                          .b_stride = w.vbar_stride,
                          .b_next = kTileRowBytes,
                          .pairs = CeilDiv(q.rows, 2),
                          .c = reinterpret_cast<char*>(w.out + q.at * z.d),
                          .c_stride = out_stride,
                          .c_next_row = 16 * out_stride,
                          .c_next_col = kTileRowBytes},
                         q.tiles, z.d / 16, tick);
}

// The rows of a block in the softmax and, if wanted, the output of every column. The tiles score
// one column while the one before is in its softmax.
inline void AttendAcrossRows(const Sizes& z, const MonarchAmxWork& w, int64_t rows, bool first,
                             bool with_values) {
  constexpr int64_t kPairsPerFetch = 6;  // of the softmax
  const int64_t blocks = w.columns * w.i_steps;
  const int64_t ticks = CeilDiv(rows, 32) + z.d / 32;
  const auto block = [&](int64_t n) {
    const int64_t column = n / w.i_steps, tile = n % w.i_steps * 2;
    const int64_t left = w.i_tiles - tile, at = (column * w.i_tiles + tile) * 16;
    return QueryBlock{column, at, tile, left < 2 ? left : 2, rows};
  };
  const auto scores = [&](int64_t n) { return w.scores + n % 2 * w.k_steps * 32 * 32; };
  ScoreColumn(z, w, block(0), scores(0), [] {});
  for (int64_t n = 0; n < blocks; ++n) {
    const QueryBlock q = block(n);
    ColumnPrefetch prefetch(z, w, q);
    const auto fetch = [&, pairs = prefetch.PairsPerTick(ticks)] { prefetch.Fetch(pairs); };
    if (n + 1 < blocks) ScoreColumn(z, w, block(n + 1), scores(n + 1), fetch);
    for (int64_t t = 0; t < q.tiles; ++t)
      SoftmaxAcrossRows(z, w, rows, first, scores(n) + t * 16, w.c + q.column, q.at + t * 16,
                        w.weights + t * 16 * w.k_steps * kTileRowBytes, [&](int64_t pair) {
                          if (pair % kPairsPerFetch == 0) prefetch.Fetch(1);
                        });
    if (with_values && first) AddValues<false>(z, w, q, fetch);
    if (with_values && !first) AddValues<true>(z, w, q, fetch);
    prefetch.Fetch(rows);
  }
}

}  // namespace
}  // namespace mrt::MRT_ISA
