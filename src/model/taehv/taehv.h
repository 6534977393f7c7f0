// TAEHV: the tiny autoencoder for the latents of Wan 2.1 (MODEL: TAEHV), as a stream. It takes and
// gives latents as the transformer has them; pixels are in 0..1.
#pragma once

#include <memory>

#include "base/status.h"
#include "model/vae/video_codec.h"
#include "tensor/checkpoint.h"

namespace mrt {

/// Packs `decoder.*` of a checkpoint for the context's precision. NotFound, BadData: a missing or
/// wrong tensor. Frames are clamped to 0..1; the first three of a stream are dropped.
Result<std::unique_ptr<VideoDecoder>> LoadTaehvDecoder(ops::Context& context,
                                                       const Checkpoint& checkpoint);

/// The same with `encoder.*`.
Result<std::unique_ptr<VideoEncoder>> LoadTaehvEncoder(ops::Context& context,
                                                       const Checkpoint& checkpoint);

}  // namespace mrt
