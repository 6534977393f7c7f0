// Seconds per latent frame and memory of the two decoders at their released sizes, with random
// weights.
#include <benchmark/benchmark.h>

#include <memory>
#include <utility>

#include "model/taehv/synthetic.h"
#include "model/taehv/taehv.h"
#include "model/vae/synthetic.h"
#include "model/vae/wan_vae.h"

namespace mrt {
namespace {

constexpr int kBaseDim = 96;  // of the released Wan VAE

/// A latent frame in the middle of a stream: four frames.
void DecodeLatentFrame(benchmark::State& bench, ops::Context& context,
                       const Result<std::unique_ptr<VideoDecoder>>& loaded) {
  if (!loaded.ok()) return bench.SkipWithError(loaded.status().message().c_str());
  const VideoDecoder& decoder = **loaded;
  const int64_t rows = bench.range(0), cols = bench.range(1);
  const auto state = decoder.NewState(rows, cols);
  const Tensor latents(DType::kF32, {1, decoder.latent_channels(), rows, cols});
  Tensor frames(DType::kF32,
                {kFramesPerLatent, kPixelsPerLatent * rows, kPixelsPerLatent * cols, 3});
  decoder.Decode(context, *state, latents, frames.view().Slice(0, 1));  // the start of the stream
  for (auto _ : bench) decoder.Decode(context, *state, latents, frames);
  bench.counters["weights_MB"] = static_cast<double>(decoder.weight_bytes()) * 1e-6;
  bench.counters["planned_MB"] =
      static_cast<double>(decoder.WorkingBytes(rows, cols, context.precision())) * 1e-6;
  bench.counters["arena_MB"] = static_cast<double>(context.arena().capacity_bytes()) * 1e-6;
}

void WanVae(benchmark::State& bench, ops::Precision precision) {
  ops::Context context(precision);
  DecodeLatentFrame(
      bench, context,
      LoadWanVaeDecoder(context, SyntheticWanVae(kBaseDim), LatentStatistics::Wan21()));
}

void Taehv(benchmark::State& bench, ops::Precision precision) {
  ops::Context context(precision);
  DecodeLatentFrame(bench, context, LoadTaehvDecoder(context, SyntheticTaehv()));
}

void Sizes(benchmark::internal::Benchmark* bench) {
  bench->ArgNames({"rows", "cols"})->Args({30, 52})->Args({60, 104});
  bench->Unit(benchmark::kMillisecond)->UseRealTime();
}

BENCHMARK_CAPTURE(Taehv, bf16, ops::Precision::kBF16)->Apply(Sizes);
BENCHMARK_CAPTURE(Taehv, f32, ops::Precision::kF32)->Apply(Sizes);
BENCHMARK_CAPTURE(WanVae, bf16, ops::Precision::kBF16)->Apply(Sizes);
BENCHMARK_CAPTURE(WanVae, f32, ops::Precision::kF32)->Apply(Sizes);

}  // namespace
}  // namespace mrt
