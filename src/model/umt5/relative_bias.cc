#include "model/umt5/relative_bias.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>

namespace mrt {
namespace {

constexpr int64_t kDistanceMax = 128;  // T5's relative_attention_max_distance

}  // namespace

bool BucketsOk(int64_t buckets) {
  return buckets >= 4 && buckets < 2 * kDistanceMax && buckets % 2 == 0;
}

int64_t RelativeBucket(int64_t distance, int64_t buckets) {
  const int64_t half = buckets / 2;  // buckets per sign
  const int64_t exact = half / 2;
  const int64_t base = distance > 0 ? half : 0;
  const int64_t magnitude = std::abs(distance);
  if (magnitude < exact) return base + magnitude;
  // In float32 like the reference: a power of two must fall on the same side of its border.
  const float position = std::log(static_cast<float>(magnitude) / static_cast<float>(exact));
  const auto range =
      static_cast<float>(std::log(static_cast<double>(kDistanceMax) / static_cast<double>(exact)));
  const auto step = static_cast<int64_t>(position / range * static_cast<float>(half - exact));
  return base + std::min(exact + step, half - 1);
}

void FillRelativeBias(const ConstTensorView& table, const TensorView& bias) {
  const int64_t buckets = table.shape[0], heads = table.shape[1], line = bias.shape[1];
  MRT_CHECK(bias.shape == Shape({heads, line}) && line % 2 == 1);
  const Tensor values = ToFloat32(table);
  for (int64_t d = 0; d < line; ++d) {
    const int64_t bucket = RelativeBucket(d - line / 2, buckets);
    for (int64_t h = 0; h < heads; ++h)
      bias.as<float>()[h * line + d] = values.as<float>()[bucket * heads + h];
  }
}

}  // namespace mrt
