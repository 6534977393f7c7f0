// Monarch attention of one head and query tile, compiled once per instruction set.
//
// For every key tile f: each key row k gives kbar[j,k], vbar[j,k] and c[j,k] for all columns j
// (AverageKeyRows); then each column j updates its softmax over (f,k) and its output
// (AttendAcrossRows). With n refinement steps the key tiles are streamed n times: pass p runs steps
// 1..p on every key tile and finds the sum that normalises the L of step p, which the passes after
// it need. So nothing is ever stored per key tile.
#include "kernels/monarch/cpu/portable.h"

#include "kernels/common/cpu/scratch.h"
#include "kernels/monarch/cpu/tile_rows.h"

namespace mrt::MRT_ISA {
namespace {

// The query tile -> plain [i, j, d_pad]; what lies past head_dim is 0.
void LoadQueries(const MonarchArgs& args, const MonarchWork& w, float* plain) {
  const MonarchShape& s = args.shape;
  const int64_t cols = s.b2();
  const TokenStrides strides = s.q_strides();
  const int64_t frame_bytes = int64_t{s.rows} * s.cols * strides.token * StorageBytes(s.storage);
  if (w.d_pad != s.head_dim) Fill(plain, s.b1() * cols * w.d_pad, 0);
  for (int64_t i = 0; i < s.b1(); ++i) {
    const TileRow row = FindTileRow(s, w.a, i);
    LoadRow(s, s.storage, strides, static_cast<const char*>(args.q) + row.frame * frame_bytes, row,
            w.head, w.d_pad, plain + i * cols * w.d_pad);
  }
}

void PackQueries(const MonarchArgs& args, const MonarchWork& w) {
  const MonarchShape& s = args.shape;
  const int64_t rows = s.b1(), cols = s.b2(), row_floats = cols * w.d_pad;
  const float scale = kLog2e / __builtin_sqrtf(static_cast<float>(s.head_dim));
  float* const plain = w.out;  // not yet in use
  LoadQueries(args, w, plain);
  if (kLanes < kPadFloats) {  // else Transpose writes everything
    Fill(w.q_rows, rows * w.d_pad * w.j_pad, 0);
    Fill(w.q_columns, cols * w.d_pad * w.i_pad, 0);
  }
  for (int64_t i = 0; i < rows; ++i)
    Transpose(cols, w.d_pad, scale, plain + i * row_floats, w.d_pad,
              w.q_rows + i * w.d_pad * w.j_pad, w.j_pad);
  for (int64_t j = 0; j < cols; ++j)
    Transpose(rows, w.d_pad, scale, plain + j * w.d_pad, row_floats,
              w.q_columns + j * w.d_pad * w.i_pad, w.i_pad);
  if (w.q_plain == nullptr) return;
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t j = 0; j < cols; ++j)
      for (int64_t e = 0; e < w.d_pad; e += kLanes)
        Store(scale * Load(plain + i * row_floats + j * w.d_pad + e),
              w.q_plain + (j * rows + i) * w.d_pad + e);
}

// z [l, cols] -> r over l, and c[j,k] of `count` columns j to c[0], c[c_stride] ...
void SoftmaxWithEntropy(int64_t rows, int64_t cols, int64_t count, float* z, float* c,
                        int64_t c_stride) {
  for (int64_t col = 0; col < cols; col += kLanes) {
    float* z_col = z + col;
    Vec max = Load(z_col);
    for (int64_t l = 1; l < rows; ++l) max = Max(Load(z_col + l * kBlockQueries), max);
    Vec sum = {}, weighted = {};  // of p, and of p * log2 p, with p not yet normalised
    for (int64_t l = 0; l < rows; ++l) {
      const Vec x = Load(z_col + l * kBlockQueries) - max;
      const Vec p = Exp2(x);
      sum += p;
      weighted += p * x;
      Store(p, z_col + l * kBlockQueries);
    }
    const Vec inverse = 1.0f / sum;
    for (int64_t l = 0; l < rows; ++l)
      Store(inverse * Load(z_col + l * kBlockQueries), z_col + l * kBlockQueries);
    for (int64_t lane = 0; lane < kLanes && col + lane < count; ++lane)
      c[(col + lane) * c_stride] = weighted[lane] * inverse[lane] - __builtin_log2f(sum[lane]);
  }
}

// Of the columns or queries that are left, the next block, in whole vectors.
int64_t BlockPad(int64_t left) {
  return (Least(kBlockQueries, left) + kLanes - 1) / kLanes * kLanes;
}

// kbar, c and, if wanted, vbar of key tile f, with the queries q_rows [k, d_pad, j_pad].
void AverageKeyRows(const MonarchArgs& args, const MonarchWork& w, int64_t f, const float* q_rows,
                    bool with_values) {
  const MonarchShape& s = args.shape;
  const int64_t rows = s.b1(), cols = s.b2(), d = s.head_dim;
  const TokenStrides strides = s.kv_strides();
  for (int64_t k = 0; k < rows; ++k) {
    const TileRow row = FindTileRow(s, f, k);
    // What is loaded next; after the last row that row again, which costs nothing.
    const TileRow next = FindTileRow(s, f, Least(k + 1, rows - 1));
    LoadRow(s, s.kv_storage(), strides, args.k_frames[row.frame], row, w.head, w.d_pad, w.key_row);
    if (with_values)
      LoadRow(s, s.kv_storage(), strides, args.v_frames[row.frame], row, w.head, w.d_pad,
              w.value_row);
    PrefetchRow(s, args.k_frames[next.frame], s.kv_storage(), next, w.head);
    for (int64_t j = 0; j < cols; j += kBlockQueries) {
      const int64_t pad = BlockPad(cols - j);
      const int64_t count = Least(kBlockQueries, cols - j);
      Multiply({.rows = cols,
                .cols = pad,
                .depth = d,
                .a = w.key_row,
                .a_stride = w.d_pad,
                .b = q_rows + k * w.d_pad * w.j_pad + j,
                .b_stride = w.j_pad,
                .c = w.scores,
                .c_stride = kBlockQueries});
      if (j == 0 && with_values)
        PrefetchRow(s, args.v_frames[next.frame], s.kv_storage(), next, w.head);
      SoftmaxWithEntropy(cols, pad, count, w.scores, w.c + j * rows + k, rows);
      Product mean = {.rows = count,
                      .cols = w.d_pad,
                      .depth = cols,
                      .a = w.scores,
                      .a_stride = kBlockQueries,
                      .b = w.key_row,
                      .b_stride = w.d_pad,
                      .c = w.kbar + k * w.key_row_floats + j * w.d_pad,
                      .c_stride = w.d_pad};
      MultiplyTransposed(mean);
      if (!with_values) continue;
      mean.b = w.value_row;
      mean.c = w.vbar + k * w.key_row_floats + j * w.d_pad;
      MultiplyTransposed(mean);
    }
  }
}

// The logits of L for column j and queries [i, i + pad): scores [k, pad].
void ScoreColumn(const MonarchShape& s, const MonarchWork& w, int64_t j, int64_t i, int64_t pad) {
  const int64_t rows = s.b1(), d = s.head_dim;
  Multiply({.rows = rows,
            .cols = pad,
            .depth = d,
            .a = w.kbar + j * w.d_pad,
            .a_stride = w.key_row_floats,
            .b = w.q_columns + j * w.d_pad * w.i_pad + i,
            .b_stride = w.i_pad,
            .c = w.scores,
            .c_stride = kBlockQueries});
  for (int64_t k = 0; k < rows; ++k) {
    float* x = w.scores + k * kBlockQueries;
    for (int64_t lane = 0; lane < pad; ++lane) x[lane] -= w.c[j * rows + k];
  }
}

// One key tile more in the softmax of every column and, if wanted, in the output.
void AttendAcrossRows(const MonarchShape& s, const MonarchWork& w, bool with_values) {
  const int64_t rows = s.b1();
  for (int64_t j = 0; j < s.b2(); ++j)
    for (int64_t i = 0; i < rows; i += kBlockQueries) {
      const int64_t pad = BlockPad(rows - i);
      ScoreColumn(s, w, j, i, pad);
      UpdateSoftmax(rows, pad, w.scores, kBlockQueries,
                    {w.max + j * w.i_pad + i, w.sum + j * w.i_pad + i, w.keep});
      if (!with_values) continue;
      MultiplyTransposed({.rows = Least(kBlockQueries, rows - i),
                          .cols = w.d_pad,
                          .depth = rows,
                          .a = w.scores,
                          .a_stride = kBlockQueries,
                          .b = w.vbar + j * w.d_pad,
                          .b_stride = w.key_row_floats,
                          .c = w.out + (j * rows + i) * w.d_pad,
                          .c_stride = w.d_pad,
                          .keep = w.keep});
    }
}

// scores become L; n[k] grows by its sum over these queries. Lanes past b1 have an infinite
// log_sum, so that their L is 0.
void NormaliseLeft(int64_t rows, int64_t pad, const float* log_sum, float* scores, float* n) {
  for (int64_t k = 0; k < rows; ++k) {
    Vec total = {};
    for (int64_t lane = 0; lane < pad; lane += kLanes) {
      float* x = scores + k * kBlockQueries + lane;
      const Vec left = Exp2(Load(x) - Load(log_sum + lane));
      total += left;
      Store(left, x);
    }
    for (int lane = 0; lane < kLanes; ++lane) n[k] += total[lane];
  }
}

// qbar_rows for the step after `step` (from 0), for the key tile that kbar and c belong to.
void RefineQueries(const MonarchShape& s, const MonarchWork& w, int64_t step) {
  const int64_t rows = s.b1(), d = s.head_dim;
  const float one = 1;
  for (int64_t j = 0; j < s.b2(); ++j) {
    const float* log_sum = w.log_sum + (step * s.b2() + j) * w.i_pad;
    Fill(w.n, rows, 0);
    Fill(w.qbar, rows * w.d_pad, 0);
    for (int64_t i = 0; i < rows; i += kBlockQueries) {
      ScoreColumn(s, w, j, i, BlockPad(rows - i));
      NormaliseLeft(rows, BlockPad(rows - i), log_sum + i, w.scores, w.n);
      Multiply({.rows = rows,
                .cols = w.d_pad,
                .depth = Least(kBlockQueries, rows - i),
                .a = w.scores,
                .a_stride = kBlockQueries,
                .b = w.q_plain + (j * rows + i) * w.d_pad,
                .b_stride = w.d_pad,
                .c = w.qbar,
                .c_stride = w.d_pad,
                .keep = &one,
                .keep_stride = 0});
    }
    for (int64_t k = 0; k < rows; ++k) {
      const double inverse = 1 / (w.n[k] + kMonarchDampingEpsilon);
      const float damping =
          static_cast<float>(inverse < kMonarchDampingMax ? inverse : kMonarchDampingMax);
      for (int64_t e = 0; e < d; ++e)
        w.qbar_rows[(k * w.d_pad + e) * w.j_pad + j] = damping * w.qbar[k * w.d_pad + e];
    }
  }
}

// The sum that normalises the L of `step`, from its running softmax.
void KeepLogSum(const MonarchShape& s, const MonarchWork& w, int64_t step) {
  float* log_sum = w.log_sum + step * s.b2() * w.i_pad;
  for (int64_t j = 0; j < s.b2(); ++j)
    for (int64_t i = 0; i < w.i_pad; ++i) {
      const int64_t at = j * w.i_pad + i;
      log_sum[at] = i < s.b1() ? w.max[at] + __builtin_log2f(w.sum[at]) : __builtin_inff();
    }
}

void StoreOutput(const MonarchArgs& args, const MonarchWork& w) {
  const MonarchShape& s = args.shape;
  const int64_t rows = s.b1(), cols = s.b2(), d = s.head_dim;
  const TokenStrides strides = s.q_strides();
  for (int64_t i = 0; i < rows; ++i) {
    const TileRow row = FindTileRow(s, w.a, i);
    const int64_t first =
        row.frame * s.rows * s.cols * strides.token + RowOffset(strides, row, w.head);
    for (int64_t j = 0; j < cols; ++j)
      StoreFloats(w.out + (j * rows + i) * w.d_pad, 1 / w.sum[j * w.i_pad + i], d, args.out,
                  s.storage, first + j * strides.token);
  }
}

}  // namespace

void AttendQueryTile(const MonarchArgs& args, const MonarchWork& w) {
  const MonarchShape& s = args.shape;
  PackQueries(args, w);
  Fill(w.key_row, s.b2() * w.d_pad, 0);
  Fill(w.value_row, s.b2() * w.d_pad, 0);
  Fill(w.qbar_rows, s.iterations > 1 ? s.b1() * w.d_pad * w.j_pad : 0, 0);
  Fill(w.out, s.b2() * s.b1() * w.d_pad, 0);
  const int64_t key_tiles = VisibleKeyTiles(s, w.a);
  for (int64_t pass = 0; pass < s.iterations; ++pass) {
    const bool last = pass == s.iterations - 1;
    Fill(w.max, s.b2() * w.i_pad, kNoMaximum);
    Fill(w.sum, s.b2() * w.i_pad, 0);
    for (int64_t f = 0; f < key_tiles; ++f) {
      for (int64_t step = 0; step < pass; ++step) {
        AverageKeyRows(args, w, f, step == 0 ? w.q_rows : w.qbar_rows, false);
        RefineQueries(s, w, step);
      }
      AverageKeyRows(args, w, f, pass == 0 ? w.q_rows : w.qbar_rows, last);
      AttendAcrossRows(s, w, last);
    }
    if (!last) KeepLogSum(s, w, pass);
  }
  StoreOutput(args, w);
}

}  // namespace mrt::MRT_ISA
