// Dense attention of one head and one block of queries, compiled once per instruction set.
#include "kernels/dense/cpu/portable.h"

#include "kernels/common/cpu/scratch.h"
#include "kernels/common/cpu/tile_math.h"

namespace mrt::MRT_ISA {
namespace {

// Queries -> [d, kBlockQueries]; the columns past the last query are zero.
void PackQueries(const DenseArgs& args, const DenseWork& w) {
  const DenseShape& s = args.shape;
  const int64_t d = s.head_dim;
  Fill(w.q, d * kBlockQueries, 0);
  for (int64_t i = 0; i < w.queries; ++i) {
    float* token = w.keys;  // not yet in use
    LoadFloats(args.q, s.storage, ((w.first_query + i) * s.heads + w.head) * d, d, token);
    for (int64_t e = 0; e < d; ++e) w.q[e * kBlockQueries + i] = s.scale * kLog2e * token[e];
  }
}

// Key tokens [first, first + count) -> [count, d_pad]; what lies past head_dim is zero already.
void LoadTokens(const DenseShape& s, const void* const* frames, const DenseWork& w, int64_t first,
                int64_t count, float* to) {
  int64_t frame = first / s.tokens_per_frame, token = first % s.tokens_per_frame;
  for (int64_t l = 0; l < count; ++l) {
    LoadFloats(frames[frame], s.storage, (token * s.heads + w.head) * s.head_dim, s.head_dim,
               to + l * w.d_pad);
    if (++token == s.tokens_per_frame) ++frame, token = 0;
  }
}

// scores [l, query] += bias of the keys [first, first + count).
void AddBias(const DenseArgs& args, const DenseWork& w, int64_t first, int64_t count) {
  const DenseShape& s = args.shape;
  const int64_t tokens_kv = s.frames_kv * s.tokens_per_frame;
  const float* bias = args.bias + (w.head * s.tokens_q + w.first_query) * tokens_kv + first;
  for (int64_t i = 0; i < w.queries; ++i)
    for (int64_t l = 0; l < count; ++l)
      w.scores[l * kBlockQueries + i] += kLog2e * bias[i * tokens_kv + l];
}

}  // namespace

void AttendQueryBlock(const DenseArgs& args, const DenseWork& w) {
  const DenseShape& s = args.shape;
  PackQueries(args, w);
  Fill(w.keys, kBlockKeys * w.d_pad, 0);
  Fill(w.values, kBlockKeys * w.d_pad, 0);
  Fill(w.max, kBlockQueries, kNoMaximum);
  Fill(w.sum, kBlockQueries, 0);
  Fill(w.out, kBlockQueries * w.d_pad, 0);
  for (int64_t first = 0; first < w.keys_visible; first += kBlockKeys) {
    const int64_t count = Least(kBlockKeys, w.keys_visible - first);
    LoadTokens(s, args.k_frames, w, first, count, w.keys);
    LoadTokens(s, args.v_frames, w, first, count, w.values);
    Multiply({.rows = count,
              .cols = w.queries_pad,
              .depth = s.head_dim,
              .a = w.keys,
              .a_stride = w.d_pad,
              .b = w.q,
              .b_stride = kBlockQueries,
              .c = w.scores,
              .c_stride = kBlockQueries});
    if (args.bias != nullptr) AddBias(args, w, first, count);
    UpdateSoftmax(count, w.queries_pad, w.scores, kBlockQueries, {w.max, w.sum, w.keep});
    MultiplyTransposed({.rows = w.queries,
                        .cols = w.d_pad,
                        .depth = count,
                        .a = w.scores,
                        .a_stride = kBlockQueries,
                        .b = w.values,
                        .b_stride = w.d_pad,
                        .c = w.out,
                        .c_stride = w.d_pad,
                        .keep = w.keep});
  }
  for (int64_t i = 0; i < w.queries; ++i)
    StoreFloats(w.out + i * w.d_pad, 1 / w.sum[i], s.head_dim, args.out, s.storage,
                ((w.first_query + i) * s.heads + w.head) * s.head_dim);
}

}  // namespace mrt::MRT_ISA
