#include "model/taehv/taehv_weights.h"

#include <algorithm>
#include <iterator>
#include <string>
#include <tuple>

#include "model/vae/video_codec.h"
#include "tensor/weight_reader.h"

namespace mrt {
namespace {

// Sixteen times the widest layer of the released model. Larger sizes are a damaged file, and
// products of three of them fit in int64_t.
constexpr int64_t kWidthMax = 4096;

/// Asks for tensors by name. Layers without tensors (ReLU, upsampling) have numbers too.
class TaehvReader {
 public:
  TaehvReader(const Checkpoint& checkpoint, std::string half)
      : reader_(checkpoint, "[taehv]"), half_(std::move(half)) {}

  std::string Layer(int index) const { return half_ + "." + std::to_string(index); }

  /// An extent of NAME.weight, or `otherwise` if it is missing.
  int64_t Extent(const std::string& conv, int axis, int64_t otherwise) {
    return ExtentOf(conv + ".weight", axis, otherwise);
  }

  /// Extent of the first axis of NAME.weight, else of NAME.bias, else `otherwise`.
  int64_t Outputs(const std::string& conv, int64_t otherwise) {
    return ExtentOf(conv + ".weight", 0, ExtentOf(conv + ".bias", 0, otherwise));
  }

  ConvWeights Conv(const std::string& name, const Shape& shape) {
    return {reader_.Require(name + ".weight", shape), reader_.Require(name + ".bias", {shape[0]})};
  }

  /// The released model has no bias in these.
  ConvWeights ConvWithoutBias(const std::string& name, const Shape& shape) {
    return {reader_.Require(name + ".weight", shape), reader_.Optional(name + ".bias", {shape[0]})};
  }

  /// `width` goes from that of the block's input to that of its output.
  MemoryWeights Memory(const std::string& name, int64_t& width) {
    const int64_t in = width;
    const int64_t out = width = Outputs(name + ".conv.0", in);
    MemoryWeights block;
    block.conv_0 = Conv(name + ".conv.0", {out, 2 * in, 3, 3});
    block.conv_2 = Conv(name + ".conv.2", {out, out, 3, 3});
    block.conv_4 = Conv(name + ".conv.4", {out, out, 3, 3});
    if (in != out) block.skip = reader_.Require(name + ".skip.weight", {out, in, 1, 1});
    return block;
  }

  /// Refused sizes first: every layer that follows from one looks wrong too.
  Status status() const { return refused_.ok() ? reader_.status() : refused_; }

 private:
  int64_t ExtentOf(const std::string& name, int axis, int64_t otherwise) {
    const Shape shape = reader_.ShapeOf(name);
    if (shape.rank() <= axis) return otherwise;
    const int64_t extent = std::clamp<int64_t>(shape[axis], 1, kWidthMax);
    if (extent != shape[axis] && refused_.ok())
      refused_ = BadData("[taehv] " + name + " is " + shape.ToString() + ", need extents of 1 to " +
                         std::to_string(kWidthMax));
    return extent;
  }

  WeightReader reader_;
  std::string half_;
  Status refused_;
};

/// Levels grow 1, 2 and 2 times. A file may hold more outputs than that; then the last ones count.
void TrimGrowth(TaehvWeights& weights) {
  constexpr int64_t kGrowth[] = {1, 2, 2};
  static_assert(std::size(kGrowth) == std::tuple_size_v<decltype(weights.levels)>);
  for (size_t i = 0; i < weights.levels.size(); ++i) {
    TaehvLevelWeights& level = weights.levels[i];
    const int64_t c = level.time.weight.shape[1], outputs = level.time.weight.shape[0];
    level.stride = std::min(level.stride, kGrowth[i]);
    const int64_t unused = outputs - level.stride * c;
    level.time.weight = level.time.weight.Slice(unused, outputs);
    if (!level.time.bias.empty()) level.time.bias = level.time.bias.Slice(unused, outputs);
  }
}

Status CheckFramesPerLatent(const TaehvWeights& weights) {
  int64_t frames = 1;
  for (const TaehvLevelWeights& level : weights.levels) frames *= level.stride;
  if (frames == kFramesPerLatent) return {};
  return BadData("[taehv] got " + std::to_string(frames) + " frames per latent frame, need " +
                 std::to_string(kFramesPerLatent));
}

}  // namespace

Result<TaehvWeights> ReadTaehvDecoderWeights(const Checkpoint& checkpoint) {
  // Layer numbers: 0 clamp, 1 conv, 2 ReLU; then per level three memory blocks, upsampling, growth,
  // conv; then ReLU, conv.
  TaehvReader reader(checkpoint, "decoder");
  TaehvWeights weights;
  int64_t width = reader.Outputs(reader.Layer(1), 1);
  weights.input = reader.Conv(reader.Layer(1), {width, reader.Extent(reader.Layer(1), 1, 1), 3, 3});
  int index = 3;
  for (TaehvLevelWeights& level : weights.levels) {
    for (MemoryWeights& block : level.blocks) block = reader.Memory(reader.Layer(index++), width);
    ++index;  // upsampling
    const std::string grow = reader.Layer(index++) + ".conv", conv = reader.Layer(index++);
    level.stride = std::max<int64_t>(1, reader.Extent(grow, 0, width) / width);
    level.time = reader.ConvWithoutBias(grow, {level.stride * width, width, 1, 1});
    const int64_t in = width;
    width = reader.Outputs(conv, in);
    level.space = reader.ConvWithoutBias(conv, {width, in, 3, 3});
  }
  ++index;  // ReLU
  weights.output = reader.Conv(reader.Layer(index), {TaehvWeights::kColors, width, 3, 3});
  MRT_RETURN_IF_ERROR(reader.status());
  TrimGrowth(weights);
  MRT_RETURN_IF_ERROR(CheckFramesPerLatent(weights));
  return weights;
}

Result<TaehvWeights> ReadTaehvEncoderWeights(const Checkpoint& checkpoint) {
  // Layer numbers: 0 conv, 1 ReLU; then per level pooling, conv, three memory blocks; then conv.
  TaehvReader reader(checkpoint, "encoder");
  TaehvWeights weights;
  int64_t width = reader.Outputs(reader.Layer(0), 1);
  weights.input = reader.Conv(reader.Layer(0), {width, TaehvWeights::kColors, 3, 3});
  int index = 2;
  for (TaehvLevelWeights& level : weights.levels) {
    const std::string pool = reader.Layer(index++) + ".conv", conv = reader.Layer(index++);
    level.stride = std::max<int64_t>(1, reader.Extent(pool, 1, width) / width);
    const int64_t pooled = reader.Outputs(pool, width);
    level.time = reader.ConvWithoutBias(pool, {pooled, level.stride * width, 1, 1});
    width = reader.Outputs(conv, pooled);
    level.space = reader.ConvWithoutBias(conv, {width, pooled, 3, 3});
    for (MemoryWeights& block : level.blocks) block = reader.Memory(reader.Layer(index++), width);
  }
  const int64_t z = reader.Outputs(reader.Layer(index), 1);
  weights.output = reader.Conv(reader.Layer(index), {z, width, 3, 3});
  MRT_RETURN_IF_ERROR(reader.status());
  MRT_RETURN_IF_ERROR(CheckFramesPerLatent(weights));
  return weights;
}

Tensor ChannelsToTime(const ConstTensorView& weight, int64_t frames, FrameOrder order) {
  const Shape& shape = weight.shape;
  const int64_t in = shape[1] / frames, tap = shape[2] * shape[3];
  const Tensor from = ToFloat32(weight);
  Tensor to(DType::kF32, {shape[0], in, frames, shape[2], shape[3]});
  for (int64_t out = 0; out < shape[0]; ++out)
    for (int64_t frame = 0; frame < frames; ++frame)
      for (int64_t c = 0; c < in; ++c) {
        const int64_t k = order == FrameOrder::kOldestFirst ? frame : frames - 1 - frame;
        std::copy_n(from.as<float>() + ((out * frames + frame) * in + c) * tap, tap,
                    to.as<float>() + ((out * in + c) * frames + k) * tap);
      }
  return to;
}

}  // namespace mrt
