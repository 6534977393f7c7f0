#include "model/taehv/synthetic.h"

#include <cstdint>
#include <string>

#include "model/taehv/taehv_weights.h"
#include "model/vae/synthetic.h"

namespace mrt {
namespace {

constexpr int64_t kLatentChannels = 16;
constexpr int64_t kDecoderWidths[] = {256, 128, 64, 64};
constexpr int64_t kDecoderGrowth[] = {1, 2, 2};
constexpr int64_t kEncoderWidth = 64;
constexpr int64_t kEncoderPooling[] = {2, 2, 1};
constexpr int kBlocksPerLevel = 3;

void AddMemoryBlock(SyntheticTensors& tensors, const std::string& name, int64_t width) {
  tensors.AddConv(name + ".conv.0", {width, 2 * width, 3, 3});
  tensors.AddConv(name + ".conv.2", {width, width, 3, 3});
  tensors.AddConv(name + ".conv.4", {width, width, 3, 3});
}

}  // namespace

Checkpoint SyntheticTaehv() {
  SyntheticTensors tensors;
  int index = 0;
  const auto decoder = [&index] { return "decoder." + std::to_string(index++); };
  ++index;  // clamp
  tensors.AddConv(decoder(), {kDecoderWidths[0], kLatentChannels, 3, 3});
  ++index;  // ReLU
  for (int level = 0; level < TaehvWeights::kLevels; ++level) {
    const int64_t width = kDecoderWidths[level];
    for (int b = 0; b < kBlocksPerLevel; ++b) AddMemoryBlock(tensors, decoder(), width);
    ++index;  // upsampling
    tensors.AddConv(decoder() + ".conv", {kDecoderGrowth[level] * width, width, 1, 1},
                    /*bias=*/false);
    tensors.AddConv(decoder(), {kDecoderWidths[level + 1], width, 3, 3},
                    /*bias=*/false);
  }
  ++index;  // ReLU
  tensors.AddConv(decoder(), {TaehvWeights::kColors, kDecoderWidths[TaehvWeights::kLevels], 3, 3});

  index = 0;
  const auto encoder = [&index] { return "encoder." + std::to_string(index++); };
  const int64_t width = kEncoderWidth;
  tensors.AddConv(encoder(), {width, TaehvWeights::kColors, 3, 3});
  ++index;  // ReLU
  for (const int64_t pooling : kEncoderPooling) {
    tensors.AddConv(encoder() + ".conv", {width, pooling * width, 1, 1},
                    /*bias=*/false);
    tensors.AddConv(encoder(), {width, width, 3, 3}, /*bias=*/false);
    for (int b = 0; b < kBlocksPerLevel; ++b) AddMemoryBlock(tensors, encoder(), width);
  }
  tensors.AddConv(encoder(), {kLatentChannels, width, 3, 3});
  return tensors.Take();
}

}  // namespace mrt
