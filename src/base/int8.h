// Weights as int8: one scale for each output channel, symmetric around 0.
#pragma once

#include <cstdint>

namespace mrt {

/// Columns of an int8 matrix at most: a sum of products with 8-bit numbers must fit int32.
inline constexpr int64_t kInt8ColumnsMax = 65536;

/// q[i] = x[i] / scale to the nearest integer, ties to even, -127 to 127; returns the scale, which
/// is max |x| / 127, but at least the smallest normal number: finite and positive. NaN, and every q
/// 0, if the row holds NaN or infinity. The one definition behind files and loading, so that both
/// give the same bits.
float QuantizeRow(const float* x, int64_t count, int8_t* q);

}  // namespace mrt
