// The portable path: one task per head, query frame and block of its queries. It scores all keys
// that one of them may keep, then takes the queries one by one.
#pragma once

#include <cstdint>

#include "kernels/common/cpu/scratch.h"
#include "kernels/sparse/pattern.h"

namespace mrt {

/// Queries that share the scores' products: two vectors of AVX-512. Scores of 21 key frames of 30 x
/// 52 tokens then take 4 MB a thread.
inline constexpr int64_t kSparseQueries = 32;

/// Keys loaded at once.
inline constexpr int64_t kSparseKeys = 64;

/// One task and its buffers, in float32; d_pad is head_dim rounded up to kPadFloats.
struct SparseWork {
  const SparsePlan* plan = nullptr;
  int64_t head = 0;
  int64_t frame = 0;        // of the queries, among the query frames
  int64_t first_query = 0;  // within the frame
  int64_t queries = 0;      // at most kSparseQueries
  int64_t frames = 0;       // of the keys they see, the first so many
  int64_t d_pad = 0;
  int64_t slots = 0;  // keys of all frames: no less than those of all spans

  float* q = nullptr;          // [d, kSparseQueries]
  float* keys = nullptr;       // [kSparseKeys, d_pad]
  float* block = nullptr;      // [kSparseKeys, kSparseQueries]
  float* scores = nullptr;     // [kSparseQueries, slots], not scaled
  float* weights = nullptr;    // [slots]: of one query's kept keys
  int32_t* kept = nullptr;     // [slots]
  TokenSpan* spans = nullptr;  // [frames_kv]
  float* value = nullptr;      // [d_pad]
  float* out = nullptr;        // [d_pad]
};

namespace portable {
void AttendKept(const SparseArgs& args, const SparseWork& work);
}
namespace avx2 {
void AttendKept(const SparseArgs& args, const SparseWork& work);
}
namespace avx512 {
void AttendKept(const SparseArgs& args, const SparseWork& work);
}

/// The columns of a dispatch row that all instruction sets share, and its last one for each.
int64_t SparsePortableScratchBytes(const SparseShape& shape, int threads);
void RunSparsePortable(const SparseArgs& args);
void RunSparseAvx2(const SparseArgs& args);
void RunSparseAvx512(const SparseArgs& args);

}  // namespace mrt
