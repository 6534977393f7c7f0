// Functions of amx_math.h as a test can call them: that header may only be included by files
// compiled for AVX-512.
#pragma once

#include <cstdint>

namespace mrt {

/// y = 2^x and y = log2(x); count is a multiple of 16.
void AmxExp2(const float* x, int64_t count, float* y);
void AmxLog2(const float* x, int64_t count, float* y);

}  // namespace mrt
