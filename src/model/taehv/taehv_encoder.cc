#include <algorithm>
#include <string>
#include <vector>

#include "model/taehv/memory_block.h"
#include "model/taehv/taehv.h"
#include "model/vae/planar.h"
#include "ops/rowwise.h"
#include "ops/transfer.h"

namespace mrt {
namespace {

/// Where the next finished latent frame goes.
struct LatentWriter {
  TensorView latents;  // F32 [n, z, rows, cols]
  int64_t next = 0;
};

struct LevelState {
  FrameRing pool;  // the frames that become one
  std::vector<FrameRing> blocks;
};

struct TaehvEncoderState final : EncoderState {
  int64_t frames = 0;  // encoded so far
  int64_t rows = 0;    // of a frame, in pixels
  int64_t cols = 0;
  std::vector<LevelState> levels;
};

class TaehvEncoder final : public VideoEncoder {
 public:
  TaehvEncoder(ops::Context& context, const TaehvWeights& weights);

  std::unique_ptr<EncoderState> NewState(int64_t rows, int64_t cols) const override;
  int64_t LatentsOut(const EncoderState& state, int64_t frames) const override;
  void Encode(ops::Context& context, EncoderState& state, const ConstTensorView& frames,
              const TensorView& latents) const override;
  PixelRange range() const override { return {0, 1}; }
  int64_t latent_channels() const override { return output_.out_channels(); }
  int64_t first_group_frames() const override { return kFramesPerLatent; }
  int64_t weight_bytes() const override;
  int64_t WorkingBytes(int64_t latent_rows, int64_t latent_cols,
                       ops::Precision precision) const override;

 private:
  struct Level {
    int64_t stride = 1;
    ops::Conv time;
    ops::Conv space;
    std::vector<MemoryBlock> blocks;
  };

  void RunLevel(ops::Context& context, TaehvEncoderState& state, size_t i,
                LatentWriter& writer) const;
  void Output(ops::Context& context, const TensorView& x, LatentWriter& writer) const;

  DType activation_;
  Memory* memory_;  // of a stream's frames
  ops::Conv input_;
  std::vector<Level> levels_;
  ops::Conv output_;
};

TaehvEncoder::TaehvEncoder(ops::Context& context, const TaehvWeights& weights)
    : activation_(context.activation()),
      memory_(context.memory()),
      input_(SameSizeConv(context, weights.input)),
      output_(SameSizeConv(context, weights.output)) {
  constexpr ops::ConvParams kHalfSize{
      .stride_space = 2, .pad_top = 1, .pad_left = 1, .pad_bottom = 1, .pad_right = 1};
  for (const TaehvLevelWeights& from : weights.levels) {
    Level& level = levels_.emplace_back();
    level.stride = from.stride;
    level.time =
        ops::Conv(context, ChannelsToTime(from.time.weight, from.stride, FrameOrder::kOldestFirst),
                  from.time.bias, {});
    level.space = ops::Conv(context, from.space.weight, from.space.bias, kHalfSize);
    for (const MemoryWeights& block : from.blocks) level.blocks.emplace_back(context, block);
  }
}

std::unique_ptr<EncoderState> TaehvEncoder::NewState(int64_t rows, int64_t cols) const {
  MRT_CHECK(rows % kPixelsPerLatent == 0 && cols % kPixelsPerLatent == 0);
  auto state = std::make_unique<TaehvEncoderState>();
  state->rows = rows, state->cols = cols;
  for (const Level& level : levels_) {
    LevelState& level_state = state->levels.emplace_back();
    level_state.pool =
        FrameRing(activation_, level.stride, rows, cols, level.time.in_channels(), memory_);
    rows /= 2, cols /= 2;
    for (const MemoryBlock& block : level.blocks)
      level_state.blocks.push_back(block.NewRing(activation_, rows, cols));
  }
  return state;
}

int64_t TaehvEncoder::LatentsOut(const EncoderState& state, int64_t frames) const {
  const int64_t before = static_cast<const TaehvEncoderState&>(state).frames;
  return (before + frames) / kFramesPerLatent - before / kFramesPerLatent;
}

void TaehvEncoder::Encode(ops::Context& context, EncoderState& state, const ConstTensorView& frames,
                          const TensorView& latents) const {
  auto& stream = static_cast<TaehvEncoderState&>(state);
  MRT_CHECK(frames.shape.rank() == 4);
  const int64_t n = frames.shape[0];
  MRT_CHECK((frames.shape == Shape{n, stream.rows, stream.cols, input_.in_channels()}));
  MRT_CHECK(
      (latents.shape == Shape{LatentsOut(state, n), latent_channels(),
                              stream.rows / kPixelsPerLatent, stream.cols / kPixelsPerLatent}));
  LatentWriter writer{latents};
  for (int64_t i = 0; i < n && !context.stopped(); ++i) {
    ArenaScope scope(context.arena());
    const ConstTensorView frame = frames.Slice(i, i + 1);
    const TensorView pixels = context.Activation(frame.shape);
    ops::Cast(context, ops::Upload(context, frame), pixels);
    input_.Run(context, pixels, stream.levels[0].pool.Newest(), ops::Activation::kRelu);
    RunLevel(context, stream, 0, writer);
    ++stream.frames;
  }
}

/// Takes the newest frame of the pool of level `i`. If that completes its group, through that
/// level and all above it.
void TaehvEncoder::RunLevel(ops::Context& context, TaehvEncoderState& state, size_t i,
                            LatentWriter& writer) const {
  const Level& level = levels_[i];
  LevelState& level_state = state.levels[i];
  FrameRing& pool = level_state.pool;
  const bool complete = pool.newest() == level.stride - 1;
  pool.Advance();
  if (!complete) return;

  ArenaScope scope(context.arena());
  std::vector<FrameRing>& rings = level_state.blocks;
  const TensorView pooled = context.Activation(level.time.OutputShape(pool.slots().shape));
  level.time.Run(context, pool.slots(), pooled);
  level.space.Run(context, pooled, rings[0].Newest());
  for (size_t b = 0; b + 1 < rings.size(); ++b)
    level.blocks[b].Run(context, rings[b], rings[b + 1].Newest());
  if (i + 1 < levels_.size()) {
    level.blocks.back().Run(context, rings.back(), state.levels[i + 1].pool.Newest());
    return RunLevel(context, state, i + 1, writer);
  }
  const Shape& in = rings.back().Newest().shape;
  const TensorView x = context.Activation({1, in[1], in[2], level.blocks.back().out_channels()});
  level.blocks.back().Run(context, rings.back(), x);
  Output(context, x, writer);
}

/// x act [1, rows, cols, c] -> the next latent frame.
void TaehvEncoder::Output(ops::Context& context, const TensorView& x, LatentWriter& writer) const {
  ArenaScope scope(context.arena()), host_scope(context.host_arena());
  const int64_t rows = x.shape[1], cols = x.shape[2], z = latent_channels();
  const TensorView y = context.Float({1, rows, cols, z});
  output_.Run(context, x, y, ops::Activation::kNone, ops::Output::kFloat);
  const TensorView latent = writer.latents.Slice(writer.next, writer.next + 1);
  ChannelsLastToPlanar(ops::Download(context, y), latent.Reshape({z, rows, cols}));
  ++writer.next;
}

int64_t TaehvEncoder::weight_bytes() const {
  int64_t sum = input_.bytes() + output_.bytes();
  for (const Level& level : levels_) {
    sum += level.time.bytes() + level.space.bytes();
    for (const MemoryBlock& block : level.blocks) sum += block.bytes();
  }
  return sum;
}

int64_t TaehvEncoder::WorkingBytes(int64_t latent_rows, int64_t latent_cols,
                                   ops::Precision precision) const {
  const DType dtype = precision == ops::Precision::kBF16 ? DType::kBF16 : DType::kF32;
  int64_t rows = kPixelsPerLatent * latent_rows, cols = kPixelsPerLatent * latent_cols;
  int64_t state = 0, held = rows * cols * input_.in_channels() * DTypeSize(dtype), peak = held;
  for (const Level& level : levels_) {
    int64_t channel = rows * cols * DTypeSize(dtype);  // bytes of one channel of a frame
    state += channel * level.stride * level.time.in_channels();
    held += channel * level.time.out_channels();
    rows /= 2, cols /= 2, channel /= 4;
    for (const MemoryBlock& block : level.blocks) state += block.RingBytes(dtype, rows, cols);
    peak = std::max(peak, held + 3 * channel * level.blocks.back().out_channels());
  }
  return state + peak;
}

}  // namespace

Result<std::unique_ptr<VideoEncoder>> LoadTaehvEncoder(ops::Context& context,
                                                       const Checkpoint& checkpoint) {
  MRT_ASSIGN_OR_RETURN(const TaehvWeights weights, ReadTaehvEncoderWeights(checkpoint));
  std::unique_ptr<VideoEncoder> encoder = std::make_unique<TaehvEncoder>(context, weights);
  return encoder;
}

}  // namespace mrt
