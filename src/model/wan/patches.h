// Latent frames to tokens and back. Tokens run frame, row, column.
#pragma once

#include "model/wan/config.h"
#include "tensor/tensor.h"

namespace mrt {

/// latents F32 [frames, in_dim, h, w] -> patches F32 [tokens, in_dim * patch_elements], each row in
/// the order of the patch embedding's kernel: channel, patch row, patch column.
void Patchify(const WanConfig& config, const ConstTensorView& latents, const TensorView& patches);

/// patches F32 [tokens, out_dim * patch_elements], each row in the same order -> latents F32
/// [frames, out_dim, h, w].
void Unpatchify(const WanConfig& config, const ConstTensorView& patches, const TensorView& latents);

}  // namespace mrt
