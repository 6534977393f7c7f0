// The fast path of tiles, for AMX or the dot products of AVX-512 BF16. A column is one column j of
// one query tile a; the columns of all query tiles that see the same keys lie side by side, so that
// they share every load of K and V. One task per head and part of these columns.
#pragma once

#include <cstdint>

#include "kernels/monarch/monarch.h"

namespace mrt {

/// Keys or values of a row are packed so many times 32 channels at a time: with what else is at
/// work they fit L1.
inline constexpr int64_t kAmxPackedChunks = 4;

/// One task and its buffers. Letters as in monarch.h; n counts tiles of 16 columns. "Pairs" are the
/// layout of operand B (common/cpu/tile_product.h): dwords of two bf16. A block is some key tiles,
/// whose rows k are numbered through.
struct MonarchAmxWork {
  int64_t head = 0;
  int64_t first_query_tile = 0;  // of those that share the keys
  int64_t first_column = 0;      // of b2 columns in each query tile, counted through
  int64_t columns = 0;
  int64_t column_tiles = 0;
  int64_t key_tiles = 0;  // the first so many are visible

  int64_t key_tiles_per_block = 0;
  int64_t l_tiles = 0;      // of 16 key columns
  int64_t l_steps = 0;      // of 32 key columns: products that sum over l
  int64_t i_tiles = 0;      // of 16 query rows
  int64_t i_steps = 0;      // of 32 query rows: products that sum over i
  int64_t k_steps = 0;      // of 32 rows of a block, at most: products that sum over k
  int64_t kbar_stride = 0;  // bytes between rows k: an odd number of cache lines, so that the rows
  int64_t vbar_stride = 0;  // of a tile do not share a cache set; here between pairs of rows

  int64_t* query_rows = nullptr;  // [query tile, i]: bytes to its first column in q and out
  char* q_rows = nullptr;         // pairs [k, n, d/2, 16 columns]
  char* q_columns = nullptr;      // pairs [column, d/2, i padded to tiles]
  float* max = nullptr;           // [column, i]: the running softmax of L
  float* sum = nullptr;           // [column, i]
  float* out = nullptr;           // [column, i, d]: o times sum
  // At work along rows:
  char* keys = nullptr;   // bf16 [16, d] of a row with fewer than 16 keys, then zeros
  char* pairs = nullptr;  // pairs [kAmxPackedChunks, l/2 padded to steps, 32 channels], then zeros
  float* scores = nullptr;  // [2 tiles, l, 16 columns]; across rows [2, k, 32 queries]
  char* weights = nullptr;  // bf16 [2 rows, n, 16 columns, l]: r; across rows [32 queries, k]
  float* sums = nullptr;    // [4, 16 columns, 32 channels]
  // Of a block:
  float* c = nullptr;    // [k, n, 16 columns], base 2
  char* kbar = nullptr;  // bf16 [k, column, d]
  char* vbar = nullptr;  // pairs [k/2, column, d]

  // Only with more than one refinement step:
  char* q_pairs = nullptr;    // pairs [column, i/2 padded to steps, d]
  float* log_sum = nullptr;   // [iterations - 1, column, i]: log2 of the sum that normalises L
  char* qbar_rows = nullptr;  // pairs [k, n, d/2, 16 columns] of a block: damped
  float* qbar = nullptr;      // [k, d] of a block and one column
  float* n = nullptr;         // [k] of a block and one column
};

/// Null, or why the kernel cannot run this shape.
const char* MonarchAmxRefuses(const MonarchShape& shape, const CpuFeatures& cpu);
int64_t MonarchAmxScratchBytes(const MonarchShape& shape, int threads);
void RunMonarchAmx(const MonarchArgs& args);

/// The same without AMX (common/cpu/dot_tiles.h), of as much scratch.
const char* MonarchAvx512Bf16Refuses(const MonarchShape& shape, const CpuFeatures& cpu);
void RunMonarchAvx512Bf16(const MonarchArgs& args);

namespace amx {
void AttendColumns(const MonarchArgs& args, const MonarchAmxWork& work);
}
namespace avx512_bf16 {
void AttendColumns(const MonarchArgs& args, const MonarchAmxWork& work);
}

}  // namespace mrt
