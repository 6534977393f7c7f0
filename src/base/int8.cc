#include "base/int8.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace mrt {

float QuantizeRow(const float* x, int64_t count, int8_t* q) {
  constexpr float kLimit = 127;
  constexpr float kRoundToInteger = 12582912.0f;  // 1.5 * 2^23: no fraction bits are left
  float max = 0;
  bool finite = true;
  for (int64_t i = 0; i < count; ++i) {
    max = std::max(max, std::abs(x[i]));
    finite &= std::abs(x[i]) <= std::numeric_limits<float>::max();
  }
  if (!finite) {
    std::fill_n(q, count, int8_t{0});
    return std::numeric_limits<float>::quiet_NaN();
  }
  const float scale = std::max(max / kLimit, std::numeric_limits<float>::min());
  for (int64_t i = 0; i < count; ++i)
    q[i] = static_cast<int8_t>((x[i] / scale + kRoundToInteger) - kRoundToInteger);
  return scale;
}

}  // namespace mrt
