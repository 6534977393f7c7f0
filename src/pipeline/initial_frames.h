// The frames a video goes on from, as latents.
#pragma once

#include <cstdint>
#include <vector>

#include "base/status.h"
#include "model/vae/video_codec.h"
#include "ops/context.h"
#include "tensor/tensor.h"

namespace mrt {

/// Encodes the last video frames of `rgb` that `latents` latent frames stand for; of fewer frames
/// than that the first is held still. rgb: [frames, height, width, 3], frames >= 1. Returns F32
/// [latents, channels, height / 8, width / 8]; Cancelled if the context was stopped.
Result<Tensor> EncodeInitialFrames(ops::Context& context, const VideoEncoder& encoder,
                                   const std::vector<uint8_t>& rgb, int64_t frames, int64_t height,
                                   int64_t width, int64_t latents);

}  // namespace mrt
