#include "pipeline/pixels.h"

#include "base/threads.h"

namespace mrt {
namespace {

// Values per thread at least: about 10 us of work, what it costs to start a parallel region.
constexpr int64_t kGrain = 1 << 15;

}  // namespace

void FromRgb8(const uint8_t* rgb, PixelRange range, const TensorView& frames) {
  float* const out = frames.as<float>();
  const float low = range.low, scale = (range.high - range.low) / 255.0f;
  ParallelFor(frames.shape.elements(), kGrain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) out[i] = low + scale * static_cast<float>(rgb[i]);
  });
}

}  // namespace mrt
