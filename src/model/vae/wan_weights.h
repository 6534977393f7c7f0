// The tensors of the Wan VAE by their role (MODEL: Wan VAE). Widths and the levels that change the
// frame rate are read from the checkpoint; nothing is packed here.
#pragma once

#include <cstdint>
#include <vector>

#include "base/status.h"
#include "model/vae/conv_weights.h"
#include "tensor/checkpoint.h"

namespace mrt {

struct ResidualWeights {
  ConstTensorView gamma_1;  // [in, 1, 1, 1]
  ConvWeights conv_1;       // [out, in, 3, 3, 3]
  ConstTensorView gamma_2;  // [out, 1, 1, 1]
  ConvWeights conv_2;       // [out, out, 3, 3, 3]
  ConvWeights shortcut;     // [out, in, 1, 1, 1]; empty if in == out
};

struct AttentionBlockWeights {
  ConstTensorView gamma;  // [c, 1, 1]
  ConvWeights qkv;        // [3c, c, 1, 1]
  ConvWeights proj;       // [c, c, 1, 1]
};

struct LevelWeights {
  std::vector<ResidualWeights> blocks;
  ConvWeights space;  // decoder [out, c, 3, 3] after doubling rows and columns; encoder [c, c, 3,
                      // 3] of stride 2; empty at the last level
  ConvWeights time;   // decoder [2c, c, 3, 1, 1], two frames for one; encoder [c, c, 3, 1, 1] of
                      // stride 2; empty where the frame rate stays
};

/// The decoder: latent, input, middle, levels, head. The encoder: input, levels, middle, head,
/// latent.
struct CoderWeights {
  int64_t latent_channels = 0;  // z
  ConvWeights latent;  // decoder [z, z, 1, 1, 1]; encoder [2z, 2z, 1, 1, 1]: mean, variance
  ConvWeights input;   // [c, z or 3, 3, 3, 3]
  ResidualWeights middle_1;
  AttentionBlockWeights attention;
  ResidualWeights middle_2;
  std::vector<LevelWeights> levels;
  ConstTensorView head_gamma;  // [c, 1, 1, 1]
  ConvWeights head;            // [3 or 2z, c, 3, 3, 3]
};

/// The weights of one half, valid while the checkpoint lives. NotFound lists every missing tensor,
/// BadData every tensor of a wrong shape, or says which size makes no sense.
Result<CoderWeights> ReadDecoderWeights(const Checkpoint& checkpoint);
Result<CoderWeights> ReadEncoderWeights(const Checkpoint& checkpoint);

}  // namespace mrt
