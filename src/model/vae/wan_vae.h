// The Wan 2.1 VAE: a causal 3D convolutional autoencoder (MODEL: Wan VAE), as a stream.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/status.h"
#include "model/vae/video_codec.h"
#include "tensor/checkpoint.h"

namespace mrt {

/// Mean and standard deviation of every latent channel over the training data. The transformer
/// works on (latent - mean) / std.
struct LatentStatistics {
  std::vector<float> mean;
  std::vector<float> std;

  /// Those of the released Wan 2.1 VAE.
  static LatentStatistics Wan21();

  /// "latent_mean" and "latent_std" of a JSON file: finite, equally many, std > 0.
  static Result<LatentStatistics> Read(const std::string& vae_config_json);
};

/// Packs `decoder.*` and `conv2` of a checkpoint for the context's precision. NotFound, BadData: a
/// missing or wrong tensor; InvalidArgument: statistics of another number of channels. Pixels are
/// in -1..1.
Result<std::unique_ptr<VideoDecoder>> LoadWanVaeDecoder(ops::Context& context,
                                                        const Checkpoint& checkpoint,
                                                        const LatentStatistics& statistics);

/// The same with `encoder.*` and `conv1`. Latents are the means of the posterior.
Result<std::unique_ptr<VideoEncoder>> LoadWanVaeEncoder(ops::Context& context,
                                                        const Checkpoint& checkpoint,
                                                        const LatentStatistics& statistics);

}  // namespace mrt
