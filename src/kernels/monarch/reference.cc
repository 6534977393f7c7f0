#include "kernels/monarch/reference.h"

#include <algorithm>
#include <cmath>

#include "kernels/common/storage.h"
#include "kernels/monarch/reference_step.h"
#include "kernels/monarch/tiling.h"

namespace mrt {
namespace {

// Where head `head` of row `i`, column `j` of a tile begins in [frames, rows, cols, heads,
// head_dim].
int64_t TokenOffset(const MonarchShape& shape, int64_t tile, int64_t i, int64_t j, int64_t head) {
  const TileRow row = FindTileRow(shape, tile, i);
  const int64_t token = row.frame * shape.rows * shape.cols + row.token + j;
  return (token * shape.heads + head) * shape.head_dim;
}

// r and c: the softmax over l, and minus its entropy.
void AttendAlongRows(const TileExtents& e, const Array<4>& keys, const MonarchWeights& weights,
                     Rounding rounding, MonarchStep& step) {
  std::vector<double> z(static_cast<size_t>(e.j));
  for (int64_t f = 0; f < e.f; ++f)
    for (int64_t k = 0; k < e.i; ++k)
      for (int64_t j = 0; j < e.j; ++j) {
        for (int64_t l = 0; l < e.j; ++l) {
          double dot = 0;
          for (int64_t d = 0; d < e.d; ++d) dot += weights.qbar(f, k, j, d) * keys(f, k, l, d);
          z[l] = e.s * dot * weights.damping(f, k, j);
        }
        const double z_max = *std::max_element(z.begin(), z.end());
        double sum = 0;
        for (int64_t l = 0; l < e.j; ++l) sum += std::exp(z[l] - z_max);
        for (int64_t l = 0; l < e.j; ++l) {
          const double log_r = z[l] - z_max - std::log(sum);
          step.r(f, k, j, l) = RoundOperand(std::exp(log_r), rounding);
          step.c(f, j, k) += std::exp(log_r) * log_r;
        }
      }
}

// kbar and vbar.
void AverageRows(const TileExtents& e, const Array<4>& keys, const Array<4>& values,
                 Rounding rounding, MonarchStep& step) {
  for (int64_t f = 0; f < e.f; ++f)
    for (int64_t j = 0; j < e.j; ++j)
      for (int64_t k = 0; k < e.i; ++k)
        for (int64_t d = 0; d < e.d; ++d) {
          double kbar = 0, vbar = 0;
          for (int64_t l = 0; l < e.j; ++l) kbar += step.r(f, k, j, l) * keys(f, k, l, d);
          for (int64_t l = 0; l < e.j; ++l) vbar += step.r(f, k, j, l) * values(f, k, l, d);
          step.kbar(f, j, k, d) = RoundOperand(kbar, rounding);
          step.vbar(f, j, k, d) = RoundOperand(vbar, rounding);
        }
}

// L: the softmax over all (f,k).
void AttendAcrossRows(const TileExtents& e, const Array<4>& q, Rounding rounding,
                      MonarchStep& step) {
  Array<2> x(e.f, e.i);
  for (int64_t j = 0; j < e.j; ++j)
    for (int64_t i = 0; i < e.i; ++i) {
      double x_max = -INFINITY, sum = 0;
      for (int64_t f = 0; f < e.f; ++f)
        for (int64_t k = 0; k < e.i; ++k) {
          double dot = 0;
          for (int64_t d = 0; d < e.d; ++d) dot += q(0, i, j, d) * step.kbar(f, j, k, d);
          x(f, k) = e.s * dot - step.c(f, j, k);
          x_max = std::max(x_max, x(f, k));
        }
      for (int64_t f = 0; f < e.f; ++f)
        for (int64_t k = 0; k < e.i; ++k) sum += std::exp(x(f, k) - x_max);
      for (int64_t f = 0; f < e.f; ++f)
        for (int64_t k = 0; k < e.i; ++k)
          step.left(j, i, f, k) = RoundOperand(std::exp(x(f, k) - x_max) / sum, rounding);
    }
}

// o of one query tile: [1,i,j,d].
Array<4> AttendTile(const TileExtents& e, const Array<4>& q, const Array<4>& keys,
                    const Array<4>& values, int iterations, Rounding rounding) {
  MonarchStep step = RunMonarchStep(e, q, keys, values, FirstWeights(e, q), rounding);
  for (int n = 1; n < iterations; ++n)
    step = RunMonarchStep(e, q, keys, values, NextWeights(e, q, step, rounding), rounding);
  Array<4> out(1, e.i, e.j, e.d);
  for (int64_t i = 0; i < e.i; ++i)
    for (int64_t j = 0; j < e.j; ++j)
      for (int64_t d = 0; d < e.d; ++d) {
        double o = 0;
        for (int64_t f = 0; f < e.f; ++f)
          for (int64_t k = 0; k < e.i; ++k) o += step.left(j, i, f, k) * step.vbar(f, j, k, d);
        out(0, i, j, d) = RoundOutput(o, rounding);
      }
  return out;
}

}  // namespace

TileExtents ExtentsOf(const MonarchShape& shape, int64_t a) {
  return {.f = VisibleKeyTiles(shape, a),
          .i = shape.b1(),
          .j = shape.b2(),
          .d = shape.head_dim,
          .s = 1 / std::sqrt(static_cast<double>(shape.head_dim))};
}

Array<4> GatherTiles(const MonarchShape& shape, std::span<const double> x, int64_t head,
                     int64_t first, int64_t count) {
  Array<4> tiles(count, shape.b1(), shape.b2(), shape.head_dim);
  for (int64_t t = 0; t < count; ++t)
    for (int64_t i = 0; i < shape.b1(); ++i)
      for (int64_t j = 0; j < shape.b2(); ++j)
        for (int64_t d = 0; d < shape.head_dim; ++d)
          tiles(t, i, j, d) = x[TokenOffset(shape, first + t, i, j, head) + d];
  return tiles;
}

void ScatterTiles(const MonarchShape& shape, const Array<4>& tiles, int64_t head, int64_t first,
                  int64_t count, std::span<double> x) {
  for (int64_t t = 0; t < count; ++t)
    for (int64_t i = 0; i < shape.b1(); ++i)
      for (int64_t j = 0; j < shape.b2(); ++j)
        for (int64_t d = 0; d < shape.head_dim; ++d)
          x[TokenOffset(shape, first + t, i, j, head) + d] += tiles(t, i, j, d);
}

MonarchWeights FirstWeights(const TileExtents& e, const Array<4>& q) {
  MonarchWeights w = {Array<3>(e.f, e.i, e.j), Array<4>(e.f, e.i, e.j, e.d)};
  for (int64_t f = 0; f < e.f; ++f)
    for (int64_t k = 0; k < e.i; ++k)
      for (int64_t j = 0; j < e.j; ++j) {
        w.damping(f, k, j) = 1;
        for (int64_t d = 0; d < e.d; ++d) w.qbar(f, k, j, d) = q(0, k, j, d);
      }
  return w;
}

MonarchWeights NextWeights(const TileExtents& e, const Array<4>& q, const MonarchStep& before,
                           Rounding rounding) {
  MonarchWeights w = {Array<3>(e.f, e.i, e.j), Array<4>(e.f, e.i, e.j, e.d)};
  for (int64_t f = 0; f < e.f; ++f)
    for (int64_t k = 0; k < e.i; ++k)
      for (int64_t j = 0; j < e.j; ++j) {
        double n = 0;
        for (int64_t i = 0; i < e.i; ++i) n += before.left(j, i, f, k);
        w.damping(f, k, j) = std::min(1 / (n + kMonarchDampingEpsilon), kMonarchDampingMax);
        for (int64_t d = 0; d < e.d; ++d) {
          double qbar = 0;
          for (int64_t i = 0; i < e.i; ++i) qbar += before.left(j, i, f, k) * q(0, i, j, d);
          w.qbar(f, k, j, d) = RoundOperand(qbar, rounding);
        }
      }
  return w;
}

MonarchStep RunMonarchStep(const TileExtents& e, const Array<4>& q, const Array<4>& keys,
                           const Array<4>& values, const MonarchWeights& weights,
                           Rounding rounding) {
  MonarchStep step = {Array<4>(e.f, e.i, e.j, e.j), Array<4>(e.f, e.j, e.i, e.d),
                      Array<4>(e.f, e.j, e.i, e.d), Array<3>(e.f, e.j, e.i),
                      Array<4>(e.j, e.i, e.f, e.i)};
  AttendAlongRows(e, keys, weights, rounding, step);
  AverageRows(e, keys, values, rounding, step);
  AttendAcrossRows(e, q, rounding, step);
  return step;
}

std::vector<double> MonarchReference(const MonarchShape& shape, std::span<const double> q,
                                     std::span<const double> k, std::span<const double> v,
                                     Rounding rounding) {
  std::vector<double> out(q.size());
  for (int64_t head = 0; head < shape.heads; ++head)
    for (int64_t a = 0; a < TileCount(shape, shape.frames_q); ++a) {
      const TileExtents e = ExtentsOf(shape, a);
      const Array<4> o =
          AttendTile(e, GatherTiles(shape, q, head, a, 1), GatherTiles(shape, k, head, 0, e.f),
                     GatherTiles(shape, v, head, 0, e.f), shape.iterations, rounding);
      ScatterTiles(shape, o, head, a, 1, out);
    }
  return out;
}

void RunMonarchReference(const MonarchArgs& args) {
  const MonarchShape& s = args.shape;
  const int64_t tokens = int64_t{s.rows} * s.cols, width = int64_t{s.heads} * s.head_dim;
  const TokenStrides strides = s.kv_strides();
  std::vector<double> q, k, v;
  for (int64_t n = 0; n < s.frames_q * tokens * width; ++n)
    q.push_back(LoadElement(args.q, s.storage, n));
  for (int f = 0; f < s.frames_kv; ++f) {
    AppendTokens(args.k_frames[f], s.kv_storage(), strides, tokens, s.heads, s.head_dim, k);
    AppendTokens(args.v_frames[f], s.kv_storage(), strides, tokens, s.heads, s.head_dim, v);
  }
  const std::vector<double> out = MonarchReference(s, q, k, v);
  for (size_t n = 0; n < out.size(); ++n)
    StoreElement(out[n], args.out, s.storage, static_cast<int64_t>(n));
}

}  // namespace mrt
