#include "media/pixels.h"

#include <cmath>

#include "base/check.h"
#include "base/threads.h"

namespace mrt::media {

void FramesToRgb8(const float* frames, int64_t frame_count, int height, int width, PixelRange range,
                  uint8_t* rgb) {
  MRT_CHECK(range.low < range.high && std::isfinite(range.high - range.low));
  const float low = range.low;
  const float scale = 255.0f / (range.high - range.low);
  // Values per thread at least: about 10 us of work, what it costs to start a parallel region.
  constexpr int64_t kGrain = 1 << 15;
  ParallelFor(frame_count * height * width * 3, kGrain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const float x = (frames[i] - low) * scale;
      const float above = x > 0.0f ? x : 0.0f;  // false for NaN
      rgb[i] = static_cast<uint8_t>(std::lrint(above < 255.0f ? above : 255.0f));
    }
  });
}

}  // namespace mrt::media
