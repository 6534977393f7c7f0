// Latents are planar [channels, rows, cols] outside of a codec and channels-last inside.
#pragma once

#include "tensor/tensor.h"

namespace mrt {

/// y F32 [rows, cols, channels] = x F32 [channels, rows, cols].
void PlanarToChannelsLast(const ConstTensorView& x, const TensorView& y);

/// y F32 [channels, rows, cols] = x F32 [rows, cols, channels].
void ChannelsLastToPlanar(const ConstTensorView& x, const TensorView& y);

}  // namespace mrt
