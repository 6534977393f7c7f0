// The AMX convolution on frames of the Wan VAE at 832x480, and on some that stay in a core's cache:
// [channels in, out, rows, cols].
#include <benchmark/benchmark.h>

#include <array>
#include <random>

#include "base/threads.h"
#include "kernels/conv/conv.h"
#include "tensor/tensor.h"

namespace mrt {
namespace {

// Random, so that no page is shared and no product is denormal.
Tensor Random(const Shape& shape) {
  Tensor x(DType::kBF16, shape);
  std::minstd_rand random;
  for (int64_t i = 0; i < shape.elements(); ++i)
    x.as<BFloat16>()[i] = ToBFloat16(static_cast<float>(random() % 1024) / 512 - 1);
  return x;
}

void BM_Conv(benchmark::State& state) {
  const int64_t rows = state.range(2), cols = state.range(3);
  const ConvShape shape{.in = state.range(0),
                        .out = state.range(1),
                        .kernel_time = 3,
                        .kernel_rows = 3,
                        .kernel_cols = 3,
                        .pad_top = 1,
                        .pad_left = 1};
  if (const char* reason = ConvRefuses(shape, GetCpuFeatures())) return state.SkipWithError(reason);
  const int64_t padded = PaddedConvOut(shape.out);
  const Tensor weight = Random({padded, shape.taps(), shape.in});
  const Tensor packed(DType::kBF16, weight.shape()), bias(DType::kF32, {padded});
  PackConvWeight(shape, weight.view().data, packed.view().data);
  const Tensor x = Random({3, rows, cols, shape.in}), y(DType::kBF16, {rows, cols, shape.out});
  std::array<const void*, 3> frames;
  for (int64_t t = 0; t < 3; ++t) frames[static_cast<size_t>(t)] = x.view().Slice(t, t + 1).data;
  ConvArgs args{.shape = shape,
                .frames = frames.data(),
                .rows = rows,
                .cols = cols,
                .weight = packed.view().data,
                .bias = bias.as<float>(),
                .y = {y.view().data, StorageType::kBF16},
                .out_rows = rows,
                .out_cols = cols,
                .y_row = cols * shape.out,
                .y_col = shape.out};
  const Tensor scratch(DType::kU8, {ConvScratchBytes(args, ThreadCount())});
  args.scratch = scratch.view().data;
  for (auto _ : state) RunConv(args);
  state.counters["FLOP/s"] =
      benchmark::Counter(2.0 * static_cast<double>(rows * cols * shape.out * shape.in *
                                                   shape.taps() * state.iterations()),
                         benchmark::Counter::kIsRate);
}
BENCHMARK(BM_Conv)
    ->Args({96, 96, 480, 832})
    ->Args({192, 192, 240, 416})
    ->Args({384, 384, 120, 208})
    ->Args({384, 384, 60, 104})
    ->Args({96, 3, 480, 832})
    ->Args({96, 96, 8, 96})
    ->UseRealTime()
    ->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace mrt
