// Dense attention of one head and some queries by products of tiles, compiled for AMX and for
// AVX-512 BF16. Flash style: blocks of keys outside, so that
// all queries share a packed block, and blocks of queries inside. Scores come out transposed,
// one query per lane, so that the softmax does not shuffle; weights are transposed once they are
// bf16.
#include "kernels/dense/cpu/amx.h"

#include "kernels/common/cpu/amx_math.h"

namespace mrt::MRT_ISA {
namespace {

struct Sizes {
  int64_t d;
  int64_t chunks;      // of 32 channels
  int64_t row_bytes;   // of one token of one head
  TokenStrides q, kv;  // in bytes
  float scale;         // softmaxes use 2^x
};

Sizes SizesOf(const DenseShape& s) {
  const int64_t d = s.head_dim;
  return {.d = d,
          .chunks = d / kTileDepth,
          .row_bytes = d * 2,
          .q = InBytes(s.q_strides()),
          .kv = InBytes(s.kv_strides()),
          .scale = s.scale * kLog2e};
}

// q: B of the scores.
void PackQueries(const DenseArgs& args, const Sizes& z, const DenseAmxWork& w) {
  const char* rows[16] = {};
  __m512i x[16];
  for (int64_t tile = 0; tile < w.query_tiles; ++tile) {
    const int64_t left = w.queries - tile * 16, count = left < 16 ? left : 16;
    for (int64_t t = 0; t < count; ++t)
      rows[t] = static_cast<const char*>(args.q) + (w.first_query + tile * 16 + t) * z.q.token +
                w.head * z.q.head;
    char* to = w.q + tile * 16 * z.row_bytes;
    for (int64_t chunk = 0; chunk < z.chunks; ++chunk) {
      LoadTransposed(rows, count, x);
      for (int64_t pair = 0; pair < 16; ++pair)
        _mm512_storeu_si512(to + (chunk * 16 + pair) * kTileRowBytes, x[pair]);
      for (int64_t t = 0; t < count; ++t) rows[t] += kTileRowBytes;
    }
  }
}

// Walks through the key tokens of all frames.
struct TokenCursor {
  int64_t frame;
  int64_t token;
};

inline const char* NextToken(const DenseShape& s, const Sizes& z, const void* const* frames,
                             int64_t head, TokenCursor& at) {
  const char* token =
      static_cast<const char*>(frames[at.frame]) + at.token * z.kv.token + head * z.kv.head;
  if (++at.token == s.tokens_per_frame) ++at.frame, at.token = 0;
  return token;
}

// The next block is asked for while this one is at work, some tokens at a time: the hardware does
// not foresee tokens that lie heads * head_dim apart.
void PrefetchTokens(const DenseArgs& args, const Sizes& z, const DenseAmxWork& w, int64_t first,
                    int64_t count) {
  const DenseShape& s = args.shape;
  TokenCursor key = {first / s.tokens_per_frame, first % s.tokens_per_frame}, value = key;
  for (int64_t t = first; t < first + count && t < w.keys_visible; ++t) {
    const char* k = NextToken(s, z, args.k_frames, w.head, key);
    const char* v = NextToken(s, z, args.v_frames, w.head, value);
    for (int64_t at = 0; at < z.row_bytes; at += kTileRowBytes) {
      _mm_prefetch(k + at, _MM_HINT_T1);
      _mm_prefetch(v + at, _MM_HINT_T1);
    }
  }
}

// Keys [first, first + count) and their values. Pairs past `count` are left as they are: their
// weights are zero.
void PackKeys(const DenseArgs& args, const Sizes& z, const DenseAmxWork& w, int64_t first,
              int64_t count) {
  const DenseShape& s = args.shape;
  TokenCursor key = {first / s.tokens_per_frame, first % s.tokens_per_frame}, value = key;
  for (int64_t t = 0; t < count; ++t) {
    const char* from = NextToken(s, z, args.k_frames, w.head, key);
    for (int64_t at = 0; at < z.row_bytes; at += kTileRowBytes)
      _mm512_storeu_si512(w.keys + t * z.row_bytes + at, _mm512_loadu_si512(from + at));
  }
  for (int64_t t = 0; t < count; t += 2) {
    const char* even = NextToken(s, z, args.v_frames, w.head, value);
    const char* odd = t + 1 < count ? NextToken(s, z, args.v_frames, w.head, value) : nullptr;
    for (int64_t at = 0; at < z.row_bytes; at += kTileRowBytes) {
      const __m512i x = odd == nullptr ? _mm512_setzero_si512() : _mm512_loadu_si512(odd + at);
      StorePairs(_mm512_loadu_si512(even + at), x, w.values + t * z.row_bytes + 2 * at);
    }
  }
}

// Some of the packed keys, and a block of queries.
struct Block {
  int64_t key;  // the first one, in the packed block
  int64_t keys;
  int64_t first_tile;  // of 16 queries
  int64_t tiles;       // at most kAmxBlockTiles
};

// scores [key, kAmxBlockQueries].
void ScoreBlock(const Sizes& z, const DenseAmxWork& w, const Block& b, float* scores) {
  constexpr int64_t kScoreStride = kAmxBlockQueries * int64_t{sizeof(float)};
  MultiplyAllTiles<false>({.a = w.keys + b.key * z.row_bytes,
                           .a_stride = z.row_bytes,
                           .a_next = 16 * z.row_bytes,
                           .b = w.q + b.first_tile * 16 * z.row_bytes,
                           .b_stride = kTileRowBytes,
                           .b_next = 16 * z.row_bytes,
                           .pairs = z.d / 2,
                           .c = reinterpret_cast<char*>(scores),
                           .c_stride = kScoreStride,
                           .c_next_row = 16 * kScoreStride,
                           .c_next_col = kTileRowBytes},
                          CeilDiv(b.keys, 16), b.tiles);
}

// scores become logits: times scale, plus the bias. Key 0 of the packed block is `first_key`.
void AddBias(const DenseArgs& args, const Sizes& z, const DenseAmxWork& w, int64_t first_key,
             const Block& b, float* scores) {
  const __m512 scale = _mm512_set1_ps(z.scale), log2e = _mm512_set1_ps(kLog2e);
  for (int64_t tile = b.first_tile; tile < b.first_tile + b.tiles; ++tile) {
    const BiasPlace place = FindBias(args, w.head, w.first_query + tile * 16);
    const float* bias = args.bias + place.first + first_key + b.key;
    const int64_t queries = w.queries - tile * 16;
    for (int64_t key = 0; key < b.keys; key += 16) {
      const int64_t left = b.keys - key;
      const __mmask16 lanes = left < 16 ? (1u << left) - 1 : 0xffff;
      __m512i x[16];
      for (int64_t t = 0; t < 16; ++t)
        x[t] = t < queries ? _mm512_maskz_loadu_epi32(lanes, bias + t * place.query_stride + key)
                           : _mm512_setzero_si512();
      Transpose(x);
      for (int64_t t = 0; t < 16 && t < left; ++t) {
        float* at = scores + (key + t) * kAmxBlockQueries + (tile - b.first_tile) * 16;
        _mm512_storeu_ps(at, _mm512_fmadd_ps(_mm512_castsi512_ps(x[t]), log2e,
                                             _mm512_mul_ps(_mm512_loadu_ps(at), scale)));
      }
    }
  }
}

constexpr int64_t kWeightsStride = kAmxBlockKeys * 2;  // bytes between queries

// out += weights * values.
void AddValues(const Sizes& z, const DenseAmxWork& w, const Block& b) {
  if (b.keys == 0) return;
  const int64_t out_stride = z.d * int64_t{sizeof(float)};
  MultiplyAllTiles<true>({.a = w.weights + b.key * 2,
                          .a_stride = kWeightsStride,
                          .a_next = 16 * kWeightsStride,
                          .b = w.values + b.key * z.row_bytes,
                          .b_stride = 2 * z.row_bytes,
                          .b_next = kTileRowBytes,
                          .pairs = CeilDiv(b.keys, 2),
                          .c = reinterpret_cast<char*>(w.out + b.first_tile * 16 * z.d),
                          .c_stride = out_stride,
                          .c_next_row = 16 * out_stride,
                          .c_next_col = kTileRowBytes},
                         b.tiles, z.d / 16);
}

// scores -> weights and the running softmax. Before a maximum changes, `flush` adds what was
// weighed with the old one.
template <typename Flush>
void SoftmaxBlock(const Sizes& z, const DenseAmxWork& w, const Block& b, float scale, float* scores,
                  const Flush& flush) {
  for (int64_t t = 0; t < b.tiles; ++t) {
    const int64_t query = (b.first_tile + t) * 16;
    UpdateSoftmax(
        b.keys, {.scores = scores + t * 16, .scores_stride = kAmxBlockQueries, .scale = scale},
        {.max = w.max + query, .sum = w.sum + query, .out = w.out + query * z.d, .d = z.d},
        w.weights + t * 16 * kWeightsStride + b.key * 2, kWeightsStride, flush, [](int64_t) {});
  }
}

// All queries against the packed keys, the first of which is `first_key`. The tiles score one
// block while the one before is in its softmax.
void AttendBlock(const DenseArgs& args, const Sizes& z, const DenseAmxWork& w, int64_t first_key,
                 int64_t keys) {
  const int64_t parts = CeilDiv(keys, kAmxSoftmaxKeys);
  const int64_t blocks = CeilDiv(w.query_tiles, kAmxBlockTiles) * parts;
  const int64_t prefetches = CeilDiv(kAmxBlockKeys, blocks);
  const auto block = [&](int64_t n) {
    const int64_t key = n % parts * kAmxSoftmaxKeys, tile = n / parts * kAmxBlockTiles;
    const int64_t keys_left = keys - key, tiles_left = w.query_tiles - tile;
    return Block{key, keys_left < kAmxSoftmaxKeys ? keys_left : kAmxSoftmaxKeys, tile,
                 tiles_left < kAmxBlockTiles ? tiles_left : kAmxBlockTiles};
  };
  const auto scores = [&](int64_t n) {
    return w.scores + n % 2 * kAmxSoftmaxKeys * kAmxBlockQueries;
  };
  ScoreBlock(z, w, block(0), scores(0));
  int64_t added = 0;  // keys of this block of queries whose values are in out
  for (int64_t n = 0; n < blocks; ++n) {
    const Block b = block(n);
    if (n + 1 < blocks) ScoreBlock(z, w, block(n + 1), scores(n + 1));
    if (args.bias != nullptr) AddBias(args, z, w, first_key, b, scores(n));
    PrefetchTokens(args, z, w, first_key + keys + n * prefetches, prefetches);
    const auto add_until = [&](int64_t key) {
      AddValues(z, w, {added, key - added, b.first_tile, b.tiles});
      added = key;
    };
    SoftmaxBlock(z, w, b, args.bias != nullptr ? 1 : z.scale, scores(n), [&] { add_until(b.key); });
    if (b.key + b.keys < keys) continue;
    add_until(keys);
    added = 0;
  }
}

void StoreOutput(const DenseArgs& args, const Sizes& z, const DenseAmxWork& w) {
  for (int64_t i = 0; i < w.queries; ++i) {
    const __m512 inverse = _mm512_set1_ps(1 / w.sum[i]);
    const float* x = w.out + i * z.d;
    char* to = static_cast<char*>(args.out) + (w.first_query + i) * z.q.token + w.head * z.q.head;
    for (int64_t chunk = 0; chunk < z.chunks; ++chunk, x += 32)
      _mm512_storeu_si512(to + chunk * kTileRowBytes,
                          FromPairOrder(ToBf16(_mm512_mul_ps(_mm512_loadu_ps(x), inverse),
                                               _mm512_mul_ps(_mm512_loadu_ps(x + 16), inverse))));
  }
}

// What is read before it is written, or never written: padding.
void ClearBuffers(const Sizes& z, const DenseAmxWork& w) {
  const int64_t queries = w.query_tiles * 16;
  FillZero(w.keys, kAmxBlockKeys * z.row_bytes);
  FillZero(w.values, kAmxBlockKeys * z.row_bytes);
  FillZero(w.sum, queries * int64_t{sizeof(float)});
  FillZero(w.out, queries * z.d * int64_t{sizeof(float)});
  for (int64_t n = 0; n < queries; n += 16) _mm512_storeu_ps(w.max + n, _mm512_set1_ps(kNoMaximum));
}

}  // namespace

void AttendQueries(const DenseArgs& args, const DenseAmxWork& w) {
  const Sizes z = SizesOf(args.shape);
  ConfigureTiles();
  PackQueries(args, z, w);
  ClearBuffers(z, w);
  for (int64_t first = 0; first < w.keys_visible; first += kAmxBlockKeys) {
    const int64_t left = w.keys_visible - first;
    const int64_t keys = left < kAmxBlockKeys ? left : kAmxBlockKeys;
    PackKeys(args, z, w, first, keys);
    AttendBlock(args, z, w, first, keys);
  }
  ReleaseTiles();
  StoreOutput(args, z, w);
}

}  // namespace mrt::MRT_ISA
