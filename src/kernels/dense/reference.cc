#include "kernels/dense/reference.h"

#include <algorithm>
#include <cmath>

#include "kernels/common/storage.h"

namespace mrt {

std::vector<double> DenseReference(const DenseShape& shape, std::span<const double> q,
                                   std::span<const double> k, std::span<const double> v,
                                   std::span<const float> bias, Rounding rounding) {
  const int64_t heads = shape.heads, head_dim = shape.head_dim;
  const int64_t tokens_kv = shape.frames_kv * shape.tokens_per_frame;
  std::vector<double> out(q.size());
  std::vector<double> p(static_cast<size_t>(tokens_kv));
  for (int64_t h = 0; h < heads; ++h)
    for (int64_t i = 0; i < shape.tokens_q; ++i) {
      const int64_t visible = VisibleKeyFrames(shape, i) * shape.tokens_per_frame;
      double x_max = -INFINITY, sum = 0;
      for (int64_t l = 0; l < visible; ++l) {
        double dot = 0;
        for (int64_t d = 0; d < head_dim; ++d)
          dot += q[(i * heads + h) * head_dim + d] * k[(l * heads + h) * head_dim + d];
        p[l] = shape.scale * dot;
        if (!bias.empty()) p[l] += bias[(h * shape.tokens_q + i) * tokens_kv + l];
        x_max = std::max(x_max, p[l]);
      }
      for (int64_t l = 0; l < visible; ++l) sum += std::exp(p[l] - x_max);
      for (int64_t l = 0; l < visible; ++l)
        p[l] = RoundOperand(std::exp(p[l] - x_max) / sum, rounding);
      for (int64_t d = 0; d < head_dim; ++d) {
        double o = 0;
        for (int64_t l = 0; l < visible; ++l) o += p[l] * v[(l * heads + h) * head_dim + d];
        out[(i * heads + h) * head_dim + d] = RoundOutput(o, rounding);
      }
    }
  return out;
}

void RunDenseReference(const DenseArgs& args) {
  const DenseShape& s = args.shape;
  const int64_t token_elements = int64_t{s.heads} * s.head_dim;
  const TokenStrides strides = s.kv_strides();
  std::vector<double> q, k, v;
  for (int64_t n = 0; n < s.tokens_q * token_elements; ++n)
    q.push_back(LoadElement(args.q, s.storage, n));
  for (int f = 0; f < s.frames_kv; ++f) {
    AppendTokens(args.k_frames[f], s.kv_storage(), strides, s.tokens_per_frame, s.heads, s.head_dim,
                 k);
    AppendTokens(args.v_frames[f], s.kv_storage(), strides, s.tokens_per_frame, s.heads, s.head_dim,
                 v);
  }
  std::vector<float> bias;
  const int64_t keys = s.frames_kv * s.tokens_per_frame;
  for (int64_t n = 0; args.bias != nullptr && n < s.heads * s.tokens_q; ++n) {
    const float* const of_query = args.bias + FindBias(args, n / s.tokens_q, n % s.tokens_q).first;
    bias.insert(bias.end(), of_query, of_query + keys);
  }
  const std::vector<double> out = DenseReference(s, q, k, v, bias);
  for (size_t n = 0; n < out.size(); ++n)
    StoreElement(out[n], args.out, s.storage, static_cast<int64_t>(n));
}

}  // namespace mrt
