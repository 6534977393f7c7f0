// Decoded frames (floats) to pixels (bytes).
#pragma once

#include <cstdint>

namespace mrt::media {

/// The values that become 0 and 255. low < high, both finite.
struct PixelRange {
  float low = -1;
  float high = 1;
};

/// rgb[i] = round(255 * (frames[i] - low) / (high - low)), halves to even, clamped to [0, 255]; NaN
/// becomes 0.
/// frames: [frame_count, height, width, 3] floats; rgb: the same shape in bytes; no overlap.
/// Threaded.
void FramesToRgb8(const float* frames, int64_t frame_count, int height, int width, PixelRange range,
                  uint8_t* rgb);

}  // namespace mrt::media
