// The fast path of tiles, for AMX or the dot products of AVX-512 BF16: one task per head and up to
// about a thousand queries, streaming over blocks of keys with a running softmax.
#pragma once

#include <cstdint>

#include "kernels/dense/dense.h"

namespace mrt {

/// Keys packed at once: the output of a block of queries is read and written once per so many.
inline constexpr int64_t kAmxBlockKeys = 512;

/// Tiles of 16 queries in a block: two share every load of a tile of keys or values.
inline constexpr int64_t kAmxBlockTiles = 2;
inline constexpr int64_t kAmxBlockQueries = kAmxBlockTiles * 16;

/// Keys of one softmax: they, two buffers of scores and the queries take 40 of the 48 KB of L1.
inline constexpr int64_t kAmxSoftmaxKeys = 64;

/// One task and its buffers. "Pairs" are the layout of operand B (common/cpu/tile_product.h).
struct DenseAmxWork {
  int64_t head = 0;
  int64_t first_query = 0;
  int64_t queries = 0;
  int64_t query_tiles = 0;   // of 16
  int64_t keys_visible = 0;  // the first so many

  char* q = nullptr;        // pairs [query tile, d/2, 16 queries]
  float* max = nullptr;     // [query]: the running softmax
  float* sum = nullptr;     // [query]
  float* out = nullptr;     // [query, d]: o times sum
  char* keys = nullptr;     // bf16 [kAmxBlockKeys, d]
  char* values = nullptr;   // pairs [kAmxBlockKeys / 2, d]
  float* scores = nullptr;  // [2, kAmxSoftmaxKeys, kAmxBlockQueries]
  char* weights = nullptr;  // bf16 [kAmxBlockQueries, kAmxBlockKeys]
};

/// Null, or why the kernel cannot run this shape.
const char* DenseAmxRefuses(const DenseShape& shape, const CpuFeatures& cpu);
int64_t DenseAmxScratchBytes(const DenseShape& shape, int threads);
void RunDenseAmx(const DenseArgs& args);

/// The same without AMX (common/cpu/dot_tiles.h), of as much scratch.
const char* DenseAvx512Bf16Refuses(const DenseShape& shape, const CpuFeatures& cpu);
void RunDenseAvx512Bf16(const DenseArgs& args);

namespace amx {
void AttendQueries(const DenseArgs& args, const DenseAmxWork& work);
}
namespace avx512_bf16 {
void AttendQueries(const DenseArgs& args, const DenseAmxWork& work);
}

}  // namespace mrt
