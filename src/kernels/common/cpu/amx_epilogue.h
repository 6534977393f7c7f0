// What the sums of tiles go through before they are stored. Everything here has internal linkage:
// see decision 3.
#pragma once

#include "kernels/common/cpu/amx_math.h"
#include "kernels/rowwise/rowwise.h"

namespace mrt {
namespace {

// x / (1 + 2^-z), where 2^z is bounded so that nothing becomes denormal: that is slow.
inline __m512 TimesSigmoid(__m512 x, __m512 z) {
  const __m512 bound = _mm512_set1_ps(60);
  // NaN stays NaN: the second operand wins.
  const __m512 negative = _mm512_sub_ps(_mm512_setzero_ps(), z);
  const __m512 n =
      _mm512_min_ps(bound, _mm512_max_ps(_mm512_sub_ps(_mm512_setzero_ps(), bound), negative));
  return _mm512_div_ps(x, _mm512_add_ps(_mm512_set1_ps(1), Exp2(n)));
}

inline __m512 Activate(Epilogue epilogue, __m512 x) {
  switch (epilogue) {
    case Epilogue::kNone: return x;
    case Epilogue::kGeluTanh: {
      // (1 + tanh(u)) / 2 = 1 / (1 + e^-2u), u = sqrt(2 / pi) * (x + 0.044715 x^3).
      constexpr float kLinear = 2 * 0.7978845608f * kLog2e;
      const __m512 factor = _mm512_fmadd_ps(
          _mm512_mul_ps(x, x), _mm512_set1_ps(kLinear * 0.044715f), _mm512_set1_ps(kLinear));
      return TimesSigmoid(x, _mm512_mul_ps(x, factor));
    }
    case Epilogue::kSilu: return TimesSigmoid(x, _mm512_mul_ps(x, _mm512_set1_ps(kLog2e)));
    case Epilogue::kRelu: return _mm512_max_ps(_mm512_setzero_ps(), x);
  }
  return x;
}

}  // namespace
}  // namespace mrt
