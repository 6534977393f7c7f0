#include <algorithm>
#include <array>
#include <string>

#include "model/vae/latent_statistics.h"
#include "model/vae/planar.h"
#include "model/vae/wan_blocks.h"
#include "model/vae/wan_vae.h"
#include "ops/rowwise.h"
#include "ops/transfer.h"
#include "ops/upsampled_conv.h"

namespace mrt {
namespace {

/// Where the next finished frame goes.
struct FrameWriter {
  TensorView frames;  // F32 [n, rows, cols, 3]
  int64_t next = 0;
  TensorView Next() {
    ++next;
    return frames.Slice(next - 1, next);
  }
};

struct DecoderLevelState {
  std::vector<ResidualState> blocks;
  FrameRing time;
};

struct WanDecoderState final : DecoderState {
  bool started = false;  // a latent frame has been decoded
  int64_t rows = 0;      // of a latent frame
  int64_t cols = 0;
  FrameSpares spares;  // of all rings
  FrameRing input;
  ResidualState middle_1, middle_2;
  std::vector<DecoderLevelState> levels;
  FrameRing head;
};

class WanVaeDecoder final : public VideoDecoder {
 public:
  WanVaeDecoder(ops::Context& context, const CoderWeights& weights,
                const LatentStatistics& statistics);

  std::unique_ptr<DecoderState> NewState(int64_t latent_rows, int64_t latent_cols) const override;
  int64_t FramesOut(const DecoderState& state, int64_t latent_frames) const override;
  void Decode(ops::Context& context, DecoderState& state, const ConstTensorView& latents,
              const TensorView& frames) const override;
  PixelRange range() const override { return {-1, 1}; }
  int64_t latent_channels() const override { return latent_.in_features(); }
  int64_t weight_bytes() const override;
  int64_t WorkingBytes(int64_t latent_rows, int64_t latent_cols,
                       ops::Precision precision) const override;

 private:
  struct Level {
    std::vector<ResidualBlock> blocks;
    std::vector<CausalConv> time;  // for the first and the second of two frames; or none
    ops::UpsampledConv space;      // empty at the last level
  };

  TensorView Input(ops::Context& context, WanDecoderState& state,
                   const ConstTensorView& latent) const;
  void RunLevel(ops::Context& context, WanDecoderState& state, size_t i, TensorView x,
                FrameWriter& writer) const;
  void Upsample(ops::Context& context, WanDecoderState& state, size_t i, const TensorView& x,
                FrameWriter& writer) const;
  int64_t StateBytes(DType dtype, int64_t rows, int64_t cols) const;
  int64_t ScratchBytes(DType dtype, int64_t rows, int64_t cols) const;

  DType activation_;
  ChannelAffine denormalize_;
  ops::Linear latent_;  // conv2
  CausalConv input_;
  ResidualBlock middle_1_;
  AttentionBlock attention_;
  ResidualBlock middle_2_;
  std::vector<Level> levels_;
  Tensor head_gamma_;
  CausalConv head_;
};

CausalConv PackCausal(ops::Context& context, const ConvWeights& weights) {
  return {context, weights.weight, weights.bias};
}

WanVaeDecoder::WanVaeDecoder(ops::Context& context, const CoderWeights& weights,
                             const LatentStatistics& statistics)
    : activation_(context.activation()),
      denormalize_(Denormalize(statistics, context.memory())),
      latent_(PixelLinear(context, weights.latent)),
      input_(PackCausal(context, weights.input)),
      middle_1_(context, weights.middle_1),
      attention_(context, weights.attention),
      middle_2_(context, weights.middle_2),
      head_gamma_(Gamma(context, weights.head_gamma)),
      head_(PackCausal(context, weights.head)) {
  for (const LevelWeights& from : weights.levels) {
    Level& level = levels_.emplace_back();
    for (const ResidualWeights& block : from.blocks) level.blocks.emplace_back(context, block);
    if (!from.time.empty()) {
      const int64_t c = from.time.weight.shape[1];
      for (const int64_t begin : {int64_t{0}, c})
        level.time.push_back(PackCausal(context, {from.time.weight.Slice(begin, begin + c),
                                                  from.time.bias.Slice(begin, begin + c)}));
    }
    if (!from.space.empty())
      level.space = ops::UpsampledConv(context, from.space.weight, from.space.bias);
  }
}

std::unique_ptr<DecoderState> WanVaeDecoder::NewState(int64_t latent_rows,
                                                      int64_t latent_cols) const {
  auto state = std::make_unique<WanDecoderState>();
  int64_t rows = state->rows = latent_rows, cols = state->cols = latent_cols;
  state->input = input_.NewRing(activation_, rows, cols, &state->spares);
  state->middle_1 = middle_1_.NewState(activation_, rows, cols, &state->spares);
  state->middle_2 = middle_2_.NewState(activation_, rows, cols, &state->spares);
  for (const Level& level : levels_) {
    DecoderLevelState& level_state = state->levels.emplace_back();
    for (const ResidualBlock& block : level.blocks)
      level_state.blocks.push_back(block.NewState(activation_, rows, cols, &state->spares));
    if (!level.time.empty())
      level_state.time = level.time[0].NewRing(activation_, rows, cols, &state->spares);
    if (!level.space.empty()) rows *= 2, cols *= 2;
  }
  state->head = head_.NewRing(activation_, rows, cols, &state->spares);
  return state;
}

int64_t WanVaeDecoder::FramesOut(const DecoderState& state, int64_t latent_frames) const {
  const bool first = !static_cast<const WanDecoderState&>(state).started && latent_frames > 0;
  return kFramesPerLatent * latent_frames - (first ? kFramesPerLatent - 1 : 0);
}

void WanVaeDecoder::Decode(ops::Context& context, DecoderState& state,
                           const ConstTensorView& latents, const TensorView& frames) const {
  auto& stream = static_cast<WanDecoderState&>(state);
  MRT_CHECK(latents.shape.rank() == 4);
  const int64_t n = latents.shape[0];
  MRT_CHECK((latents.shape == Shape{n, latent_channels(), stream.rows, stream.cols}));
  MRT_CHECK((frames.shape == Shape{FramesOut(state, n), kPixelsPerLatent * stream.rows,
                                   kPixelsPerLatent * stream.cols, head_.out_channels()}));
  FrameWriter writer{frames};
  for (int64_t i = 0; i < n; ++i) {
    ArenaScope scope(context.arena());
    RunLevel(context, stream, 0, Input(context, stream, latents.Slice(i, i + 1)), writer);
    stream.started = true;
  }
}

/// latent F32 [1, z, rows, cols] -> act [1, rows, cols, c], through the middle.
TensorView WanVaeDecoder::Input(ops::Context& context, WanDecoderState& state,
                                const ConstTensorView& latent) const {
  const int64_t z = latent_channels(), rows = state.rows, cols = state.cols;
  const TensorView x = context.Activation({1, rows, cols, input_.out_channels()});
  {
    ArenaScope scope(context.arena()), host_scope(context.host_arena());
    const TensorView pixels = context.HostFloat({rows, cols, z});
    const TensorView denormalized = context.Activation({rows, cols, z});
    PlanarToChannelsLast(latent.Reshape({z, rows, cols}), pixels);
    ops::ScaleBias(context, ops::Upload(context, pixels), denormalize_.scale, denormalize_.bias,
                   denormalized);
    latent_.Run(context, denormalized, state.input.Newest());
    input_.Run(context, state.input, x);
    state.input.Advance();
  }
  middle_1_.Run(context, state.middle_1, x);
  attention_.Run(context, x);
  middle_2_.Run(context, state.middle_2, x);
  return x;
}

/// x act [1, rows, cols, c] through level `i` and all above it. Overwrites x.
void WanVaeDecoder::RunLevel(ops::Context& context, WanDecoderState& state, size_t i, TensorView x,
                             FrameWriter& writer) const {
  ArenaScope scope(context.arena());
  const Level& level = levels_[i];
  DecoderLevelState& level_state = state.levels[i];
  for (size_t b = 0; b < level.blocks.size(); ++b) {
    if (context.stopped()) return;
    x = level.blocks[b].Run(context, level_state.blocks[b], x);
  }
  if (level.space.empty()) {
    ops::ChannelNorm(context, x, head_gamma_, /*silu=*/true, state.head.Newest());
    head_.Run(context, state.head, writer.Next(), ops::Activation::kNone, ops::Output::kFloat);
    state.head.Advance();
    return;
  }
  // The first latent frame of a stream stays one frame, and the next does not see it here.
  if (level.time.empty() || !state.started) return Upsample(context, state, i, x, writer);
  ops::Cast(context, x, level_state.time.Newest());
  for (const CausalConv& conv : level.time) {
    conv.Run(context, level_state.time, x);
    Upsample(context, state, i, x, writer);
  }
  level_state.time.Advance();
}

/// x act [1, rows, cols, c] to twice the rows and columns, and through the levels above `i`.
void WanVaeDecoder::Upsample(ops::Context& context, WanDecoderState& state, size_t i,
                             const TensorView& x, FrameWriter& writer) const {
  ArenaScope scope(context.arena());
  const ops::UpsampledConv& conv = levels_[i].space;
  const TensorView y = context.Activation({1, 2 * x.shape[1], 2 * x.shape[2], conv.out_channels()});
  conv.Run(context, x, y);
  RunLevel(context, state, i + 1, y, writer);
}

int64_t WanVaeDecoder::weight_bytes() const {
  int64_t sum = latent_.bytes() + input_.bytes() + middle_1_.bytes() + attention_.bytes() +
                middle_2_.bytes() + head_gamma_.bytes() + head_.bytes();
  for (const Level& level : levels_) {
    for (const ResidualBlock& block : level.blocks) sum += block.bytes();
    for (const CausalConv& conv : level.time) sum += conv.bytes();
    if (!level.space.empty()) sum += level.space.bytes();
  }
  return sum;
}

int64_t WanVaeDecoder::WorkingBytes(int64_t latent_rows, int64_t latent_cols,
                                    ops::Precision precision) const {
  const DType dtype = precision == ops::Precision::kBF16 ? DType::kBF16 : DType::kF32;
  return StateBytes(dtype, latent_rows, latent_cols) +
         ScratchBytes(dtype, latent_rows, latent_cols);
}

int64_t WanVaeDecoder::StateBytes(DType dtype, int64_t rows, int64_t cols) const {
  const auto ring = [&](const CausalConv& conv) { return conv.RingBytes(dtype, rows, cols, true); };
  const auto block_state = [&](const ResidualBlock& block) {
    return block.StateBytes(dtype, rows, cols, true);
  };
  int64_t sum = ring(input_) + block_state(middle_1_) + block_state(middle_2_);
  for (const Level& level : levels_) {
    // Two spares of each size: the blocks of a level have one width but for the first one's input.
    const ResidualBlock& first = level.blocks.front();
    if (first.in_channels() != first.out_channels()) sum += first.SpareBytes(dtype, rows, cols);
    sum += level.blocks.back().SpareBytes(dtype, rows, cols);
    for (const ResidualBlock& block : level.blocks) sum += block_state(block);
    if (!level.time.empty()) sum += ring(level.time[0]);
    if (!level.space.empty()) rows *= 2, cols *= 2;
  }
  return sum + ring(head_);
}

/// What RunLevel and Upsample hold at their deepest point, the input of every level included.
int64_t WanVaeDecoder::ScratchBytes(DType dtype, int64_t rows, int64_t cols) const {
  int64_t held = 0, peak = 0, width = input_.out_channels();
  for (const Level& level : levels_) {
    const int64_t channel = rows * cols * DTypeSize(dtype);  // bytes of one channel of a frame
    held += channel * width;
    for (const ResidualBlock& block : level.blocks) {
      if (block.out_channels() != width) held += channel * block.out_channels();
      width = block.out_channels();
      peak = std::max(peak, held + block.ScratchBytes(dtype, rows, cols));
    }
    if (level.space.empty()) break;
    peak = std::max(peak, held + 4 * channel * level.space.out_channels() +
                              level.space.ScratchBytes(dtype, rows, cols));
    rows *= 2, cols *= 2;
    width = level.space.out_channels();
  }
  return peak;
}

}  // namespace

Result<std::unique_ptr<VideoDecoder>> LoadWanVaeDecoder(ops::Context& context,
                                                        const Checkpoint& checkpoint,
                                                        const LatentStatistics& statistics) {
  MRT_ASSIGN_OR_RETURN(const CoderWeights weights, ReadDecoderWeights(checkpoint));
  MRT_RETURN_IF_ERROR(Validate(statistics, weights.latent_channels));
  std::unique_ptr<VideoDecoder> decoder =
      std::make_unique<WanVaeDecoder>(context, weights, statistics);
  return decoder;
}

}  // namespace mrt
