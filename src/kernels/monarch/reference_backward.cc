// Gradients of monarch.h's formulas by the chain rule, through all refinement steps. A variable
// named `d_x` is the derivative of the loss by x.
#include <cmath>
#include <vector>

#include "kernels/common/storage.h"
#include "kernels/monarch/reference.h"
#include "kernels/monarch/reference_step.h"
#include "kernels/monarch/tiling.h"

namespace mrt {
namespace {

// One head and query tile: inputs, or gradients of them.
struct TileTensors {
  Array<4> q;       // [1,i,j,d]
  Array<4> keys;    // [f,k,l,d]
  Array<4> values;  // [f,k,l,d]
};

struct StepGradients {
  Array<4> d_kbar;  // [f,j,k,d]
  Array<4> d_vbar;  // [f,j,k,d]
  Array<3> d_c;     // [f,j,k]
  Array<4> d_left;  // [j,i,f,k]
};

StepGradients ZeroGradients(const TileExtents& e) {
  return {Array<4>(e.f, e.j, e.i, e.d), Array<4>(e.f, e.j, e.i, e.d), Array<3>(e.f, e.j, e.i),
          Array<4>(e.j, e.i, e.f, e.i)};
}

// o = sum over (f,k) of L * vbar
void BackThroughOutput(const TileExtents& e, const Array<4>& d_out, const MonarchStep& step,
                       StepGradients& g) {
  for (int64_t j = 0; j < e.j; ++j)
    for (int64_t i = 0; i < e.i; ++i)
      for (int64_t f = 0; f < e.f; ++f)
        for (int64_t k = 0; k < e.i; ++k)
          for (int64_t d = 0; d < e.d; ++d) {
            g.d_left(j, i, f, k) += d_out(0, i, j, d) * step.vbar(f, j, k, d);
            g.d_vbar(f, j, k, d) += step.left(j, i, f, k) * d_out(0, i, j, d);
          }
}

// L = softmax over (f,k) of x, with x = s * q . kbar - c
void BackAcrossRows(const TileExtents& e, const Array<4>& q, const MonarchStep& step,
                    StepGradients& g, Array<4>& d_q) {
  for (int64_t j = 0; j < e.j; ++j)
    for (int64_t i = 0; i < e.i; ++i) {
      double mean = 0;
      for (int64_t f = 0; f < e.f; ++f)
        for (int64_t k = 0; k < e.i; ++k) mean += step.left(j, i, f, k) * g.d_left(j, i, f, k);
      for (int64_t f = 0; f < e.f; ++f)
        for (int64_t k = 0; k < e.i; ++k) {
          const double d_x = step.left(j, i, f, k) * (g.d_left(j, i, f, k) - mean);
          g.d_c(f, j, k) -= d_x;
          for (int64_t d = 0; d < e.d; ++d) {
            d_q(0, i, j, d) += e.s * d_x * step.kbar(f, j, k, d);
            g.d_kbar(f, j, k, d) += e.s * d_x * q(0, i, j, d);
          }
        }
    }
}

// kbar = sum_l r K, vbar = sum_l r V, c = sum_l r log r, r = softmax over l of z,
// z = s * (qbar . K) * damping, damping = 1 / (n + 1e-6) unless that is kMonarchDampingMax or more.
// The result holds d_qbar, and d_n in the place of the damping.
MonarchWeights BackAlongRows(const TileExtents& e, const TileTensors& in,
                             const MonarchWeights& weights, const MonarchStep& step,
                             const StepGradients& g, TileTensors& grad) {
  MonarchWeights d_weights = {Array<3>(e.f, e.i, e.j), Array<4>(e.f, e.i, e.j, e.d)};
  std::vector<double> d_r(static_cast<size_t>(e.j));
  for (int64_t f = 0; f < e.f; ++f)
    for (int64_t k = 0; k < e.i; ++k)
      for (int64_t j = 0; j < e.j; ++j) {
        double mean = 0;
        for (int64_t l = 0; l < e.j; ++l) {
          const double r = step.r(f, k, j, l);
          d_r[l] = r > 0 ? g.d_c(f, j, k) * (std::log(r) + 1) : 0;
          for (int64_t d = 0; d < e.d; ++d) {
            d_r[l] += g.d_kbar(f, j, k, d) * in.keys(f, k, l, d) +
                      g.d_vbar(f, j, k, d) * in.values(f, k, l, d);
            grad.keys(f, k, l, d) += r * g.d_kbar(f, j, k, d);
            grad.values(f, k, l, d) += r * g.d_vbar(f, j, k, d);
          }
          mean += r * d_r[l];
        }
        const double damping = weights.damping(f, k, j);
        double d_damping = 0;
        for (int64_t l = 0; l < e.j; ++l) {
          const double d_z = step.r(f, k, j, l) * (d_r[l] - mean);
          for (int64_t d = 0; d < e.d; ++d) {
            d_damping += e.s * d_z * weights.qbar(f, k, j, d) * in.keys(f, k, l, d);
            d_weights.qbar(f, k, j, d) += e.s * d_z * damping * in.keys(f, k, l, d);
            grad.keys(f, k, l, d) += e.s * d_z * damping * weights.qbar(f, k, j, d);
          }
        }
        d_weights.damping(f, k, j) =
            damping < kMonarchDampingMax ? -d_damping * damping * damping : 0;
      }
  return d_weights;
}

// n = sum_i L and qbar = sum_i L * q, with the L of the step before.
void BackThroughWeights(const TileExtents& e, const Array<4>& q, const MonarchWeights& d_weights,
                        const MonarchStep& before, StepGradients& g, Array<4>& d_q) {
  for (int64_t f = 0; f < e.f; ++f)
    for (int64_t k = 0; k < e.i; ++k)
      for (int64_t j = 0; j < e.j; ++j)
        for (int64_t i = 0; i < e.i; ++i) {
          g.d_left(j, i, f, k) += d_weights.damping(f, k, j);
          for (int64_t d = 0; d < e.d; ++d) {
            g.d_left(j, i, f, k) += d_weights.qbar(f, k, j, d) * q(0, i, j, d);
            d_q(0, i, j, d) += before.left(j, i, f, k) * d_weights.qbar(f, k, j, d);
          }
        }
}

// In the first step qbar[f,k,j] is q[k,j].
void BackThroughFirstWeights(const TileExtents& e, const MonarchWeights& d_weights, Array<4>& d_q) {
  for (int64_t f = 0; f < e.f; ++f)
    for (int64_t k = 0; k < e.i; ++k)
      for (int64_t j = 0; j < e.j; ++j)
        for (int64_t d = 0; d < e.d; ++d) d_q(0, k, j, d) += d_weights.qbar(f, k, j, d);
}

TileTensors TileBackward(const TileExtents& e, const TileTensors& in, const Array<4>& d_out,
                         int iterations) {
  std::vector<MonarchWeights> weights = {FirstWeights(e, in.q)};
  std::vector<MonarchStep> steps;
  for (int n = 0; n < iterations; ++n) {
    if (n > 0) weights.push_back(NextWeights(e, in.q, steps.back(), Rounding::kNone));
    steps.push_back(RunMonarchStep(e, in.q, in.keys, in.values, weights.back(), Rounding::kNone));
  }
  TileTensors grad = {Array<4>(1, e.i, e.j, e.d), Array<4>(e.f, e.i, e.j, e.d),
                      Array<4>(e.f, e.i, e.j, e.d)};
  StepGradients g = ZeroGradients(e);
  BackThroughOutput(e, d_out, steps.back(), g);
  for (int n = iterations - 1; n >= 0; --n) {
    BackAcrossRows(e, in.q, steps[n], g, grad.q);
    const MonarchWeights d_weights = BackAlongRows(e, in, weights[n], steps[n], g, grad);
    if (n == 0) {
      BackThroughFirstWeights(e, d_weights, grad.q);
    } else {
      g = ZeroGradients(e);
      BackThroughWeights(e, in.q, d_weights, steps[n - 1], g, grad.q);
    }
  }
  return grad;
}

}  // namespace

MonarchGradients MonarchReferenceBackward(const MonarchShape& shape, std::span<const double> q,
                                          std::span<const double> k, std::span<const double> v,
                                          std::span<const double> grad_out) {
  MonarchGradients total = {std::vector<double>(q.size()), std::vector<double>(k.size()),
                            std::vector<double>(v.size())};
  for (int64_t head = 0; head < shape.heads; ++head)
    for (int64_t a = 0; a < TileCount(shape, shape.frames_q); ++a) {
      const TileExtents e = ExtentsOf(shape, a);
      const TileTensors in = {GatherTiles(shape, q, head, a, 1),
                              GatherTiles(shape, k, head, 0, e.f),
                              GatherTiles(shape, v, head, 0, e.f)};
      const TileTensors grad =
          TileBackward(e, in, GatherTiles(shape, grad_out, head, a, 1), shape.iterations);
      ScatterTiles(shape, grad.q, head, a, 1, total.q);
      ScatterTiles(shape, grad.keys, head, 0, e.f, total.k);
      ScatterTiles(shape, grad.values, head, 0, e.f, total.v);
    }
  return total;
}

void RunMonarchReferenceBackward(const MonarchBackwardArgs& args) {
  const MonarchShape& s = args.shape;
  const int64_t tokens = int64_t{s.rows} * s.cols, width = int64_t{s.heads} * s.head_dim;
  const TokenStrides strides = s.kv_strides();
  std::vector<double> q, k, v, d_out;
  for (int64_t n = 0; n < s.frames_q * tokens * width; ++n) {
    q.push_back(LoadElement(args.q, s.storage, n));
    d_out.push_back(LoadElement(args.d_out, s.storage, n));
  }
  for (int f = 0; f < s.frames_kv; ++f) {
    AppendTokens(args.k_frames[f], s.kv_storage(), strides, tokens, s.heads, s.head_dim, k);
    AppendTokens(args.v_frames[f], s.kv_storage(), strides, tokens, s.heads, s.head_dim, v);
  }
  const MonarchGradients d = MonarchReferenceBackward(s, q, k, v, d_out);
  for (size_t n = 0; n < d.q.size(); ++n) args.d_q[n] = static_cast<float>(d.q[n]);
  for (int64_t t = 0; t < s.frames_kv * tokens; ++t)
    for (int64_t c = 0; c < width; ++c) {
      const int64_t frame = t / tokens, head = c / s.head_dim;
      const int64_t to = t % tokens * strides.token + head * strides.head + c % s.head_dim;
      const auto from = static_cast<size_t>(t * width + c);
      args.d_k_frames[frame][to] = static_cast<float>(d.k[from]);
      args.d_v_frames[frame][to] = static_cast<float>(d.v[from]);
    }
}

}  // namespace mrt
