// Gradients of one step of Monarch attention, of one head, compiled once per instruction set. With
// z the logits of r, x those of L (natural logarithms), and o the output:
//
//   d_L    = d_o . vbar          d_x = L * (d_L - sum over (f,k) of L * d_L)
//   d_vbar = sum_i L * d_o       d_kbar = s * sum_i d_x * q      d_c = -sum_i d_x
//   d_r    = d_kbar . K + d_vbar . V + d_c * log r               d_z = r * (d_r - sum_l r * d_r)
//   d_V    = sum_{a,j} r * d_vbar     d_K = sum_{a,j} (r * d_kbar + s * d_z * q)
//   d_q    = s * sum over (f,k) of d_x * kbar  +  s * sum over (f,l) of d_z * K
//
// The two sums that d_x needs run over all key tiles, so a query tile passes over them twice:
// SumAcrossRows, then BackAcrossRows and BackAlongRows, last key tile first, because its means are
// still there. Nothing is stored per key tile.
#include "kernels/monarch/cpu/backward.h"

#include "kernels/common/cpu/scratch.h"
#include "kernels/monarch/cpu/tile_rows.h"

namespace mrt::MRT_ISA {
namespace {

constexpr float kLn2 = 0.6931471805599453f;
constexpr float kOnce = 1;  // Product::keep of a product that is added

// The rows of query tile a of x [frames_q, rows, cols, heads, head_dim] -> [i, j, d_pad].
void LoadQueryTile(const MonarchShape& s, const MonarchBackwardWork& w, const void* x, int64_t a,
                   float* to) {
  const int64_t frame_bytes =
      int64_t{s.rows} * s.cols * s.heads * s.head_dim * StorageBytes(s.storage);
  for (int64_t i = 0; i < s.b1(); ++i) {
    const TileRow row = FindTileRow(s, a, i);
    LoadRow(s, s.storage, s.q_strides(), static_cast<const char*>(x) + row.frame * frame_bytes, row,
            w.head, w.d_pad, to + i * w.row_floats);
  }
}

void PackQueryTile(const MonarchBackwardArgs& args, const MonarchBackwardWork& w, int64_t a) {
  const MonarchShape& s = args.shape;
  const int64_t rows = s.b1(), cols = s.b2();
  const float scale = 1 / __builtin_sqrtf(static_cast<float>(s.head_dim));
  LoadQueryTile(s, w, args.q, a, w.q);
  LoadQueryTile(s, w, args.d_out, a, w.d_out);
  for (int64_t x = 0; x < rows * w.row_floats; ++x) w.q[x] *= scale;
  for (int64_t i = 0; i < rows; ++i)
    Transpose(cols, w.d_pad, kLog2e, w.q + i * w.row_floats, w.d_pad,
              w.q_rows + i * w.d_pad * w.j_pad, w.j_pad);
  for (int64_t j = 0; j < cols; ++j) {
    Transpose(rows, w.d_pad, kLog2e, w.q + j * w.d_pad, w.row_floats,
              w.q_columns + j * w.d_pad * w.i_pad, w.i_pad);
    Transpose(rows, w.d_pad, 1, w.d_out + j * w.d_pad, w.row_floats,
              w.d_out_columns + j * w.d_pad * w.i_pad, w.i_pad);
  }
}

// z [l, cols] (base 2) -> log2 r over l in its place, r, and c of the columns.
void SoftmaxKeepingLogs(int64_t rows, int64_t cols, float* z, int64_t z_stride, float* r,
                        float* c) {
  for (int64_t col = 0; col < cols; col += kLanes) {
    float* z_col = z + col;
    float* r_col = r + col;
    Vec max = Load(z_col);
    for (int64_t l = 1; l < rows; ++l) max = Max(Load(z_col + l * z_stride), max);
    Vec sum = {}, weighted = {};  // of p, and of p * log2 p, with p not yet normalised
    for (int64_t l = 0; l < rows; ++l) {
      const Vec x = Load(z_col + l * z_stride) - max;
      const Vec p = Exp2(x);
      sum += p;
      weighted += p * x;
      Store(p, r_col + l * kBlockQueries);
    }
    Vec log_sum;
    for (int lane = 0; lane < kLanes; ++lane) log_sum[lane] = __builtin_log2f(sum[lane]);
    const Vec inverse = 1.0f / sum;
    Store(weighted * inverse - log_sum, c + col);
    const Vec shift = max + log_sum;
    for (int64_t l = 0; l < rows; ++l) {
      Store(Load(z_col + l * z_stride) - shift, z_col + l * z_stride);
      Store(inverse * Load(r_col + l * kBlockQueries), r_col + l * kBlockQueries);
    }
  }
}

// kbar, vbar and c of key tile f; if `keep`, also keys, values and log_r. If not, each row of those
// takes the place of the one before, which is still in L1.
void AverageKeyTile(const MonarchBackwardArgs& args, const MonarchBackwardWork& w, int64_t f,
                    bool keep) {
  const MonarchShape& s = args.shape;
  const TokenStrides strides = s.kv_strides();
  const int64_t rows = s.b1(), cols = s.b2();
  for (int64_t k = 0; k < rows; ++k) {
    const TileRow row = FindTileRow(s, f, k);
    const TileRow next = FindTileRow(s, f, Least(k + 1, rows - 1));
    const int64_t kept_row = keep ? k : 0;
    float* const keys = w.keys + kept_row * cols * w.d_pad;
    float* const values = w.values + kept_row * cols * w.d_pad;
    LoadRow(s, s.kv_storage(), strides, args.k_frames[row.frame], row, w.head, w.d_pad, keys);
    LoadRow(s, s.kv_storage(), strides, args.v_frames[row.frame], row, w.head, w.d_pad, values);
    PrefetchRow(s, args.k_frames[next.frame], s.kv_storage(), next, w.head);
    for (int64_t j = 0; j < cols; j += kBlockQueries) {
      const int64_t pad = Least(kBlockQueries, w.j_pad - j);
      float* log_r = w.log_r + kept_row * cols * w.j_pad + j;
      Multiply({.rows = cols,
                .cols = pad,
                .depth = s.head_dim,
                .a = keys,
                .a_stride = w.d_pad,
                .b = w.q_rows + k * w.d_pad * w.j_pad + j,
                .b_stride = w.j_pad,
                .c = log_r,
                .c_stride = w.j_pad});
      if (j == 0) PrefetchRow(s, args.v_frames[next.frame], s.kv_storage(), next, w.head);
      SoftmaxKeepingLogs(cols, pad, log_r, w.j_pad, w.scores, w.c + k * w.j_pad + j);
      Product mean = {.rows = Least(kBlockQueries, cols - j),
                      .cols = w.d_pad,
                      .depth = cols,
                      .a = w.scores,
                      .a_stride = kBlockQueries,
                      .b = keys,
                      .b_stride = w.d_pad,
                      .c = w.kbar + k * w.row_floats + j * w.d_pad,
                      .c_stride = w.d_pad};
      MultiplyTransposed(mean);
      mean.b = values;
      mean.c = w.vbar + k * w.row_floats + j * w.d_pad;
      MultiplyTransposed(mean);
    }
  }
}

// For column j and queries [i, i + pad): scores = x in base 2, d_scores = d_L, both [k, pad].
void ScoreQueries(const MonarchShape& s, const MonarchBackwardWork& w, int64_t j, int64_t i,
                  int64_t pad) {
  Product scores = {.rows = s.b1(),
                    .cols = pad,
                    .depth = s.head_dim,
                    .a = w.kbar + j * w.d_pad,
                    .a_stride = w.row_floats,
                    .b = w.q_columns + j * w.d_pad * w.i_pad + i,
                    .b_stride = w.i_pad,
                    .c = w.scores,
                    .c_stride = kBlockQueries};
  Multiply(scores);
  scores.a = w.vbar + j * w.d_pad;
  scores.b = w.d_out_columns + j * w.d_pad * w.i_pad + i;
  scores.c = w.d_scores;
  Multiply(scores);
  for (int64_t k = 0; k < s.b1(); ++k) {
    const Vec c = Splat(w.c[k * w.j_pad + j]);
    float* x = w.scores + k * kBlockQueries;
    for (int64_t lane = 0; lane < pad; lane += kLanes) Store(Load(x + lane) - c, x + lane);
  }
}

// One key tile more in the softmax of every column and in the mean of d_L, which is not yet divided
// by the sum.
void SumAcrossRows(const MonarchShape& s, const MonarchBackwardWork& w) {
  const int64_t rows = s.b1();
  for (int64_t j = 0; j < s.b2(); ++j)
    for (int64_t i = 0; i < rows; i += kBlockQueries) {
      const int64_t pad = Least(kBlockQueries, w.i_pad - i);
      const int64_t at = j * w.i_pad + i;
      ScoreQueries(s, w, j, i, pad);
      UpdateSoftmax(rows, pad, w.scores, kBlockQueries, {w.max + at, w.sum + at, w.keep});
      for (int64_t lane = 0; lane < pad; lane += kLanes) {
        Vec weighted = Load(w.keep + lane) * Load(w.mean + at + lane);
        for (int64_t k = lane; k < rows * kBlockQueries; k += kBlockQueries)
          weighted += Load(w.scores + k) * Load(w.d_scores + k);
        Store(weighted, w.mean + at + lane);
      }
    }
}

// Ends SumAcrossRows: max becomes the logarithm of the sum. Lanes past the last query get an
// infinite one, so that their L is 0.
void FinishSums(const MonarchShape& s, const MonarchBackwardWork& w) {
  for (int64_t j = 0; j < s.b2(); ++j)
    for (int64_t i = 0; i < w.i_pad; ++i) {
      const int64_t at = j * w.i_pad + i;
      w.max[at] = i < s.b1() ? w.max[at] + __builtin_log2f(w.sum[at]) : __builtin_inff();
      w.mean[at] = i < s.b1() ? w.mean[at] / w.sum[at] : 0;
    }
}

// scores = x becomes L, d_scores = d_L becomes d_x; d_c[k * d_c_stride] grows.
void BackLeftSoftmax(int64_t rows, int64_t pad, const float* log_sum, const float* mean, float* x,
                     float* d_x, float* d_c, int64_t d_c_stride) {
  for (int64_t k = 0; k < rows; ++k, x += kBlockQueries, d_x += kBlockQueries) {
    Vec total = {};
    for (int64_t lane = 0; lane < pad; lane += kLanes) {
      const Vec left = Exp2(Load(x + lane) - Load(log_sum + lane));
      const Vec d = left * (Load(d_x + lane) - Load(mean + lane));
      total += d;
      Store(left, x + lane);
      Store(d, d_x + lane);
    }
    float sum = 0;
    for (int lane = 0; lane < kLanes; ++lane) sum += total[lane];
    d_c[k * d_c_stride] -= kLn2 * sum;
  }
}

// One column of d_kbar or d_vbar takes the place of what it is the derivative by.
void StoreColumn(const MonarchShape& s, const MonarchBackwardWork& w, const float* column,
                 float* to) {
  for (int64_t k = 0; k < s.b1(); ++k)
    for (int64_t e = 0; e < w.d_pad; ++e) to[k * w.row_floats + e] = column[k * w.d_pad + e];
}

// kbar and vbar become d_kbar and d_vbar; d_c, and the part of d_q that comes through kbar.
void BackAcrossRows(const MonarchShape& s, const MonarchBackwardWork& w) {
  const int64_t rows = s.b1();
  Fill(w.d_c, rows * w.j_pad, 0);
  for (int64_t j = 0; j < s.b2(); ++j) {
    for (int64_t i = 0; i < rows; i += kBlockQueries) {
      const int64_t pad = Least(kBlockQueries, w.i_pad - i);
      const int64_t count = Least(kBlockQueries, rows - i);
      const int64_t at = j * w.i_pad + i;
      const int64_t queries = i * w.row_floats + j * w.d_pad;
      ScoreQueries(s, w, j, i, pad);
      BackLeftSoftmax(rows, pad, w.max + at, w.mean + at, w.scores, w.d_scores, w.d_c + j, w.j_pad);
      Product to_means = {.rows = rows,
                          .cols = w.d_pad,
                          .depth = count,
                          .a = w.scores,
                          .a_stride = kBlockQueries,
                          .b = w.d_out + queries,
                          .b_stride = w.row_floats,
                          .c = w.d_vbar_column,
                          .c_stride = w.d_pad,
                          .keep = i == 0 ? nullptr : &kOnce,
                          .keep_stride = 0};
      Multiply(to_means);
      to_means.a = w.d_scores;
      to_means.b = w.q + queries;
      to_means.c = w.d_kbar_column;
      Multiply(to_means);
      MultiplyTransposed({.rows = count,
                          .cols = w.d_pad,
                          .depth = rows,
                          .a = w.d_scores,
                          .a_stride = kBlockQueries,
                          .b = w.kbar + j * w.d_pad,
                          .b_stride = w.row_floats,
                          .c = w.d_q + queries,
                          .c_stride = w.row_floats,
                          .keep = &kOnce,
                          .keep_stride = 0});
    }
    StoreColumn(s, w, w.d_kbar_column, w.kbar + j * w.d_pad);
    StoreColumn(s, w, w.d_vbar_column, w.vbar + j * w.d_pad);
  }
}

// log_r -> r, and d_r (but for the part of c) becomes d_z; [l, cols].
void BackRightSoftmax(int64_t rows, int64_t cols, const float* log_r, int64_t log_r_stride,
                      const float* d_c, float* r, float* d_r) {
  for (int64_t col = 0; col < cols; col += kLanes) {
    const Vec by_c = Load(d_c + col);
    Vec mean = {};
    for (int64_t l = 0; l < rows; ++l) {
      const Vec log = Load(log_r + l * log_r_stride + col);
      const Vec p = Exp2(log);
      const Vec d = Load(d_r + l * kBlockQueries + col) + by_c * log;
      mean += p * d;
      Store(p, r + l * kBlockQueries + col);
      Store(d, d_r + l * kBlockQueries + col);
    }
    for (int64_t l = 0; l < rows; ++l) {
      const int64_t at = l * kBlockQueries + col;
      Store(Load(r + at) * (Load(d_r + at) - mean), d_r + at);
    }
  }
}

// r and d_z of row k and columns [j, j + pad) into scores and d_scores, [l, pad].
void BackToLogits(const MonarchShape& s, const MonarchBackwardWork& w, int64_t k, int64_t j,
                  int64_t pad) {
  const int64_t cols = s.b2(), first = k * w.row_floats + j * w.d_pad;
  Product by_means = {.rows = cols,
                      .cols = pad,
                      .depth = s.head_dim,
                      .a = w.keys + k * cols * w.d_pad,
                      .a_stride = w.d_pad,
                      .b = w.turned,
                      .b_stride = kBlockQueries,
                      .c = w.d_scores,
                      .c_stride = kBlockQueries};
  const int64_t count = Least(kBlockQueries, cols - j);
  Transpose(count, w.d_pad, 1, w.kbar + first, w.d_pad, w.turned, kBlockQueries);
  Multiply(by_means);
  Transpose(count, w.d_pad, 1, w.vbar + first, w.d_pad, w.turned, kBlockQueries);
  by_means.a = w.values + k * cols * w.d_pad;
  by_means.keep = &kOnce;
  by_means.keep_stride = 0;
  Multiply(by_means);
  BackRightSoftmax(cols, pad, w.log_r + k * cols * w.j_pad + j, w.j_pad, w.d_c + k * w.j_pad + j,
                   w.scores, w.d_scores);
}

// d_row [l, d_pad] is added to a row of a tile of a gradient, or begins it.
void AddRow(const MonarchShape& s, const MonarchBackwardWork& w, const TileRow& row, bool first,
            float* frame) {
  const TokenStrides strides = s.kv_strides();
  float* to = frame + RowOffset(strides, row, w.head);
  for (int64_t l = 0; l < s.b2(); ++l, to += strides.token) {
    const float* x = w.d_row + l * w.d_pad;
    for (int64_t e = 0; e < s.head_dim; ++e) to[e] = first ? x[e] : to[e] + x[e];
  }
}

// From d_kbar, d_vbar (in the places of kbar and vbar) and d_c of key tile f to its keys and
// values, and the part of d_q that comes through r.
void BackAlongRows(const MonarchBackwardArgs& args, const MonarchBackwardWork& w, int64_t f,
                   bool first_query_tile) {
  const MonarchShape& s = args.shape;
  const int64_t rows = s.b1(), cols = s.b2();
  for (int64_t k = 0; k < rows; ++k) {
    const TileRow row = FindTileRow(s, f, k);
    for (int64_t j = 0; j < cols; j += kBlockQueries) {
      const int64_t first = k * w.row_floats + j * w.d_pad;
      const int64_t count = Least(kBlockQueries, cols - j);
      const bool begins = first_query_tile && j == 0;
      PrefetchRow(s, args.d_v_frames[row.frame], StorageType::kF32, row, w.head);
      BackToLogits(s, w, k, j, Least(kBlockQueries, w.j_pad - j));
      PrefetchRow(s, args.d_k_frames[row.frame], StorageType::kF32, row, w.head);
      MultiplyTransposed({.rows = count,
                          .cols = w.d_pad,
                          .depth = cols,
                          .a = w.d_scores,
                          .a_stride = kBlockQueries,
                          .b = w.keys + k * cols * w.d_pad,
                          .b_stride = w.d_pad,
                          .c = w.d_q + first,
                          .c_stride = w.d_pad,
                          .keep = &kOnce,
                          .keep_stride = 0});
      Product to_row = {.rows = cols,
                        .cols = w.d_pad,
                        .depth = count,
                        .a = w.scores,
                        .a_stride = kBlockQueries,
                        .b = w.vbar + first,
                        .b_stride = w.d_pad,
                        .c = w.d_row,
                        .c_stride = w.d_pad};
      Multiply(to_row);
      AddRow(s, w, row, begins, args.d_v_frames[row.frame]);
      to_row.b = w.kbar + first;
      Multiply(to_row);
      to_row.a = w.d_scores;
      to_row.b = w.q + first;
      to_row.keep = &kOnce;
      to_row.keep_stride = 0;
      Multiply(to_row);
      AddRow(s, w, row, begins, args.d_k_frames[row.frame]);
    }
  }
}

void StoreQueryGradients(const MonarchBackwardArgs& args, const MonarchBackwardWork& w, int64_t a) {
  const MonarchShape& s = args.shape;
  const TokenStrides strides = s.q_strides();
  const float scale = 1 / __builtin_sqrtf(static_cast<float>(s.head_dim));
  for (int64_t i = 0; i < s.b1(); ++i) {
    const TileRow row = FindTileRow(s, a, i);
    const int64_t first =
        row.frame * s.rows * s.cols * strides.token + RowOffset(strides, row, w.head);
    for (int64_t j = 0; j < s.b2(); ++j)
      StoreFloats(w.d_q + i * w.row_floats + j * w.d_pad, scale, s.head_dim, args.d_q,
                  StorageType::kF32, first + j * strides.token);
  }
}

}  // namespace

void BackwardHead(const MonarchBackwardArgs& args, const MonarchBackwardWork& w) {
  const MonarchShape& s = args.shape;
  int64_t key_tiles_seen = 0;  // by the query tiles before; the last one sees all
  // What lies past head_dim is never written again.
  for (float* rows : {w.keys, w.values}) Fill(rows, s.b1() * s.b2() * w.d_pad, 0);
  for (float* rows : {w.q, w.d_out}) Fill(rows, s.b1() * w.row_floats, 0);
  if (kLanes < kPadFloats) {  // else Transpose writes everything
    Fill(w.q_rows, s.b1() * w.d_pad * w.j_pad, 0);
    for (float* columns : {w.q_columns, w.d_out_columns})
      Fill(columns, s.b2() * w.d_pad * w.i_pad, 0);
  }
  for (int64_t a = 0; a < TileCount(s, s.frames_q); ++a) {
    PackQueryTile(args, w, a);
    Fill(w.d_q, s.b1() * w.row_floats, 0);
    Fill(w.max, s.b2() * w.i_pad, kNoMaximum);
    for (float* sums : {w.sum, w.mean}) Fill(sums, s.b2() * w.i_pad, 0);
    const int64_t key_tiles = VisibleKeyTiles(s, a);
    for (int64_t f = 0; f < key_tiles; ++f) {
      AverageKeyTile(args, w, f, f == key_tiles - 1);
      SumAcrossRows(s, w);
    }
    FinishSums(s, w);
    for (int64_t f = key_tiles - 1; f >= 0; --f) {
      if (f < key_tiles - 1) AverageKeyTile(args, w, f, true);
      BackAcrossRows(s, w);
      BackAlongRows(args, w, f, f >= key_tiles_seen);
    }
    key_tiles_seen = key_tiles;
    StoreQueryGradients(args, w, a);
  }
}

}  // namespace mrt::MRT_ISA
