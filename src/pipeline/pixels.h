// Decoded frames to bytes.
#pragma once

#include <cstdint>

#include "tensor/tensor.h"

namespace mrt {

/// frames F32 [...], values low..high -> one byte each: clamped, rounded to nearest, NaN to 0.
void ToRgb8(const ConstTensorView& frames, float low, float high, uint8_t* out);

}  // namespace mrt
