// A UMT5 encoder of any size with random weights, for tests, benchmarks and memory planning.
#pragma once

#include "model/umt5/umt5.h"

namespace mrt {

/// The sizes of the released UMT5 XXL encoder.
Umt5Config Umt5Xxl();

/// Every tensor of such a checkpoint, in bfloat16, with values that keep activations finite. All
/// matrices are views at different offsets into one pool little larger than the largest of them.
/// The embedding is a mapping of which only the first kSyntheticEmbeddingRows rows are filled; the
/// others are zeros and take no memory until they are read. Throws std::bad_alloc.
Checkpoint SyntheticUmt5(const Umt5Config& config);

inline constexpr int64_t kSyntheticEmbeddingRows = 1024;

}  // namespace mrt
