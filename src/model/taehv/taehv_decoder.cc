#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "base/threads.h"
#include "model/taehv/memory_block.h"
#include "model/taehv/taehv.h"
#include "model/vae/planar.h"
#include "ops/rowwise.h"
#include "ops/transfer.h"
#include "ops/upsampled_conv.h"

namespace mrt {
namespace {

/// The frames before the first latent frame's own: a stream starts with the last of its four.
constexpr int64_t kFramesToTrim = kFramesPerLatent - 1;

/// Where the next finished frame goes.
struct FrameWriter {
  TensorView frames;  // F32 [n, rows, cols, 3]
  int64_t next = 0;
};

struct TaehvDecoderState final : DecoderState {
  int64_t trimmed = 0;  // frames dropped so far, at most kFramesToTrim
  int64_t rows = 0;     // of a latent frame
  int64_t cols = 0;
  std::vector<std::vector<FrameRing>> levels;  // one ring per memory block
};

class TaehvDecoder final : public VideoDecoder {
 public:
  TaehvDecoder(ops::Context& context, const TaehvWeights& weights);

  std::unique_ptr<DecoderState> NewState(int64_t latent_rows, int64_t latent_cols) const override;
  int64_t FramesOut(const DecoderState& state, int64_t latent_frames) const override;
  void Decode(ops::Context& context, DecoderState& state, const ConstTensorView& latents,
              const TensorView& frames) const override;
  PixelRange range() const override { return {0, 1}; }
  int64_t latent_channels() const override { return input_.in_channels(); }
  int64_t weight_bytes() const override;
  int64_t WorkingBytes(int64_t latent_rows, int64_t latent_cols,
                       ops::Precision precision) const override;

 private:
  struct Level {
    std::vector<MemoryBlock> blocks;
    std::vector<ops::Linear> time;  // one per frame that comes of a frame
    ops::UpsampledConv space;
  };

  void Input(ops::Context& context, TaehvDecoderState& state, const ConstTensorView& latent) const;
  void RunLevel(ops::Context& context, TaehvDecoderState& state, size_t i,
                FrameWriter& writer) const;
  void Upsample(ops::Context& context, TaehvDecoderState& state, size_t i, const TensorView& x,
                FrameWriter& writer) const;
  void Output(ops::Context& context, const TensorView& x, FrameWriter& writer) const;

  DType activation_;
  ops::Conv input_;
  std::vector<Level> levels_;
  ops::Conv output_;
};

/// One 1x1 convolution for each of the `stride` frames that the growth's channels hold.
std::vector<ops::Linear> PackGrowth(ops::Context& context, const TaehvLevelWeights& level) {
  const int64_t c = level.time.weight.shape[1];
  std::vector<ops::Linear> frames;
  for (int64_t begin = 0; begin < level.stride * c; begin += c) {
    const ConstTensorView& bias = level.time.bias;
    frames.emplace_back(context, level.time.weight.Slice(begin, begin + c).Reshape({c, c}),
                        bias.empty() ? bias : bias.Slice(begin, begin + c));
  }
  return frames;
}

TaehvDecoder::TaehvDecoder(ops::Context& context, const TaehvWeights& weights)
    : activation_(context.activation()),
      input_(SameSizeConv(context, weights.input)),
      output_(SameSizeConv(context, weights.output)) {
  for (const TaehvLevelWeights& from : weights.levels) {
    Level& level = levels_.emplace_back();
    for (const MemoryWeights& block : from.blocks) level.blocks.emplace_back(context, block);
    level.time = PackGrowth(context, from);
    level.space = ops::UpsampledConv(context, from.space.weight, from.space.bias);
  }
}

std::unique_ptr<DecoderState> TaehvDecoder::NewState(int64_t latent_rows,
                                                     int64_t latent_cols) const {
  auto state = std::make_unique<TaehvDecoderState>();
  int64_t rows = state->rows = latent_rows, cols = state->cols = latent_cols;
  for (const Level& level : levels_) {
    std::vector<FrameRing>& rings = state->levels.emplace_back();
    for (const MemoryBlock& block : level.blocks)
      rings.push_back(block.NewRing(activation_, rows, cols));
    rows *= 2, cols *= 2;
  }
  return state;
}

int64_t TaehvDecoder::FramesOut(const DecoderState& state, int64_t latent_frames) const {
  const int64_t to_trim = kFramesToTrim - static_cast<const TaehvDecoderState&>(state).trimmed;
  return latent_frames == 0 ? 0 : kFramesPerLatent * latent_frames - to_trim;
}

void TaehvDecoder::Decode(ops::Context& context, DecoderState& state,
                          const ConstTensorView& latents, const TensorView& frames) const {
  auto& stream = static_cast<TaehvDecoderState&>(state);
  MRT_CHECK(latents.shape.rank() == 4);
  const int64_t n = latents.shape[0];
  MRT_CHECK((latents.shape == Shape{n, latent_channels(), stream.rows, stream.cols}));
  MRT_CHECK((frames.shape == Shape{FramesOut(state, n), kPixelsPerLatent * stream.rows,
                                   kPixelsPerLatent * stream.cols, output_.out_channels()}));
  FrameWriter writer{frames};
  for (int64_t i = 0; i < n && !context.stopped(); ++i) {
    Input(context, stream, latents.Slice(i, i + 1));
    RunLevel(context, stream, 0, writer);
  }
}

/// latent F32 [1, z, rows, cols] -> the newest frame of the first memory block.
void TaehvDecoder::Input(ops::Context& context, TaehvDecoderState& state,
                         const ConstTensorView& latent) const {
  ArenaScope scope(context.arena()), host_scope(context.host_arena());
  const Shape shape{1, state.rows, state.cols, latent_channels()};
  const TensorView x = context.HostFloat(shape);
  const TensorView y = context.Activation(shape);
  PlanarToChannelsLast(latent.Reshape({latent_channels(), state.rows, state.cols}), x);
  constexpr float kLimit = 3;          // the model's soft clamp
  constexpr int64_t kGrain = 1 << 11;  // elements worth a thread
  float* const values = x.as<float>();
  ParallelFor(shape.elements(), kGrain, [values](int64_t begin, int64_t end) {
    for (int64_t j = begin; j < end; ++j) values[j] = kLimit * std::tanh(values[j] / kLimit);
  });
  ops::Cast(context, ops::Upload(context, x), y);
  input_.Run(context, y, state.levels[0][0].Newest(), ops::Activation::kRelu);
}

/// The newest frame of the first block of level `i` through that level and all above it.
void TaehvDecoder::RunLevel(ops::Context& context, TaehvDecoderState& state, size_t i,
                            FrameWriter& writer) const {
  ArenaScope scope(context.arena());
  const Level& level = levels_[i];
  std::vector<FrameRing>& rings = state.levels[i];
  const Shape& in = rings[0].Newest().shape;
  const Shape shape{1, in[1], in[2], level.blocks.back().out_channels()};
  const TensorView x = context.Activation(shape);
  for (size_t b = 0; b < level.blocks.size(); ++b)
    level.blocks[b].Run(context, rings[b], b + 1 < level.blocks.size() ? rings[b + 1].Newest() : x);
  const TensorView frame = context.Activation(shape);
  for (const ops::Linear& grow : level.time) {
    if (i + 1 == levels_.size() && state.trimmed < kFramesToTrim) {
      ++state.trimmed;
      continue;
    }
    grow.Run(context, x, frame);  // before the upsampling, which gives the same for less
    Upsample(context, state, i, frame, writer);
  }
}

/// x act [1, rows, cols, c] to twice the rows and columns, and through the levels above `i`.
void TaehvDecoder::Upsample(ops::Context& context, TaehvDecoderState& state, size_t i,
                            const TensorView& x, FrameWriter& writer) const {
  const ops::UpsampledConv& conv = levels_[i].space;
  if (i + 1 < levels_.size()) {
    conv.Run(context, x, state.levels[i + 1][0].Newest());
    return RunLevel(context, state, i + 1, writer);
  }
  ArenaScope scope(context.arena());
  const TensorView y = context.Activation({1, 2 * x.shape[1], 2 * x.shape[2], conv.out_channels()});
  conv.Run(context, x, y, ops::Activation::kRelu);
  Output(context, y, writer);
}

void TaehvDecoder::Output(ops::Context& context, const TensorView& x, FrameWriter& writer) const {
  const TensorView frame = writer.frames.Slice(writer.next, writer.next + 1);
  output_.Run(context, x, frame, ops::Activation::kNone, ops::Output::kFloat);
  ops::Clamp(context, frame, range().low, range().high);
  ++writer.next;
}

int64_t TaehvDecoder::weight_bytes() const {
  int64_t sum = input_.bytes() + output_.bytes();
  for (const Level& level : levels_) {
    for (const MemoryBlock& block : level.blocks) sum += block.bytes();
    for (const ops::Linear& grow : level.time) sum += grow.bytes();
    sum += level.space.bytes();
  }
  return sum;
}

int64_t TaehvDecoder::WorkingBytes(int64_t latent_rows, int64_t latent_cols,
                                   ops::Precision precision) const {
  const DType dtype = precision == ops::Precision::kBF16 ? DType::kBF16 : DType::kF32;
  int64_t rows = latent_rows, cols = latent_cols, state = 0, held = 0, peak = 0;
  for (const Level& level : levels_) {
    const int64_t channel = rows * cols * DTypeSize(dtype);  // bytes of one channel of a frame
    for (const MemoryBlock& block : level.blocks) state += block.RingBytes(dtype, rows, cols);
    const int64_t width = level.blocks.back().out_channels();
    peak = std::max(peak, held + 3 * channel * width);  // a block's output and its scratch
    held += 2 * channel * width;
    peak = std::max(peak, held + 4 * channel * level.space.out_channels() +
                              level.space.ScratchBytes(dtype, rows, cols));
    rows *= 2, cols *= 2;
  }
  return state + peak;
}

}  // namespace

Result<std::unique_ptr<VideoDecoder>> LoadTaehvDecoder(ops::Context& context,
                                                       const Checkpoint& checkpoint) {
  MRT_ASSIGN_OR_RETURN(const TaehvWeights weights, ReadTaehvDecoderWeights(checkpoint));
  std::unique_ptr<VideoDecoder> decoder = std::make_unique<TaehvDecoder>(context, weights);
  return decoder;
}

}  // namespace mrt
