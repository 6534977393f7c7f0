// What the tests of both attention kernels share: inputs that are exact in bfloat16, tensors that
// end at a guard page, and an error norm for plain arrays.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <random>
#include <span>
#include <vector>

#include "base/check.h"
#include "base/float16.h"
#include "kernels/storage_type.h"
#include "testing/guarded_buffer.h"

namespace mrt::testing {

/// Of scratch memory: floats of such bytes are NaN, so that what is read before it is written
/// shows.
inline constexpr unsigned char kNotANumberByte = 0xff;

/// Normal values times `scale`, rounded to bfloat16 so that both storage types hold them exactly.
inline std::vector<double> RandomBf16(int64_t count, uint32_t seed, double scale = 1) {
  std::mt19937 generator(seed);
  std::normal_distribution<double> normal;
  std::vector<double> x(static_cast<size_t>(count));
  for (double& value : x) value = RoundToBFloat16(static_cast<float>(scale * normal(generator)));
  return x;
}

/// The same in f16; what is too large becomes the largest.
inline std::vector<double> RandomF16(int64_t count, uint32_t seed, double scale = 1) {
  constexpr float kMax = 65504;
  std::mt19937 generator(seed);
  std::normal_distribution<double> normal;
  std::vector<double> x(static_cast<size_t>(count));
  for (double& value : x)
    value = RoundToFloat16(std::clamp(static_cast<float>(scale * normal(generator)), -kMax, kMax));
  return x;
}

/// One element of 16 bits, kF16 or else bfloat16.
inline Bits16 ToBits(float x, StorageType type) {
  return type == StorageType::kF16 ? ToFloat16(x).bits : ToBFloat16(x).bits;
}
inline float FromBits(Bits16 bits, StorageType type) {
  return type == StorageType::kF16 ? ToFloat(Float16{bits}) : ToFloat(BFloat16{bits});
}
inline std::vector<Bits16> ToBits(std::span<const double> x, StorageType type) {
  std::vector<Bits16> bits;
  bits.reserve(x.size());
  for (double value : x) bits.push_back(ToBits(static_cast<float>(value), type));
  return bits;
}

/// `x` as float32 or bfloat16 in memory that ends at a guard page.
inline GuardedBuffer Stored(std::span<const double> x, bool bf16) {
  const int64_t count = static_cast<int64_t>(x.size());
  GuardedBuffer buffer(count * (bf16 ? 2 : 4));
  for (int64_t i = 0; i < count; ++i) {
    const float value = static_cast<float>(x[i]);
    if (bf16) {
      static_cast<BFloat16*>(buffer.data())[i] = ToBFloat16(value);
    } else {
      static_cast<float*>(buffer.data())[i] = value;
    }
  }
  return buffer;
}

/// The other way round.
inline std::vector<double> Loaded(const GuardedBuffer& buffer, int64_t count, bool bf16) {
  std::vector<double> x(static_cast<size_t>(count));
  for (int64_t i = 0; i < count; ++i)
    x[i] = bf16 ? ToFloat(static_cast<const BFloat16*>(buffer.data())[i])
                : static_cast<const float*>(buffer.data())[i];
  return x;
}

/// The tokens of a frame, moved from one layout to another.
inline std::vector<double> Reordered(std::span<const double> frame, int64_t heads, int64_t head_dim,
                                     const TokenStrides& from, const TokenStrides& to) {
  std::vector<double> moved(frame.size());
  const int64_t tokens = static_cast<int64_t>(frame.size()) / (heads * head_dim);
  for (int64_t t = 0; t < tokens; ++t)
    for (int64_t h = 0; h < heads; ++h)
      for (int64_t d = 0; d < head_dim; ++d)
        moved[t * to.token + h * to.head + d] = frame[t * from.token + h * from.head + d];
  return moved;
}

/// A frame of keys or values [tokens, heads, head_dim] in the layout that a kernel's shape asks
/// for.
template <typename Shape>
std::vector<double> InLayoutOf(const Shape& shape, std::span<const double> frame) {
  return Reordered(frame, shape.heads, shape.head_dim,
                   StridesOf(KvLayout::kTokenMajor, 0, shape.heads, shape.head_dim),
                   shape.kv_strides());
}

/// ||got - want|| / ||want||; infinite if anything is not finite.
inline double RelativeL2(std::span<const double> got, std::span<const double> want) {
  MRT_CHECK(got.size() == want.size());
  double difference_sq = 0, want_sq = 0;
  for (size_t i = 0; i < want.size(); ++i) {
    if (!std::isfinite(got[i])) return INFINITY;
    difference_sq += (got[i] - want[i]) * (got[i] - want[i]);
    want_sq += want[i] * want[i];
  }
  return want_sq > 0 ? std::sqrt(difference_sq / want_sq) : difference_sq > 0 ? INFINITY : 0;
}

}  // namespace mrt::testing
