#include "pipeline/pixels.h"

#include <cmath>

#include "base/threads.h"

namespace mrt {
namespace {

// Values per thread at least: about 10 us of work, what it costs to start a parallel region.
constexpr int64_t kGrain = 1 << 15;

}  // namespace

void ToRgb8(const ConstTensorView& frames, PixelRange range, uint8_t* out) {
  const float* in = frames.as<float>();
  const float low = range.low, scale = 255.0f / (range.high - range.low);
  ParallelFor(frames.shape.elements(), kGrain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const float x = (in[i] - low) * scale;
      const float above = x > 0.0f ? x : 0.0f;  // false for NaN
      out[i] = static_cast<uint8_t>(std::lrint(above < 255.0f ? above : 255.0f));
    }
  });
}

void FromRgb8(const uint8_t* rgb, PixelRange range, const TensorView& frames) {
  float* const out = frames.as<float>();
  const float low = range.low, scale = (range.high - range.low) / 255.0f;
  ParallelFor(frames.shape.elements(), kGrain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) out[i] = low + scale * static_cast<float>(rgb[i]);
  });
}

}  // namespace mrt
