// The two 16-bit floating point formats of checkpoints, as storage: arithmetic is always done in
// float.
#pragma once

#include <bit>
#include <cstdint>

namespace mrt {

/// bfloat16: the upper half of a float. Conversion from float rounds to nearest, ties to even; NaN
/// stays NaN.
struct BFloat16 {
  uint16_t bits = 0;
};

inline float ToFloat(BFloat16 x) { return std::bit_cast<float>(uint32_t{x.bits} << 16); }

inline BFloat16 ToBFloat16(float x) {
  const uint32_t u = std::bit_cast<uint32_t>(x);
  const bool nan = (u & 0x7fffffffu) > 0x7f800000u;
  const uint32_t rounded = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
  return {static_cast<uint16_t>(nan ? (u >> 16) | 0x40u : rounded)};
}

/// `x` rounded to the nearest bfloat16, still a float.
inline float RoundToBFloat16(float x) { return ToFloat(ToBFloat16(x)); }

/// IEEE binary16.
struct Float16 {
  uint16_t bits = 0;
};

inline float ToFloat(Float16 x) {
  const uint32_t sign = uint32_t{x.bits & 0x8000u} << 16;
  const uint32_t exponent = (x.bits >> 10) & 0x1fu;
  const uint32_t mantissa = x.bits & 0x3ffu;
  if (exponent == 0x1f) return std::bit_cast<float>(sign | 0x7f800000u | (mantissa << 13));
  if (exponent != 0)
    return std::bit_cast<float>(sign | ((exponent + 112) << 23) | (mantissa << 13));
  const float subnormal = static_cast<float>(mantissa) * 0x1p-24f;
  return sign ? -subnormal : subnormal;
}

}  // namespace mrt
