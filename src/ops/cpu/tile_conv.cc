#include "ops/cpu/tile_conv.h"

#include <array>

#include "base/check.h"
#include "base/threads.h"
#include "ops/cpu/vendor.h"

namespace mrt::ops {
namespace {

/// [out, in, taps] -> BF16 [padded out, taps, in].
TileBytes ChannelsLast(const ConvShape& s, const ConstTensorView& weight) {
  const int64_t taps = s.taps(), filter = s.in * taps, padded = PaddedConvOut(s.out);
  Tensor rounded(DType::kBF16, {s.out, filter});
  ConvertTo(weight, DType::kBF16, rounded.view().data);
  TileBytes moved(padded * filter * DTypeSize(DType::kBF16));
  ParallelFor(padded, 1, [&](int64_t begin, int64_t end) {
    for (int64_t o = begin; o < end; ++o) {
      auto* const to = static_cast<BFloat16*>(moved.data()) + o * filter;
      const BFloat16* const from = rounded.as<BFloat16>() + o * filter;
      for (int64_t i = 0; i < filter; ++i)
        to[i] = o < s.out ? from[i % s.in * taps + i / s.in] : BFloat16{};
    }
  });
  return moved;
}

}  // namespace

bool TileConv::Takes(const Context& context, const ConvShape& shape) {
  return context.precision() == Precision::kBF16 && shape.kernel_time <= Conv::kFramesMax &&
         ConvRefuses(shape, GetCpuFeatures()) == nullptr;
}

TileConv::TileConv(const ConvShape& shape, const ConstTensorView& weight,
                   const ConstTensorView& bias)
    : shape_(shape),
      weight_(PaddedConvOut(shape.out) * shape.taps() * shape.in * DTypeSize(DType::kBF16)),
      bias_(DType::kF32, {PaddedConvOut(shape.out)}) {
  PackConvWeight(shape, ChannelsLast(shape, weight).data(), weight_.data());
  if (!bias.empty()) ConvertTo(bias, DType::kF32, bias_.view().data);
}

void TileConv::Run(Context& context, std::span<const ConstTensorView> frames, const TensorView& y,
                   const ConvEnd& end) const {
  MRT_CHECK(static_cast<int64_t>(frames.size()) == shape_.kernel_time);
  std::array<const void*, Conv::kFramesMax> data;
  for (size_t t = 0; t < frames.size(); ++t) data[t] = frames[t].data;
  const Shape& x = frames.front().shape;
  ConvArgs args{.shape = shape_,
                .frames = data.data(),
                .rows = x[1],
                .cols = x[2],
                .weight = weight_.data(),
                .bias = bias_.as<float>(),
                .y = Out(y),
                .out_rows = y.shape[1] / end.spread,
                .out_cols = y.shape[2] / end.spread,
                .y_row = end.spread * y.shape[2] * shape_.out,
                .y_col = end.spread * shape_.out,
                .epilogue = EpilogueOf(end.activation),
                .add = end.add};
  const int64_t first = (end.first_row * y.shape[2] + end.first_col) * shape_.out;
  args.y.data = static_cast<char*>(args.y.data) + first * DTypeSize(y.dtype);
  const ArenaScope scope(context.arena());
  const int64_t bytes = ConvScratchBytes(args, ThreadCount());
  args.scratch = context.arena().Allocate(DType::kU8, Shape{bytes}).data;
  RunConv(args);
}

}  // namespace mrt::ops
