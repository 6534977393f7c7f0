#include "pipeline/pixels.h"

#include "base/threads.h"

namespace mrt {

void ToRgb8(const ConstTensorView& frames, float low, float high, uint8_t* out) {
  const float* in = frames.as<float>();
  const float scale = 255.0f / (high - low);
  ParallelFor(frames.shape.elements(), 1 << 14, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const float value = (in[i] - low) * scale + 0.5f;
      const float bounded = value > 0 ? value : 0;  // NaN compares false: 0
      out[i] = static_cast<uint8_t>(bounded < 255 ? bounded : 255);
    }
  });
}

}  // namespace mrt
