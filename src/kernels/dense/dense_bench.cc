// dense_bench: every implementation on the shapes of real models. Key and value frames are
// distinct, as in a key/value cache. CPU time is that of all threads.
#include <benchmark/benchmark.h>

#include <string>
#include <vector>

#include "base/threads.h"
#include "kernels/dense/dense.h"
#include "testing/bench_buffers.h"

namespace mrt {
namespace {

constexpr float kScale128 = 0.0883883476f;  // 1/sqrt(128)

constexpr struct {
  const char* name;
  DenseShape shape;
  bool with_bias;
} kShapes[] = {
    // 480x832 has 30 x 52 tokens in a latent frame; monarch_bench has the same two shapes.
    {"small",
     {.heads = 12,
      .tokens_q = 1560,
      .tokens_per_frame = 1560,
      .frames_kv = 3,
      .scale = kScale128,
      .kv_layout = KvLayout::kHeadMajor},
     false},
    {"480p",
     {.heads = 12,
      .tokens_q = 3 * 1560,
      .tokens_per_frame = 1560,
      .frames_kv = 21,
      .scale = kScale128,
      .kv_layout = KvLayout::kHeadMajor},
     false},
    // A prompt of 40 pieces, and one row for its padding.
    {"text_cross",
     {.heads = 12, .tokens_q = 3 * 1560, .tokens_per_frame = 41, .scale = kScale128},
     false},
    {"umt5_xxl", {.heads = 64, .tokens_q = 512, .tokens_per_frame = 512, .head_dim = 64}, true},
    {"vae_middle",
     {.tokens_q = 60 * 104, .tokens_per_frame = 60 * 104, .head_dim = 384, .scale = 0.0510310363f},
     false},  // 1/sqrt(384)
};

void Run(benchmark::State& state, const DenseImpl& impl, const DenseShape& shape, bool with_bias) {
  if (const char* refusal = impl.refuses(shape, GetCpuFeatures())) {
    state.SkipWithError(refusal);
    return;
  }
  const bool bf16 = shape.storage == StorageType::kBF16;
  const int64_t width = int64_t{shape.heads} * shape.head_dim;
  const auto q = testing::RandomBuffer(shape.tokens_q * width, bf16, 1);
  const auto out = testing::RandomBuffer(shape.tokens_q * width, bf16, 2);
  const auto scratch = testing::AllocateBuffer(impl.scratch_bytes(shape, ThreadCount()));
  const int64_t map = shape.heads * shape.tokens_q * shape.tokens_per_frame * shape.frames_kv;
  const auto bias = testing::RandomBuffer(with_bias ? map : 0, false, 5);
  std::vector<testing::BenchBuffer> frames;
  std::vector<const void*> k, v;
  const int64_t frame = shape.tokens_per_frame * width;
  for (int f = 0; f < shape.frames_kv; ++f) {
    frames.push_back(testing::RandomBuffer(frame, bf16, static_cast<uint32_t>(3 + f)));
    k.push_back(frames.back().get());
    frames.push_back(testing::RandomBuffer(frame, bf16, static_cast<uint32_t>(1003 + f)));
    v.push_back(frames.back().get());
  }
  for (auto _ : state)
    impl.run({.shape = shape,
              .q = q.get(),
              .k_frames = k.data(),
              .v_frames = v.data(),
              .bias = with_bias ? static_cast<const float*>(bias.get()) : nullptr,
              .out = out.get(),
              .scratch = scratch.get()});
  state.counters["FLOP/s"] =
      benchmark::Counter(DenseFlop(shape), benchmark::Counter::kIsIterationInvariantRate);
}

bool RegisterAll() {
  for (const auto& named : kShapes)
    for (const DenseImpl& impl : DenseImpls())
      for (const StorageType storage : {StorageType::kF32, StorageType::kBF16}) {
        if (&impl == &DenseImpls().back()) continue;  // the reference takes minutes
        DenseShape shape = named.shape;
        shape.storage = storage;
        const bool with_bias = named.with_bias;
        std::string name = std::string("dense/") + named.name + "/" + impl.name;
        name += storage == StorageType::kF32 ? "/f32" : "/bf16";
        benchmark::RegisterBenchmark(name.c_str(),
                                     [&impl, shape, with_bias](benchmark::State& state) {
                                       Run(state, impl, shape, with_bias);
                                     })
            ->Unit(benchmark::kMillisecond)
            ->MeasureProcessCPUTime()
            ->UseRealTime();
      }
  return true;
}

[[maybe_unused]] const bool kRegistered = RegisterAll();

}  // namespace
}  // namespace mrt
