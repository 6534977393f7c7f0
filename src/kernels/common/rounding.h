// What a reference rounds to bfloat16, so that a test can measure what rounding alone costs.
#pragma once

#include <cstdint>

#include "base/float16.h"

namespace mrt {

enum class Rounding : uint8_t {
  kNone,
  kBf16Output,    // the result, as a kernel with float32 arithmetic and bfloat16 storage does
  kBf16Operands,  // also every operand of a matrix product, as a kernel on a bf16 matrix unit does
};

inline double RoundOutput(double x, Rounding rounding) {
  return rounding == Rounding::kNone ? x : RoundToBFloat16(static_cast<float>(x));
}

inline double RoundOperand(double x, Rounding rounding) {
  return rounding == Rounding::kBf16Operands ? RoundToBFloat16(static_cast<float>(x)) : x;
}

}  // namespace mrt
