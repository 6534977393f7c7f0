// Bytes to frames; back: ops::ToBytes.
#pragma once

#include <cstdint>

#include "model/vae/video_codec.h"
#include "tensor/tensor.h"

namespace mrt {

/// frames[i] = low + (high - low) * rgb[i] / 255. frames: F32 of any shape. Threaded.
void FromRgb8(const uint8_t* rgb, PixelRange range, const TensorView& frames);

}  // namespace mrt
