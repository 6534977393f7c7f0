#include "kernels/sparse/reference.h"

#include <algorithm>
#include <cmath>

#include "kernels/common/storage.h"
#include "kernels/sparse/pattern.h"

namespace mrt {
namespace {

struct Key {
  int64_t index = 0;
  double score = 0;  // not scaled: equal ones stay equal
};

bool ScoresMore(const Key& a, const Key& b) {
  if (std::isnan(a.score) != std::isnan(b.score)) return std::isnan(a.score);
  if (a.score != b.score && !std::isnan(a.score)) return a.score > b.score;
  return a.index < b.index;
}

// The keys that query token i of all frames keeps, and their scores.
template <typename Score>
std::vector<Key> KeptKeys(const SparseShape& s, const SparsePlan& plan, int64_t i, Score&& score) {
  const int64_t a = i / s.tokens(), seen = VisibleFrames(s, a) * s.tokens();
  const GridPosition query = {s.frames_kv - s.frames_q + a, i % s.tokens()};
  std::vector<Key> keys;
  for (int64_t l = 0; l < seen; ++l)
    if (s.pattern == SparsePattern::kTopK ||
        PatternKeeps(s, plan, query, {l / s.tokens(), l % s.tokens()}))
      keys.push_back({l, score(l)});
  if (s.pattern == SparsePattern::kTopK) {
    std::sort(keys.begin(), keys.end(), ScoresMore);
    keys.resize(static_cast<size_t>(KeptByTopK(s.density, seen)));
  }
  return keys;
}

}  // namespace

std::vector<double> SparseReference(const SparseShape& shape, std::span<const double> q,
                                    std::span<const double> k, std::span<const double> v,
                                    Rounding rounding) {
  const int64_t heads = shape.heads, head_dim = shape.head_dim;
  const double scale = 1 / std::sqrt(static_cast<double>(head_dim));
  const SparsePlan plan = PlanSparse(shape);
  std::vector<double> out(q.size());
  for (int64_t h = 0; h < heads; ++h)
    for (int64_t i = 0; i < shape.frames_q * shape.tokens(); ++i) {
      std::vector<Key> keys = KeptKeys(shape, plan, i, [&](int64_t l) {
        double dot = 0;
        for (int64_t d = 0; d < head_dim; ++d)
          dot += q[(i * heads + h) * head_dim + d] * k[(l * heads + h) * head_dim + d];
        return dot;
      });
      double most = -INFINITY, sum = 0;
      for (const Key& key : keys) most = std::max(most, key.score);
      for (const Key& key : keys) sum += std::exp(scale * (key.score - most));
      for (int64_t d = 0; d < head_dim; ++d) {
        double o = 0;
        for (const Key& key : keys)
          o += std::exp(scale * (key.score - most)) / sum *
               v[(key.index * heads + h) * head_dim + d];
        out[(i * heads + h) * head_dim + d] = RoundOutput(o, rounding);
      }
    }
  return out;
}

void RunSparseReference(const SparseArgs& args) {
  const SparseShape& s = args.shape;
  const int64_t tokens = s.tokens(), width = int64_t{s.heads} * s.head_dim;
  const TokenStrides strides = s.kv_strides();
  std::vector<double> q, k, v;
  for (int64_t n = 0; n < s.frames_q * tokens * width; ++n)
    q.push_back(LoadElement(args.q, s.storage, n));
  for (int f = 0; f < s.frames_kv; ++f) {
    AppendTokens(args.k_frames[f], s.kv_storage(), strides, tokens, s.heads, s.head_dim, k);
    AppendTokens(args.v_frames[f], s.kv_storage(), strides, tokens, s.heads, s.head_dim, v);
  }
  const std::vector<double> out = SparseReference(s, q, k, v);
  for (size_t n = 0; n < out.size(); ++n)
    StoreElement(out[n], args.out, s.storage, static_cast<int64_t>(n));
}

}  // namespace mrt
