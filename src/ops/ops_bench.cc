// Speed of the operations that carry a model's time. FLOP/s count a multiply-add as two.
#include <benchmark/benchmark.h>

#include "ops/conv.h"
#include "ops/linear.h"
#include "ops/rowwise.h"

namespace mrt::ops {
namespace {

/// Ones: not denormal, not zero, and quick to make.
Tensor Ones(DType dtype, const Shape& shape) {
  Tensor x(dtype, shape);
  for (int64_t i = 0; i < shape.elements(); ++i) {
    if (dtype == DType::kF32) {
      x.as<float>()[i] = 1;
    } else {
      x.as<BFloat16>()[i] = ToBFloat16(1);
    }
  }
  return x;
}

/// Rates that the library prints per second.
void Count(benchmark::State& state, const char* name, double per_iteration) {
  state.counters[name] = benchmark::Counter(per_iteration * static_cast<double>(state.iterations()),
                                            benchmark::Counter::kIsRate);
}

/// Arguments: rows, in, out.
template <Precision kPrecision, WeightType kWeights = WeightType::kActivation>
void BM_Linear(benchmark::State& state) {
  const int64_t rows = state.range(0), in = state.range(1), out = state.range(2);
  Context context(kPrecision);
  const DType act = context.activation();
  const Linear linear(context, Ones(act, {out, in}), Ones(DType::kF32, {out}), kWeights);
  const Tensor x = Ones(act, {rows, in}), y(act, {rows, out});
  linear.Run(context, x, y);
  for (auto _ : state) linear.Run(context, x, y);
  Count(state, "FLOP/s", 2.0 * static_cast<double>(rows * in * out));
}

void LinearShapes(benchmark::internal::Benchmark* b) {
  b->Args({4680, 1536, 1536})->Args({4680, 1536, 8960})->Args({4680, 8960, 1536});
  b->Args({512, 1536, 1536})->Args({32, 1536, 1536})->Args({3, 1536, 1536})->Args({1, 16, 16});
  b->UseRealTime()->Unit(benchmark::kMicrosecond);
}
BENCHMARK(BM_Linear<Precision::kBF16>)->Apply(LinearShapes);
BENCHMARK(BM_Linear<Precision::kF32>)->Apply(LinearShapes);
BENCHMARK(BM_Linear<Precision::kBF16, WeightType::kInt8>)->Apply(LinearShapes);
BENCHMARK(BM_Linear<Precision::kF32, WeightType::kInt8>)->Apply(LinearShapes);
BENCHMARK(BM_Linear<Precision::kF32, WeightType::kInt8Fine>)->Apply(LinearShapes);

/// The same with a GELU behind it: what the post-operation costs.
template <Precision kPrecision, WeightType kWeights = WeightType::kActivation>
void BM_LinearGelu(benchmark::State& state) {
  Context context(kPrecision);
  const DType act = context.activation();
  const Linear linear(context, Ones(act, {8960, 1536}), Ones(DType::kF32, {8960}), kWeights);
  const Tensor x = Ones(act, {1560, 1536}), y(act, {1560, 8960});
  for (auto _ : state) linear.Run(context, x, y, Activation::kGeluTanh);
  Count(state, "FLOP/s", 2.0 * 1560 * 1536 * 8960);
}
BENCHMARK(BM_LinearGelu<Precision::kBF16>)->UseRealTime()->Unit(benchmark::kMicrosecond);
BENCHMARK(BM_LinearGelu<Precision::kF32>)->UseRealTime()->Unit(benchmark::kMicrosecond);
BENCHMARK(BM_LinearGelu<Precision::kBF16, WeightType::kInt8>)
    ->UseRealTime()
    ->Unit(benchmark::kMicrosecond);
BENCHMARK(BM_LinearGelu<Precision::kF32, WeightType::kInt8>)
    ->UseRealTime()
    ->Unit(benchmark::kMicrosecond);

/// What ends a block's branches: gated (the last argument is 1) or not, added to the residual.
template <Precision kPrecision, WeightType kWeights = WeightType::kActivation>
void BM_LinearAddTo(benchmark::State& state) {
  const int64_t rows = state.range(0), in = state.range(1), out = state.range(2);
  Context context(kPrecision);
  const DType act = context.activation();
  const Linear linear(context, Ones(act, {out, in}), Ones(DType::kF32, {out}), kWeights);
  const Tensor x = Ones(act, {rows, in}), residual = Ones(DType::kF32, {rows, out});
  Tensor gate;
  if (state.range(3) != 0) gate = Ones(DType::kF32, {1, out});
  for (auto _ : state) linear.AddTo(context, x, residual, gate);
  Count(state, "FLOP/s", 2.0 * static_cast<double>(rows * in * out));
}

void AddToShapes(benchmark::internal::Benchmark* b) {
  b->Args({4680, 1536, 1536, 0})->Args({4680, 1536, 1536, 1})->Args({4680, 8960, 1536, 1});
  b->Args({4680, 256, 256, 0})->Args({4680, 256, 256, 1})->Args({4680, 1024, 256, 1});
  b->UseRealTime()->Unit(benchmark::kMicrosecond);
}
BENCHMARK(BM_LinearAddTo<Precision::kBF16>)->Apply(AddToShapes);
BENCHMARK(BM_LinearAddTo<Precision::kF32>)->Apply(AddToShapes);
BENCHMARK(BM_LinearAddTo<Precision::kF32, WeightType::kInt8>)->Apply(AddToShapes);
BENCHMARK(BM_LinearAddTo<Precision::kF32, WeightType::kInt8Fine>)->Apply(AddToShapes);

/// Packing the weight of a feed-forward layer from the BF16 or F32 of a file.
template <Precision kPrecision, DType kFile>
void BM_PackLinear(benchmark::State& state) {
  Context context(kPrecision);
  const Tensor weight = Ones(kFile, {8960, 1536});
  for (auto _ : state) benchmark::DoNotOptimize(Linear(context, weight, {}).bytes());
  Count(state, "B/s", static_cast<double>(weight.bytes()));
}
BENCHMARK(BM_PackLinear<Precision::kBF16, DType::kBF16>)->UseRealTime();
BENCHMARK(BM_PackLinear<Precision::kBF16, DType::kF32>)->UseRealTime();
BENCHMARK(BM_PackLinear<Precision::kF32, DType::kBF16>)->UseRealTime();
BENCHMARK(BM_PackLinear<Precision::kF32, DType::kF32>)->UseRealTime();

/// A residual convolution of the Wan VAE: 3x3x3, 96 channels, one new frame. Arguments: rows,
/// columns.
template <Precision kPrecision>
void BM_Conv(benchmark::State& state) {
  const int64_t channels = state.range(0), rows = state.range(1), cols = state.range(2);
  Context context(kPrecision);
  const DType act = context.activation();
  const Conv conv(context, Ones(act, {channels, channels, 3, 3, 3}), Ones(DType::kF32, {channels}),
                  {1, 1, 1, 1, 1, 1});
  const Tensor x = Ones(act, {3, rows, cols, channels}), y(act, {1, rows, cols, channels});
  conv.Run(context, x, y);
  for (auto _ : state) conv.Run(context, x, y);
  Count(state, "FLOP/s", 2.0 * 27 * channels * channels * static_cast<double>(rows * cols));
}
BENCHMARK(BM_Conv<Precision::kBF16>)
    ->Args({96, 480, 832})
    ->Args({192, 240, 416})
    ->Args({384, 120, 208})
    ->Args({384, 60, 104})
    ->Args({96, 4, 4})
    ->UseRealTime()
    ->Unit(benchmark::kMicrosecond);
BENCHMARK(BM_Conv<Precision::kF32>)
    ->Args({96, 120, 208})
    ->UseRealTime()
    ->Unit(benchmark::kMicrosecond);

// Row-wise operations on one chunk of the 1.3B model: 4680 tokens of 1536 channels. Bytes are those
// read and written.

constexpr int64_t kTokens = 4680, kWidth = 1536;

void BM_LayerNormModulate(benchmark::State& state) {
  Context context(Precision::kBF16);
  const Tensor x = Ones(DType::kF32, {kTokens, kWidth}), y(DType::kBF16, {kTokens, kWidth});
  const Tensor scale = Ones(DType::kF32, {3, kWidth}), shift = Ones(DType::kF32, {3, kWidth});
  for (auto _ : state) LayerNormModulate(context, x, scale, shift, 1e-6f, y);
  Count(state, "B/s", 6.0 * kTokens * kWidth);
}
BENCHMARK(BM_LayerNormModulate)->UseRealTime()->Unit(benchmark::kMicrosecond);

void BM_RmsNorm(benchmark::State& state) {
  Context context(Precision::kBF16);
  const Tensor x = Ones(DType::kBF16, {kTokens, kWidth}), weight = Ones(DType::kF32, {kWidth});
  for (auto _ : state) RmsNorm(context, x, weight, 1e-6f, x);
  Count(state, "B/s", 4.0 * kTokens * kWidth);
}
BENCHMARK(BM_RmsNorm)->UseRealTime()->Unit(benchmark::kMicrosecond);

void BM_RmsNormRope(benchmark::State& state) {
  constexpr int64_t kHeads = 12, kHeadDim = 128;
  Context context(Precision::kBF16);
  const Tensor x = Ones(DType::kBF16, {kTokens, kHeads, kHeadDim});
  const Tensor weight = Ones(DType::kF32, {kWidth});
  const Tensor cos = Ones(DType::kF32, {kTokens, kHeadDim / 2});
  const Tensor sin(DType::kF32, {kTokens, kHeadDim / 2});
  for (auto _ : state) RmsNormRope(context, x, {weight, cos, sin, 1e-6f});
  Count(state, "B/s", 4.0 * kTokens * kWidth);
}
BENCHMARK(BM_RmsNormRope)->UseRealTime()->Unit(benchmark::kMicrosecond);

/// The norm before a VAE convolution at full size. Argument: with SiLU or not.
void BM_ChannelNorm(benchmark::State& state) {
  constexpr int64_t kPixels = 240 * 416, channels = 96;
  Context context(Precision::kBF16);
  const Tensor x = Ones(DType::kBF16, {kPixels, channels});
  const Tensor y(DType::kBF16, {kPixels, channels});
  const Tensor gamma = Ones(DType::kF32, {channels});
  for (auto _ : state) ChannelNorm(context, x, gamma, state.range(0) != 0, y);
  Count(state, "B/s", 4.0 * kPixels * channels);
}
BENCHMARK(BM_ChannelNorm)->Arg(0)->Arg(1)->UseRealTime()->Unit(benchmark::kMicrosecond);

void BM_UpsampleNearest2x(benchmark::State& state) {
  Context context(Precision::kBF16);
  const Tensor x = Ones(DType::kBF16, {1, 120, 208, 192});
  const Tensor y(DType::kBF16, {1, 240, 416, 192});
  for (auto _ : state) UpsampleNearest2x(context, x, y);
  Count(state, "B/s", 2.0 * 5 * 120 * 208 * 192);
}
BENCHMARK(BM_UpsampleNearest2x)->UseRealTime()->Unit(benchmark::kMicrosecond);

}  // namespace
}  // namespace mrt::ops
