// Frames to bytes and back.
#pragma once

#include <cstdint>

#include "model/vae/video_codec.h"
#include "tensor/tensor.h"

namespace mrt {

/// out[i] = rint(255 * (frames[i] - low) / (high - low)), clamped to [0, 255]; NaN becomes 0.
/// frames: F32 of any shape; out: as many bytes. Threaded.
void ToRgb8(const ConstTensorView& frames, PixelRange range, uint8_t* out);

/// frames[i] = low + (high - low) * rgb[i] / 255. frames: F32 of any shape. Threaded.
void FromRgb8(const uint8_t* rgb, PixelRange range, const TensorView& frames);

}  // namespace mrt
