// Between the latents of the transformer, normalised and planar, and those of the VAE.
#pragma once

#include "base/status.h"
#include "model/vae/wan_vae.h"
#include "tensor/tensor.h"

namespace mrt {

/// x * scale + bias per channel, each F32 [z], in the memory that was asked for, or the host's.
struct ChannelAffine {
  Tensor scale;
  Tensor bias;
};

/// latent * std + mean.
ChannelAffine Denormalize(const LatentStatistics& statistics, Memory* memory);

/// (latent - mean) / std.
ChannelAffine Normalize(const LatentStatistics& statistics, Memory* memory);

/// InvalidArgument unless there are `channels` means and standard deviations, finite and std > 0.
Status Validate(const LatentStatistics& statistics, int64_t channels);

}  // namespace mrt
