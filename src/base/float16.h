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

/// Rounds to nearest, ties to even; beyond 65504 plus half a step to infinity; NaN stays NaN.
inline Float16 ToFloat16(float x) {
  const uint32_t u = std::bit_cast<uint32_t>(x), magnitude = u & 0x7fffffffu;
  const uint32_t sign = (u >> 16) & 0x8000u;
  uint32_t bits = 0;
  if (magnitude > 0x7f800000u) {
    bits = 0x7e00u;                       // NaN
  } else if (magnitude >= 0x477ff000u) {  // 65520
    bits = 0x7c00u;
  } else if (magnitude >= 0x38800000u) {  // 2^-14: normal
    const uint32_t rebiased = magnitude - (112u << 23);
    bits = (rebiased + 0xfffu + ((rebiased >> 13) & 1u)) >> 13;
  } else {  // adding 0.5 shifts the bits to where a multiple of 2^-24 ends the float; the FPU
            // rounds
    bits = std::bit_cast<uint32_t>(std::bit_cast<float>(magnitude) + 0.5f) - 0x3f000000u;
  }
  return {static_cast<uint16_t>(sign | bits)};
}

/// `x` rounded to the nearest binary16, still a float.
inline float RoundToFloat16(float x) { return ToFloat(ToFloat16(x)); }

}  // namespace mrt
