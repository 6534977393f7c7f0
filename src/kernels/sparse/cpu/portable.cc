// Sparse attention of one head and up to kSparseQueries queries of a frame, compiled once per
// instruction set.
#include "kernels/sparse/cpu/portable.h"

#include "kernels/common/cpu/tile_math.h"

namespace mrt::MRT_ISA {
namespace {

// Of the first query; that of the query i is i * heads * head_dim further.
int64_t FirstElement(const SparseShape& s, const SparseWork& w) {
  return ((w.frame * s.tokens() + w.first_query) * s.heads + w.head) * s.head_dim;
}

// Queries -> [d, kSparseQueries], not scaled, so that equal scores stay equal; the columns past the
// last query are zero.
void PackQueries(const SparseArgs& args, const SparseWork& w) {
  const SparseShape& s = args.shape;
  const int64_t d = s.head_dim;
  Fill(w.q, d * kSparseQueries, 0);
  for (int64_t i = 0; i < w.queries; ++i) {
    LoadFloats(args.q, s.storage, FirstElement(s, w) + i * s.heads * d, d, w.value);
    for (int64_t e = 0; e < d; ++e) w.q[e * kSparseQueries + i] = w.value[e];
  }
}

// The scores of all queries with all keys of the spans; returns how many keys.
int64_t ScoreKeys(const SparseArgs& args, const SparseWork& w) {
  const SparseShape& s = args.shape;
  const TokenStrides strides = s.kv_strides();
  int64_t slot = 0;
  for (int64_t f = 0; f < w.frames; ++f)
    for (int64_t l = 0; l < w.spans[f].count; l += kSparseKeys) {
      const int64_t keys = Least(kSparseKeys, w.spans[f].count - l);
      for (int64_t n = 0; n < keys; ++n) {
        const int64_t token = w.spans[f].first + l + n;
        LoadFloats(args.k_frames[f], s.kv_storage(), token * strides.token + w.head * strides.head,
                   s.head_dim, w.keys + n * w.d_pad);
      }
      Multiply({.rows = keys,
                .cols = kSparseQueries,
                .depth = s.head_dim,
                .a = w.keys,
                .a_stride = w.d_pad,
                .b = w.q,
                .b_stride = kSparseQueries,
                .c = w.block,
                .c_stride = kSparseQueries});
      for (int64_t i = 0; i < w.queries; ++i)
        for (int64_t n = 0; n < keys; ++n)
          w.scores[i * w.slots + slot + n] = w.block[n * kSparseQueries + i];
      slot += keys;
    }
  return slot;
}

int64_t ChooseKeys(const SparseShape& s, const SparseWork& w, int64_t i, int64_t keys) {
  if (s.pattern != SparsePattern::kTopK)
    return KeepPattern(s, *w.plan, {s.frames_kv - s.frames_q + w.frame, w.first_query + i}, w.spans,
                       w.frames, w.kept);
  return KeepLargest(w.scores + i * w.slots, keys, KeptByTopK(s.density, keys), w.kept);
}

// weights [count] = the weights of the kept keys, times their sum, which is returned.
float Weigh(const SparseShape& s, const SparseWork& w, int64_t i, int64_t count) {
  float most = kNoMaximum;
  for (int64_t n = 0; n < count; ++n) {
    w.weights[n] = w.scores[i * w.slots + w.kept[n]];
    most = w.weights[n] > most ? w.weights[n] : most;
  }
  const float scale = kLog2e / __builtin_sqrtf(static_cast<float>(s.head_dim));
  double sum = 0;
  for (int64_t n = 0; n < count; n += kLanes) {
    const int64_t lanes = Least(kLanes, count - n);
    float x[kLanes] = {};
    for (int64_t lane = 0; lane < lanes; ++lane) x[lane] = scale * (w.weights[n + lane] - most);
    Store(Exp2(Load(x)), x);
    for (int64_t lane = 0; lane < lanes; ++lane) {
      w.weights[n + lane] = x[lane];
      sum += x[lane];
    }
  }
  return static_cast<float>(sum);
}

// out = the sum of the kept keys' values times weights.
void AddValues(const SparseArgs& args, const SparseWork& w, int64_t count) {
  const SparseShape& s = args.shape;
  const TokenStrides strides = s.kv_strides();
  Fill(w.out, w.d_pad, 0);
  int64_t f = 0, frame_slot = 0;  // the first key of frame f
  for (int64_t n = 0; n < count; ++n) {
    while (w.kept[n] >= frame_slot + w.spans[f].count) frame_slot += w.spans[f++].count;
    const int64_t token = w.spans[f].first + w.kept[n] - frame_slot;
    LoadFloats(args.v_frames[f], s.kv_storage(), token * strides.token + w.head * strides.head,
               s.head_dim, w.value);
    for (int64_t e = 0; e < w.d_pad; e += kLanes)
      Store(Load(w.out + e) + w.weights[n] * Load(w.value + e), w.out + e);
  }
}

}  // namespace

void AttendKept(const SparseArgs& args, const SparseWork& w) {
  const SparseShape& s = args.shape;
  Fill(w.value, w.d_pad, 0);
  PackQueries(args, w);
  const int64_t keys = ScoreKeys(args, w);
  for (int64_t i = 0; i < w.queries; ++i) {
    const int64_t count = ChooseKeys(s, w, i, keys);
    const float sum = Weigh(s, w, i, count);
    AddValues(args, w, count);
    StoreFloats(w.out, 1 / sum, s.head_dim, args.out, s.storage,
                FirstElement(s, w) + i * s.heads * s.head_dim);
  }
}

}  // namespace mrt::MRT_ISA
