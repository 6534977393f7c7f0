#include "kernels/common/cpu/amx_math_probe.h"

#include "kernels/common/cpu/amx_math.h"

namespace mrt {

void AmxExp2(const float* x, int64_t count, float* y) {
  for (int64_t n = 0; n < count; n += 16) _mm512_storeu_ps(y + n, Exp2(_mm512_loadu_ps(x + n)));
}

void AmxLog2(const float* x, int64_t count, float* y) {
  for (int64_t n = 0; n < count; n += 16) _mm512_storeu_ps(y + n, Log2(_mm512_loadu_ps(x + n)));
}

}  // namespace mrt
