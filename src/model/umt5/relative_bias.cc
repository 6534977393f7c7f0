#include "model/umt5/relative_bias.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <vector>

#include "base/threads.h"

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
  const int64_t buckets = table.shape[0], heads = table.shape[1], n = bias.shape[1];
  MRT_CHECK(bias.shape == Shape({heads, n, n}));
  std::vector<int64_t> bucket(2 * n - 1);  // of distance d at d + n - 1
  for (int64_t d = 1 - n; d < n; ++d) bucket[d + n - 1] = RelativeBucket(d, buckets);
  const Tensor values = ToFloat32(table);
  std::vector<float> lines(heads * (2 * n - 1));  // a line per head, by distance
  for (int64_t h = 0; h < heads; ++h)
    for (int64_t d = 0; d < 2 * n - 1; ++d)
      lines[h * (2 * n - 1) + d] = values.as<float>()[bucket[d] * heads + h];
  float* out = bias.as<float>();
  ParallelFor(heads * n, /*grain=*/64, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {  // row h * n + i: the line from distance -i on
      const float* line = &lines[row / n * (2 * n - 1)];
      std::copy_n(line + (n - 1 - row % n), n, out + row * n);
    }
  });
}

}  // namespace mrt
