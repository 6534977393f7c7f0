// Decoding a whole clip for comparison.
#pragma once

#include <string>

#include "base/status.h"
#include "model/vae/video_codec.h"

namespace mrt::verify {

/// latents [frames, channels, rows, cols] of any floating point dtype -> F32 [frames, height,
/// width, 3].
Result<Tensor> DecodeAll(ops::Context& context, const VideoDecoder& decoder,
                         const ConstTensorView& latents, const std::string& where);

/// F32 [frames, rows, cols, channels] -> F32 [frames, channels, rows, cols], the golden layout.
Tensor ChannelsFirst(const ConstTensorView& x);

}  // namespace mrt::verify
