// What a reference rounds to 16 bits, so that a test can measure what rounding alone costs.
#pragma once

#include <cstdint>

#include "base/float16.h"

namespace mrt {

enum class Rounding : uint8_t {
  kNone,
  kBf16Output,    // the result, as a kernel with float32 arithmetic and bfloat16 storage does
  kBf16Operands,  // also every operand of a matrix product, as a kernel on a bf16 matrix unit does
  kF16Operands,   // the same in f16
};

inline double RoundOutput(double x, Rounding rounding) {
  if (rounding == Rounding::kNone) return x;
  if (rounding == Rounding::kF16Operands) return RoundToFloat16(static_cast<float>(x));
  return RoundToBFloat16(static_cast<float>(x));
}

inline double RoundOperand(double x, Rounding rounding) {
  const bool operands = rounding == Rounding::kBf16Operands || rounding == Rounding::kF16Operands;
  return operands ? RoundOutput(x, rounding) : x;
}

}  // namespace mrt
