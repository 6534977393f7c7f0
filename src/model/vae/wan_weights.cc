#include "model/vae/wan_weights.h"

#include <algorithm>
#include <string>

#include "tensor/weight_reader.h"

namespace mrt {
namespace {

constexpr int kLevels = 4;  // three changes of size by 2 between them: 8 pixels per latent pixel
constexpr int kTimeChanges = 2;  // of them change the frame rate too: 4 frames per latent frame
constexpr int kBlocksPerLevelEncoder = 2;
constexpr int kBlocksPerLevelDecoder = 3;
constexpr int64_t kColors = 3;
// Ten times the widest layer of the released model. Larger sizes are a damaged file, and products
// of three of them fit in int64_t.
constexpr int64_t kWidthMax = 4096;

/// Asks for tensors by name and follows the width from layer to layer.
class CoderReader {
 public:
  explicit CoderReader(const Checkpoint& checkpoint) : reader_(checkpoint, "[wan vae]") {}

  /// Extent of the first axis of one of the named tensors, the first that is there; else
  /// `otherwise`.
  int64_t Outputs(const std::string& conv, int64_t otherwise) {
    for (const char* part : {".weight", ".bias"}) {
      const Shape shape = reader_.ShapeOf(conv + part);
      if (shape.rank() == 0) continue;
      const int64_t width = std::clamp<int64_t>(shape[0], 1, kWidthMax);
      if (width != shape[0])
        Refuse(conv + part + " is " + shape.ToString() + ", need 1 to " +
               std::to_string(kWidthMax) + " outputs");
      return width;
    }
    return otherwise;
  }

  ConstTensorView Gamma(const std::string& name, const Shape& shape) {
    return reader_.Require(name + ".gamma", shape);
  }

  /// `shape` is that of the weight.
  ConvWeights Conv(const std::string& name, const Shape& shape) {
    return {reader_.Require(name + ".weight", shape), reader_.Require(name + ".bias", {shape[0]})};
  }

  bool HasConv(const std::string& name) const {
    return reader_.Has(name + ".weight") || reader_.Has(name + ".bias");
  }

  ResidualWeights Residual(const std::string& name, int64_t in, int64_t out) {
    ResidualWeights block;
    block.gamma_1 = Gamma(name + ".residual.0", {in, 1, 1, 1});
    block.conv_1 = Conv(name + ".residual.2", {out, in, 3, 3, 3});
    block.gamma_2 = Gamma(name + ".residual.3", {out, 1, 1, 1});
    block.conv_2 = Conv(name + ".residual.6", {out, out, 3, 3, 3});
    if (in != out) block.shortcut = Conv(name + ".shortcut", {out, in, 1, 1, 1});
    return block;
  }

  /// The residual blocks of a level, with the numbers from `index` on. `width` goes from that of
  /// the first input to that of the last output.
  std::vector<ResidualWeights> Blocks(const std::string& prefix, int count, int& index,
                                      int64_t& width) {
    std::vector<ResidualWeights> blocks;
    for (int i = 0; i < count; ++i) {
      const std::string name = prefix + std::to_string(index++);
      const int64_t in = width;
      width = Outputs(name + ".residual.2", in);
      blocks.push_back(Residual(name, in, width));
    }
    return blocks;
  }

  void Middle(const std::string& name, int64_t width, CoderWeights& weights) {
    weights.middle_1 = Residual(name + ".0", width, width);
    weights.attention.gamma = Gamma(name + ".1.norm", {width, 1, 1});
    weights.attention.qkv = Conv(name + ".1.to_qkv", {3 * width, width, 1, 1});
    weights.attention.proj = Conv(name + ".1.proj", {width, width, 1, 1});
    weights.middle_2 = Residual(name + ".2", width, width);
  }

  /// Notes the first size that makes no sense.
  void Refuse(const std::string& what) {
    if (refused_.ok()) refused_ = BadData("[wan vae] " + what);
  }

  /// Refused sizes first: every layer that follows from one looks wrong too.
  Status status() const { return refused_.ok() ? reader_.status() : refused_; }

 private:
  WeightReader reader_;
  Status refused_;
};

/// What can only be judged once every tensor is there.
Status CheckWhole(const CoderWeights& weights) {
  int time_changes = 0;
  for (const LevelWeights& level : weights.levels) time_changes += level.time.empty() ? 0 : 1;
  if (time_changes != kTimeChanges)
    return BadData("[wan vae] got " + std::to_string(time_changes) +
                   " levels with a time_conv, need " + std::to_string(kTimeChanges));
  return {};
}

}  // namespace

Result<CoderWeights> ReadDecoderWeights(const Checkpoint& checkpoint) {
  CoderReader reader(checkpoint);
  CoderWeights weights;
  const int64_t z = weights.latent_channels = reader.Outputs("conv2", 1);
  weights.latent = reader.Conv("conv2", {z, z, 1, 1, 1});
  int64_t width = reader.Outputs("decoder.conv1", 1);
  weights.input = reader.Conv("decoder.conv1", {width, z, 3, 3, 3});
  reader.Middle("decoder.middle", width, weights);

  int index = 0;
  for (int i = 0; i < kLevels; ++i) {
    LevelWeights& level = weights.levels.emplace_back();
    level.blocks = reader.Blocks("decoder.upsamples.", kBlocksPerLevelDecoder, index, width);
    if (i == kLevels - 1) break;
    const std::string resample = "decoder.upsamples." + std::to_string(index++);
    if (reader.HasConv(resample + ".time_conv"))
      level.time = reader.Conv(resample + ".time_conv", {2 * width, width, 3, 1, 1});
    const int64_t in = width;
    width = reader.Outputs(resample + ".resample.1", in);
    level.space = reader.Conv(resample + ".resample.1", {width, in, 3, 3});
  }
  weights.head_gamma = reader.Gamma("decoder.head.0", {width, 1, 1, 1});
  weights.head = reader.Conv("decoder.head.2", {kColors, width, 3, 3, 3});
  MRT_RETURN_IF_ERROR(reader.status());
  MRT_RETURN_IF_ERROR(CheckWhole(weights));
  return weights;
}

Result<CoderWeights> ReadEncoderWeights(const Checkpoint& checkpoint) {
  CoderReader reader(checkpoint);
  CoderWeights weights;
  int64_t width = reader.Outputs("encoder.conv1", 1);
  weights.input = reader.Conv("encoder.conv1", {width, kColors, 3, 3, 3});

  int index = 0;
  for (int i = 0; i < kLevels; ++i) {
    LevelWeights& level = weights.levels.emplace_back();
    level.blocks = reader.Blocks("encoder.downsamples.", kBlocksPerLevelEncoder, index, width);
    if (i == kLevels - 1) break;
    const std::string resample = "encoder.downsamples." + std::to_string(index++);
    level.space = reader.Conv(resample + ".resample.1", {width, width, 3, 3});
    if (reader.HasConv(resample + ".time_conv"))
      level.time = reader.Conv(resample + ".time_conv", {width, width, 3, 1, 1});
  }
  reader.Middle("encoder.middle", width, weights);
  const int64_t z2 = reader.Outputs("conv1", 2);  // mean, logarithm of the variance
  if (z2 % 2 != 0)
    reader.Refuse("conv1 has " + std::to_string(z2) + " outputs, need an even number");
  weights.latent_channels = z2 / 2;
  weights.head_gamma = reader.Gamma("encoder.head.0", {width, 1, 1, 1});
  weights.head = reader.Conv("encoder.head.2", {z2, width, 3, 3, 3});
  weights.latent = reader.Conv("conv1", {z2, z2, 1, 1, 1});
  MRT_RETURN_IF_ERROR(reader.status());
  MRT_RETURN_IF_ERROR(CheckWhole(weights));
  return weights;
}

}  // namespace mrt
