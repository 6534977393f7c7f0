#include "model/taehv/memory_block.h"

#include "ops/rowwise.h"

namespace mrt {

ops::Conv SameSizeConv(ops::Context& context, const ConvWeights& weights) {
  return {context,
          weights.weight,
          weights.bias,
          {.pad_top = 1, .pad_left = 1, .pad_bottom = 1, .pad_right = 1}};
}

MemoryBlock::MemoryBlock(ops::Context& context, const MemoryWeights& weights)
    : conv_0_(context, ChannelsToTime(weights.conv_0.weight, 2, FrameOrder::kNewestFirst),
              weights.conv_0.bias),
      conv_2_(SameSizeConv(context, weights.conv_2)),
      conv_4_(SameSizeConv(context, weights.conv_4)) {
  if (weights.skip.empty()) return;
  const Shape& shape = weights.skip.shape;
  skip_ = ops::Linear(context, weights.skip.Reshape({shape[0], shape[1]}), {});
}

void MemoryBlock::Run(ops::Context& context, FrameRing& ring, const TensorView& y) const {
  ArenaScope scope(context.arena());
  const TensorView a = context.Activation(y.shape);
  const TensorView b = context.Activation(y.shape);
  conv_0_.Run(context, ring, a, ops::Activation::kRelu);
  conv_2_.Run(context, a, b, ops::Activation::kRelu);
  conv_4_.Run(context, b, y);
  if (!skip_.empty()) skip_.Run(context, ring.Newest(), a);
  ops::Add(context, y, skip_.empty() ? ring.Newest() : a, /*relu=*/true);
  ring.Advance();
}

int64_t MemoryBlock::bytes() const {
  return conv_0_.bytes() + conv_2_.bytes() + conv_4_.bytes() + (skip_.empty() ? 0 : skip_.bytes());
}

}  // namespace mrt
