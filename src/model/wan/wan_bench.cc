// One Forward of the 1.3B size at 480x832, bfloat16, and its parts alone at the same shapes.
//
// The blocks are all alike, so Forward runs with few of them (the argument); the parts say what one
// block spends where. Synthetic weights.
#include <benchmark/benchmark.h>

#include <cmath>
#include <random>
#include <vector>

#include "model/wan/synthetic.h"
#include "model/wan/transformer.h"
#include "ops/rowwise.h"

namespace mrt {
namespace {

constexpr int64_t kFrames = 3, kRows = 30, kCols = 52;
constexpr int64_t kTokens = kFrames * kRows * kCols;

ops::Context& BenchContext() {
  static ops::Context context(ops::HasNativeBF16() ? ops::Precision::kBF16 : ops::Precision::kF32);
  return context;
}

Tensor Random(DType dtype, const Shape& shape) {
  Tensor x(DType::kF32, shape);
  std::minstd_rand random(1);
  std::uniform_real_distribution<float> uniform(-1, 1);
  for (int64_t i = 0; i < shape.elements(); ++i) x.as<float>()[i] = uniform(random);
  if (dtype == DType::kF32) return x;
  Tensor y(dtype, shape);
  ops::Cast(BenchContext(), x, y);
  return y;
}

Tensor RandomActivation(const Shape& shape) { return Random(BenchContext().activation(), shape); }

void ReportFlops(benchmark::State& state, double flops) {
  state.counters["FLOP/s"] = benchmark::Counter(flops * static_cast<double>(state.iterations()),
                                                benchmark::Counter::kIsRate);
}

/// Arguments: layers, key frames in the window (a multiple of the chunk), 1 for int8 weights.
void Forward(benchmark::State& state) {
  ops::Context& context = BenchContext();
  WanConfig config = Wan21_1_3B();
  config.num_layers = state.range(0);
  const auto weights = state.range(2) ? ops::WeightType::kInt8 : ops::WeightType::kActivation;
  const WanTransformer wan =
      std::move(WanTransformer::Load(context, SyntheticWan(config), config, weights)).value();
  const CrossKv text = wan.EncodeText(context, Random(DType::kF32, {20, config.text_dim}));
  KvCache cache(config, kRows, kCols, state.range(1), 0, context.activation());
  const Tensor latents = Random(DType::kF32, {kFrames, config.in_dim, 2 * kRows, 2 * kCols});
  const Tensor flow(DType::kF32, latents.shape());
  const std::vector<float> timesteps(kFrames, 1000);
  const auto forward = [&] {
    wan.Forward(context, latents, timesteps, text, cache, ops::AttentionConfig{}, flow);
  };
  while (cache.BeginChunk(kFrames).ok()) {
    forward();
    if (cache.frames_visible() == state.range(1)) break;
    cache.EndChunk();
  }
  for (auto _ : state) forward();
  constexpr double kMiB = 1 << 20;
  state.counters["arena_MiB"] = static_cast<double>(context.arena().capacity_bytes()) / kMiB;
  state.counters["planned_MiB"] =
      static_cast<double>(WanTransformer::ScratchBytes(config, kFrames, kRows, kCols,
                                                       context.precision(), weights)) /
      kMiB;
}
BENCHMARK(Forward)
    ->ArgNames({"layers", "kv", "int8"})
    ->ArgsProduct({{1, 2}, {3}, {0, 1}})
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();

/// Arguments: rows, in, out, 1 for GELU, 1 for int8 weights.
void Linear(benchmark::State& state) {
  ops::Context& context = BenchContext();
  const int64_t rows = state.range(0), in = state.range(1), out = state.range(2);
  const auto weights = state.range(4) ? ops::WeightType::kInt8 : ops::WeightType::kActivation;
  const ops::Linear linear(context, RandomActivation({out, in}), Random(DType::kF32, {out}),
                           weights);
  const Tensor x = RandomActivation({rows, in}), y = RandomActivation({rows, out});
  const auto activation = state.range(3) ? ops::Activation::kGeluTanh : ops::Activation::kNone;
  for (auto _ : state) linear.Run(context, x, y, activation);
  ReportFlops(state, 2.0 * static_cast<double>(rows * in * out));
}
BENCHMARK(Linear)
    ->ArgNames({"rows", "in", "out", "gelu", "int8"})
    ->ArgsProduct({{kTokens}, {1536}, {1536}, {0}, {0, 1}})  // q, k, v, o; q, o
    ->ArgsProduct({{kTokens}, {1536}, {8960}, {1}, {0, 1}})  // ffn.0
    ->ArgsProduct({{kTokens}, {8960}, {1536}, {0}, {0, 1}})  // ffn.2
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();

/// Arguments: key frames, 1 for dense.
void SelfAttention(benchmark::State& state) {
  ops::Context& context = BenchContext();
  const WanConfig c = Wan21_1_3B();
  const Shape grid{kFrames, kRows, kCols, c.num_heads, c.head_dim()};
  const int64_t frames_kv = state.range(0);
  const Tensor q = RandomActivation(grid), out = RandomActivation(grid);
  const Tensor kv = RandomActivation({frames_kv, kRows, kCols, c.num_heads, c.head_dim()});
  std::vector<void*> frames;
  for (int64_t f = 0; f < frames_kv; ++f) frames.push_back(kv.view().Slice(f, f + 1).data);
  const ops::AttentionConfig config{.mode = state.range(1) ? ops::AttentionMode::kDense
                                                           : ops::AttentionMode::kMonarch};
  for (auto _ : state)
    ops::SelfAttention(context, config, {kRows, kCols, 12, 128}, q, {frames, frames, kv.dtype()},
                       out);
}
BENCHMARK(SelfAttention)
    ->ArgNames({"kv", "dense"})
    ->Args({3, 0})
    ->Args({21, 0})
    ->Args({3, 1})
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();

void CrossAttention(benchmark::State& state) {
  ops::Context& context = BenchContext();
  const WanConfig c = Wan21_1_3B();
  const Shape queries{kTokens, c.num_heads, c.head_dim()};
  const Tensor q = RandomActivation(queries), out = RandomActivation(queries);
  constexpr int64_t kRows = 41;  // a prompt of 40 pieces, and one row for its padding
  const Tensor kv = RandomActivation({kRows, c.num_heads, c.head_dim()});
  const Tensor bias = Random(DType::kF32, {kRows});
  const float scale = 1 / std::sqrt(static_cast<float>(c.head_dim()));
  for (auto _ : state) ops::DenseAttention(context, q, kv, kv, scale, bias, out);
  ReportFlops(state, 4.0 * static_cast<double>(kTokens * kRows * c.dim));
}
BENCHMARK(CrossAttention)->Unit(benchmark::kMillisecond)->UseRealTime();

/// All row-wise operations of one block.
void Rowwise(benchmark::State& state) {
  ops::Context& context = BenchContext();
  const WanConfig c = Wan21_1_3B();
  const Tensor x = Random(DType::kF32, {kTokens, c.dim}), y = RandomActivation({kTokens, c.dim});
  const Tensor vector = Random(DType::kF32, {1, c.dim});
  const ConstTensorView weight = vector.view().Reshape({c.dim});
  const Tensor angles = Random(DType::kF32, {kTokens, c.head_dim() / 2});
  const TensorView heads = y.view().Reshape({kTokens, c.num_heads, c.head_dim()});
  const Tensor stored = RandomActivation({kTokens, c.dim});
  void* const frame = stored.view().data;
  const ops::KvFrames kv = {{&frame, 1}, {&frame, 1}, stored.dtype()};
  for (auto _ : state) {
    ops::LayerNormModulate(context, x, vector, vector, c.eps, y);
    const ops::RotaryNorm norm = {.weight = weight, .cos = angles, .sin = angles, .eps = c.eps};
    ops::RmsNormRope(context, heads, norm);
    ops::StoreKeys(context, heads, norm, kv);
    ops::StoreValues(context, heads, kv);
    ops::LayerNorm(context, x, weight, weight, c.eps, y);
    ops::RmsNorm(context, y, weight, c.eps, y);
    ops::LayerNormModulate(context, x, vector, vector, c.eps, y);
  }
}
BENCHMARK(Rowwise)->Unit(benchmark::kMillisecond)->UseRealTime();

/// The time embedding and the rotary table of one Forward.
void Conditioning(benchmark::State& state) {
  ops::Context& context = BenchContext();
  WanConfig config = Wan21_1_3B();
  config.num_layers = 1;
  const TimeEmbedding time(config, SyntheticWan(config));
  const Tensor embedding(DType::kF32, {1, config.dim}), projection(DType::kF32, {6, 1, config.dim});
  const float timestep = 750;
  for (auto _ : state) {
    const ArenaScope scope(context.arena());
    time.Run(context, {&timestep, 1}, embedding, projection);
    benchmark::DoNotOptimize(
        MakeRopeTable(context, config.head_dim(), 18, kFrames, kRows, kCols).cos.data);
  }
}
BENCHMARK(Conditioning)->Unit(benchmark::kMillisecond)->UseRealTime();

}  // namespace
}  // namespace mrt
