// The tensors of TAEHV by their role (MODEL: TAEHV). Widths and strides in time are read from the
// checkpoint; nothing is packed here.
#pragma once

#include <array>
#include <cstdint>

#include "base/status.h"
#include "model/vae/conv_weights.h"
#include "tensor/checkpoint.h"

namespace mrt {

/// relu(conv_4(relu(conv_2(relu(conv_0(cat[x, previous x]))))) + skip(x)).
struct MemoryWeights {
  ConvWeights conv_0;    // [out, 2 in, 3, 3]
  ConvWeights conv_2;    // [out, out, 3, 3]
  ConvWeights conv_4;    // [out, out, 3, 3]
  ConstTensorView skip;  // [out, in, 1, 1]; empty if in == out
};

struct TaehvLevelWeights {
  static constexpr int kBlocks = 3;
  std::array<MemoryWeights, kBlocks> blocks;
  int64_t stride = 1;  // frames of the finer side for one of the coarser
  ConvWeights time;    // decoder [stride c, c, 1, 1]; encoder [c, stride c, 1, 1]
  ConvWeights space;  // decoder [out, c, 3, 3] after doubling rows and columns; encoder of stride 2
};

/// The decoder: input, then per level blocks, time, space, then output. The encoder: input, then
/// per level time, space, blocks, then output.
struct TaehvWeights {
  static constexpr int kLevels = 3;
  static constexpr int64_t kColors = 3;
  ConvWeights input;
  std::array<TaehvLevelWeights, kLevels> levels;
  ConvWeights output;
};

/// The weights of one half, valid while the checkpoint lives. NotFound lists every missing tensor,
/// BadData every tensor of a wrong shape, or says which size makes no sense.
Result<TaehvWeights> ReadTaehvDecoderWeights(const Checkpoint& checkpoint);
Result<TaehvWeights> ReadTaehvEncoderWeights(const Checkpoint& checkpoint);

/// A weight [out, frames in, rows, cols] over concatenated frames as one over time, F32
/// [out, in, frames, rows, cols], oldest frame first.
enum class FrameOrder { kOldestFirst, kNewestFirst };
Tensor ChannelsToTime(const ConstTensorView& weight, int64_t frames, FrameOrder order);

}  // namespace mrt
