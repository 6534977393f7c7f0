// The portable fast path: one task per head and kTaskQueries queries, streaming over blocks of keys
// with a running softmax.
#pragma once

#include <cstdint>

#include "kernels/common/cpu/scratch.h"
#include "kernels/dense/dense.h"

namespace mrt {

/// Keys taken at once: with kBlockQueries queries a block of scores is 16 KB, half of a small L1.
inline constexpr int64_t kBlockKeys = 64;

/// Queries that share one load of a block of keys and values: four blocks, so that loading costs
/// little; with head_dim 128 their buffers take 0.3 MB, well within L2.
inline constexpr int64_t kTaskQueries = 4 * kBlockQueries;

/// One task and its buffers, in float32; d_pad is head_dim rounded up to kPadFloats. Queries are
/// multiplied by scale * log2(e), so that the softmax can use 2^x.
struct DenseWork {
  int64_t head = 0;
  int64_t first_query = 0;
  int64_t queries = 0;       // at most kTaskQueries
  int64_t keys_visible = 0;  // the first so many
  int64_t d_pad = 0;

  float* q = nullptr;       // [d_pad, kTaskQueries]
  float* keys = nullptr;    // [kBlockKeys, d_pad]
  float* values = nullptr;  // [kBlockKeys, d_pad]
  float* scores = nullptr;  // [kBlockKeys, kBlockQueries]
  float* max = nullptr;     // [kTaskQueries]: the running softmax
  float* sum = nullptr;     // [kTaskQueries]
  float* keep = nullptr;    // [kBlockQueries]
  float* out = nullptr;     // [kTaskQueries, d_pad]: o times sum
};

namespace portable {
void AttendQueries(const DenseArgs& args, const DenseWork& work);
}
namespace avx2 {
void AttendQueries(const DenseArgs& args, const DenseWork& work);
}
namespace avx512 {
void AttendQueries(const DenseArgs& args, const DenseWork& work);
}

/// The columns of a dispatch row that all instruction sets share, and its last one for each.
int64_t DensePortableScratchBytes(const DenseShape& shape, int threads);
void RunDensePortable(const DenseArgs& args);
void RunDenseAvx2(const DenseArgs& args);
void RunDenseAvx512(const DenseArgs& args);

}  // namespace mrt
