// UMT5's relative position bias: each attention score gets a learnt number that depends on the head
// and on the bucket of key position - query position.
#pragma once

#include <cstdint>

#include "tensor/tensor.h"

namespace mrt {

/// Whether there can be so many buckets: even, and fewer than positions they tell apart.
bool BucketsOk(int64_t buckets);

/// The bucket of `distance` = key position - query position. The upper half of the buckets is for
/// keys after the query. In each half the first half is exact; the rest grows logarithmically up to
/// 128 positions, and the last bucket takes everything farther away.
int64_t RelativeBucket(int64_t distance, int64_t buckets);

/// For n tokens: bias[h, d + n - 1] = table[RelativeBucket(d), h], as ops::DenseAttention reads it.
/// table [buckets, heads], floating point; bias F32 [heads, 2 n - 1].
void FillRelativeBias(const ConstTensorView& table, const TensorView& bias);

}  // namespace mrt
