#include <algorithm>
#include <string>

#include "model/vae/latent_statistics.h"
#include "model/vae/planar.h"
#include "model/vae/wan_blocks.h"
#include "model/vae/wan_vae.h"
#include "ops/rowwise.h"
#include "ops/transfer.h"

namespace mrt {
namespace {

/// Where the next finished latent frame goes.
struct LatentWriter {
  TensorView latents;  // F32 [n, z, rows, cols]
  int64_t next = 0;
};

struct EncoderLevelState {
  std::vector<ResidualState> blocks;
  FrameRing time;
  int64_t frames = 0;  // that have come to `time`
};

struct WanEncoderState final : EncoderState {
  int64_t frames = 0;  // encoded so far
  int64_t rows = 0;    // of a frame, in pixels
  int64_t cols = 0;
  FrameRing input;
  std::vector<EncoderLevelState> levels;
  ResidualState middle_1, middle_2;
  FrameRing head;
};

class WanVaeEncoder final : public VideoEncoder {
 public:
  WanVaeEncoder(ops::Context& context, const CoderWeights& weights,
                const LatentStatistics& statistics);

  std::unique_ptr<EncoderState> NewState(int64_t rows, int64_t cols) const override;
  int64_t LatentsOut(const EncoderState& state, int64_t frames) const override;
  void Encode(ops::Context& context, EncoderState& state, const ConstTensorView& frames,
              const TensorView& latents) const override;
  PixelRange range() const override { return {-1, 1}; }
  int64_t latent_channels() const override { return latent_.out_features(); }
  int64_t first_group_frames() const override { return 1; }
  int64_t weight_bytes() const override;
  int64_t WorkingBytes(int64_t latent_rows, int64_t latent_cols,
                       ops::Precision precision) const override;

 private:
  struct Level {
    std::vector<ResidualBlock> blocks;
    ops::Conv space;  // empty at the last level
    CausalConv time;  // empty where the frame rate stays
  };

  void RunLevel(ops::Context& context, WanEncoderState& state, size_t i, TensorView x,
                LatentWriter& writer) const;
  void Output(ops::Context& context, WanEncoderState& state, const TensorView& x,
              LatentWriter& writer) const;

  DType activation_;
  ChannelAffine normalize_;
  CausalConv input_;
  std::vector<Level> levels_;
  ResidualBlock middle_1_;
  AttentionBlock attention_;
  ResidualBlock middle_2_;
  Tensor head_gamma_;
  CausalConv head_;
  ops::Linear latent_;  // the half of conv1 that gives the mean
};

ConvWeights MeanHalf(const CoderWeights& weights) {
  return {weights.latent.weight.Slice(0, weights.latent_channels),
          weights.latent.bias.Slice(0, weights.latent_channels)};
}

WanVaeEncoder::WanVaeEncoder(ops::Context& context, const CoderWeights& weights,
                             const LatentStatistics& statistics)
    : activation_(context.activation()),
      normalize_(Normalize(statistics, context.memory())),
      input_(context, weights.input.weight, weights.input.bias),
      middle_1_(context, weights.middle_1),
      attention_(context, weights.attention),
      middle_2_(context, weights.middle_2),
      head_gamma_(Gamma(context, weights.head_gamma)),
      head_(context, weights.head.weight, weights.head.bias),
      latent_(PixelLinear(context, MeanHalf(weights))) {
  constexpr ops::ConvParams kHalfSize{.stride_space = 2, .pad_bottom = 1, .pad_right = 1};
  for (const LevelWeights& from : weights.levels) {
    Level& level = levels_.emplace_back();
    for (const ResidualWeights& block : from.blocks) level.blocks.emplace_back(context, block);
    if (!from.space.empty())
      level.space = ops::Conv(context, from.space.weight, from.space.bias, kHalfSize);
    if (!from.time.empty()) level.time = CausalConv(context, from.time.weight, from.time.bias);
  }
}

std::unique_ptr<EncoderState> WanVaeEncoder::NewState(int64_t rows, int64_t cols) const {
  MRT_CHECK(rows % kPixelsPerLatent == 0 && cols % kPixelsPerLatent == 0);
  auto state = std::make_unique<WanEncoderState>();
  state->rows = rows, state->cols = cols;
  state->input = input_.NewRing(activation_, rows, cols);
  for (const Level& level : levels_) {
    EncoderLevelState& level_state = state->levels.emplace_back();
    for (const ResidualBlock& block : level.blocks)
      level_state.blocks.push_back(block.NewState(activation_, rows, cols));
    if (!level.space.empty()) rows /= 2, cols /= 2;
    if (!level.time.empty()) level_state.time = level.time.NewRing(activation_, rows, cols);
  }
  state->middle_1 = middle_1_.NewState(activation_, rows, cols);
  state->middle_2 = middle_2_.NewState(activation_, rows, cols);
  state->head = head_.NewRing(activation_, rows, cols);
  return state;
}

int64_t WanVaeEncoder::LatentsOut(const EncoderState& state, int64_t frames) const {
  // Frame 0 completes a latent frame, then frames 4, 8, ...
  const auto completed = [](int64_t n) { return (n + kFramesPerLatent - 1) / kFramesPerLatent; };
  const int64_t before = static_cast<const WanEncoderState&>(state).frames;
  return completed(before + frames) - completed(before);
}

void WanVaeEncoder::Encode(ops::Context& context, EncoderState& state,
                           const ConstTensorView& frames, const TensorView& latents) const {
  auto& stream = static_cast<WanEncoderState&>(state);
  MRT_CHECK(frames.shape.rank() == 4);
  const int64_t n = frames.shape[0];
  MRT_CHECK((frames.shape == Shape{n, stream.rows, stream.cols, input_.in_channels()}));
  MRT_CHECK(
      (latents.shape == Shape{LatentsOut(state, n), latent_channels(),
                              stream.rows / kPixelsPerLatent, stream.cols / kPixelsPerLatent}));
  LatentWriter writer{latents};
  for (int64_t i = 0; i < n; ++i) {
    ArenaScope scope(context.arena());
    ops::Cast(context, ops::Upload(context, frames.Slice(i, i + 1)), stream.input.Newest());
    const TensorView x = context.Activation({1, stream.rows, stream.cols, input_.out_channels()});
    input_.Run(context, stream.input, x);
    stream.input.Advance();
    RunLevel(context, stream, 0, x, writer);
    ++stream.frames;
  }
}

/// x act [1, rows, cols, c] through level `i` and all above it. Overwrites x.
void WanVaeEncoder::RunLevel(ops::Context& context, WanEncoderState& state, size_t i, TensorView x,
                             LatentWriter& writer) const {
  ArenaScope scope(context.arena());
  const Level& level = levels_[i];
  EncoderLevelState& level_state = state.levels[i];
  for (size_t b = 0; b < level.blocks.size(); ++b) {
    if (context.stopped()) return;
    x = level.blocks[b].Run(context, level_state.blocks[b], x);
  }
  if (level.space.empty()) return Output(context, state, x, writer);
  const TensorView y = context.Activation(level.space.OutputShape(x.shape));
  if (level.time.empty()) {
    level.space.Run(context, x, y);
    return RunLevel(context, state, i + 1, y, writer);
  }
  level.space.Run(context, x, level_state.time.Newest());
  const int64_t frame = level_state.frames++;
  // The first frame of a stream passes as it is; then every two frames and the one before give one.
  if (frame == 0)
    ops::Cast(context, level_state.time.Newest(), y);
  else if (frame % 2 == 0)
    level.time.Run(context, level_state.time, y);
  level_state.time.Advance();
  if (frame % 2 == 0) RunLevel(context, state, i + 1, y, writer);
}

/// x act [1, rows, cols, c] of the last level -> the next latent frame. Overwrites x.
void WanVaeEncoder::Output(ops::Context& context, WanEncoderState& state, const TensorView& x,
                           LatentWriter& writer) const {
  ArenaScope scope(context.arena()), host_scope(context.host_arena());
  const int64_t rows = x.shape[1], cols = x.shape[2], z = latent_channels();
  middle_1_.Run(context, state.middle_1, x);
  attention_.Run(context, x);
  middle_2_.Run(context, state.middle_2, x);
  const TensorView moments = context.Activation({1, rows, cols, head_.out_channels()});
  ops::ChannelNorm(context, x, head_gamma_, /*silu=*/true, state.head.Newest());
  head_.Run(context, state.head, moments);
  state.head.Advance();
  const TensorView mean = context.Float({rows, cols, z});
  const TensorView normalized = context.Float({rows, cols, z});
  latent_.Run(context, moments, mean, ops::Activation::kNone, ops::Output::kFloat);
  ops::ScaleBias(context, mean, normalize_.scale, normalize_.bias, normalized, ops::Output::kFloat);
  const TensorView latent = writer.latents.Slice(writer.next, writer.next + 1);
  ChannelsLastToPlanar(ops::Download(context, normalized), latent.Reshape({z, rows, cols}));
  ++writer.next;
}

int64_t WanVaeEncoder::weight_bytes() const {
  int64_t sum = input_.bytes() + middle_1_.bytes() + attention_.bytes() + middle_2_.bytes() +
                head_gamma_.bytes() + head_.bytes() + latent_.bytes();
  for (const Level& level : levels_) {
    for (const ResidualBlock& block : level.blocks) sum += block.bytes();
    if (!level.space.empty()) sum += level.space.bytes();
    if (!level.time.empty()) sum += level.time.bytes();
  }
  return sum;
}

int64_t WanVaeEncoder::WorkingBytes(int64_t latent_rows, int64_t latent_cols,
                                    ops::Precision precision) const {
  const DType dtype = precision == ops::Precision::kBF16 ? DType::kBF16 : DType::kF32;
  int64_t rows = kPixelsPerLatent * latent_rows, cols = kPixelsPerLatent * latent_cols;
  int64_t state = input_.RingBytes(dtype, rows, cols), width = input_.out_channels();
  int64_t held = rows * cols * width * DTypeSize(dtype), peak = held;
  for (const Level& level : levels_) {
    int64_t channel = rows * cols * DTypeSize(dtype);  // bytes of one channel of a frame
    for (const ResidualBlock& block : level.blocks) {
      state += block.StateBytes(dtype, rows, cols);
      if (block.out_channels() != width) held += channel * block.out_channels();
      width = block.out_channels();
      peak = std::max(peak, held + channel * width);
    }
    if (level.space.empty()) break;
    rows /= 2, cols /= 2, channel /= 4;
    if (!level.time.empty()) state += level.time.RingBytes(dtype, rows, cols);
    held += channel * level.space.out_channels();
    peak = std::max(peak, held);
  }
  peak = std::max(peak, held + attention_.ScratchBytes(dtype, rows, cols));
  state += middle_1_.StateBytes(dtype, rows, cols) + middle_2_.StateBytes(dtype, rows, cols) +
           head_.RingBytes(dtype, rows, cols);
  return state + peak;
}

}  // namespace

Result<std::unique_ptr<VideoEncoder>> LoadWanVaeEncoder(ops::Context& context,
                                                        const Checkpoint& checkpoint,
                                                        const LatentStatistics& statistics) {
  MRT_ASSIGN_OR_RETURN(const CoderWeights weights, ReadEncoderWeights(checkpoint));
  MRT_RETURN_IF_ERROR(Validate(statistics, weights.latent_channels));
  std::unique_ptr<VideoEncoder> encoder =
      std::make_unique<WanVaeEncoder>(context, weights, statistics);
  return encoder;
}

}  // namespace mrt
