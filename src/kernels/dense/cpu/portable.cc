// Dense attention of one head and up to kTaskQueries queries, compiled once per instruction set.
#include "kernels/dense/cpu/portable.h"

#include "kernels/common/cpu/tile_math.h"

namespace mrt::MRT_ISA {
namespace {

// Queries -> [d_pad, kTaskQueries], with zeros past the last query where blocks end. w.keys, not
// yet in use, holds some of them on the way; what lies there past head_dim is zero.
void PackQueries(const DenseArgs& args, const DenseWork& w) {
  const DenseShape& s = args.shape;
  for (int64_t i = 0; i < w.queries; i += kBlockKeys) {
    const int64_t count = Least(kBlockKeys, w.queries - i);
    for (int64_t n = 0; n < count; ++n)
      LoadFloats(args.q, s.storage, ((w.first_query + i + n) * s.heads + w.head) * s.head_dim,
                 s.head_dim, w.keys + n * w.d_pad);
    Transpose(count, w.d_pad, s.scale * kLog2e, w.keys, w.d_pad, w.q + i, kTaskQueries);
  }
}

// Key tokens [first, first + count) -> [count, d_pad]; what lies past head_dim is zero already.
void LoadTokens(const DenseShape& s, const void* const* frames, const DenseWork& w, int64_t first,
                int64_t count, float* to) {
  const TokenStrides strides = s.kv_strides();
  int64_t frame = first / s.tokens_per_frame, token = first % s.tokens_per_frame;
  for (int64_t l = 0; l < count; ++l) {
    LoadFloats(frames[frame], s.kv_storage(), token * strides.token + w.head * strides.head,
               s.head_dim, to + l * w.d_pad);
    if (++token == s.tokens_per_frame) ++frame, token = 0;
  }
}

// scores [l, query] += the bias of each key; `queries` fill whole vectors.
void AddKeyBias(const float* bias, const DenseWork& w, int64_t queries, int64_t keys) {
  for (int64_t key = 0; key < keys; ++key)
    for (int64_t query = 0; query < queries; query += kLanes) {
      float* const x = w.scores + key * kBlockQueries + query;
      Store(Load(x) + kLog2e * Splat(bias[key]), x);
    }
}

// scores [l, query] += bias of the queries [i, i + queries) and the keys [l, l + keys).
void AddBias(const DenseArgs& args, const DenseWork& w, int64_t i, int64_t queries, int64_t l,
             int64_t keys) {
  const BiasPlace place = FindBias(args, w.head, w.first_query + i);
  const float* bias = args.bias + place.first + l;
  for (int64_t query = 0; query < queries; ++query)
    for (int64_t key = 0; key < keys; ++key)
      w.scores[key * kBlockQueries + query] += kLog2e * bias[query * place.query_stride + key];
}

// The keys [l, l + keys), which are loaded, in the softmax and the output of the queries [i, ...).
void AttendBlock(const DenseArgs& args, const DenseWork& w, int64_t i, int64_t l, int64_t keys) {
  const int64_t queries = Least(kBlockQueries, w.queries - i);
  const int64_t queries_pad = (queries + kLanes - 1) / kLanes * kLanes;
  Multiply({.rows = keys,
            .cols = queries_pad,
            .depth = args.shape.head_dim,
            .a = w.keys,
            .a_stride = w.d_pad,
            .b = w.q + i,
            .b_stride = kTaskQueries,
            .c = w.scores,
            .c_stride = kBlockQueries});
  if (args.bias != nullptr && args.key_bias) {
    AddKeyBias(args.bias + l, w, queries_pad, keys);
  } else if (args.bias != nullptr) {
    AddBias(args, w, i, queries, l, keys);
  }
  UpdateSoftmax(keys, queries_pad, w.scores, kBlockQueries, {w.max + i, w.sum + i, w.keep});
  MultiplyTransposed({.rows = queries,
                      .cols = w.d_pad,
                      .depth = keys,
                      .a = w.scores,
                      .a_stride = kBlockQueries,
                      .b = w.values,
                      .b_stride = w.d_pad,
                      .c = w.out + i * w.d_pad,
                      .c_stride = w.d_pad,
                      .keep = w.keep});
}

}  // namespace

void AttendQueries(const DenseArgs& args, const DenseWork& w) {
  const DenseShape& s = args.shape;
  Fill(w.keys, kBlockKeys * w.d_pad, 0);
  PackQueries(args, w);
  Fill(w.values, kBlockKeys * w.d_pad, 0);
  Fill(w.max, kTaskQueries, kNoMaximum);
  Fill(w.sum, kTaskQueries, 0);
  Fill(w.out, kTaskQueries * w.d_pad, 0);
  for (int64_t l = 0; l < w.keys_visible; l += kBlockKeys) {
    const int64_t keys = Least(kBlockKeys, w.keys_visible - l);
    LoadTokens(s, args.k_frames, w, l, keys, w.keys);
    LoadTokens(s, args.v_frames, w, l, keys, w.values);
    for (int64_t i = 0; i < w.queries; i += kBlockQueries) AttendBlock(args, w, i, l, keys);
  }
  for (int64_t i = 0; i < w.queries; ++i)
    StoreFloats(w.out + i * w.d_pad, 1 / w.sum[i], s.head_dim, args.out, s.storage,
                ((w.first_query + i) * s.heads + w.head) * s.head_dim);
}

}  // namespace mrt::MRT_ISA
