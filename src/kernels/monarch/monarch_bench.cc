// monarch_bench: every implementation on the shapes of real models. Key and value frames are
// distinct, as in a key/value cache. FLOPs are those of the products of one step, whatever the
// number of steps. CPU time is that of all threads.
#include <benchmark/benchmark.h>

#include <string>
#include <vector>

#include "base/threads.h"
#include "kernels/monarch/monarch.h"
#include "testing/bench_buffers.h"

namespace mrt {
namespace {

// The last chunk of three frames against a full window of 21.
constexpr MonarchShape kWan480p = {
    .heads = 12, .frames_q = 3, .frames_kv = 21, .rows = 30, .cols = 52, .head_dim = 128};
constexpr MonarchShape kWan720p = {
    .heads = 12, .frames_q = 3, .frames_kv = 21, .rows = 45, .cols = 80, .head_dim = 128};
// Short enough for a quick look.
constexpr MonarchShape kSmall = {
    .heads = 12, .frames_q = 1, .frames_kv = 3, .rows = 30, .cols = 52, .head_dim = 128};

constexpr MonarchShape With(MonarchShape shape, int f_tied, int h_reduce, int iterations) {
  shape.f_tied = f_tied, shape.h_reduce = h_reduce, shape.iterations = iterations;
  return shape;
}

constexpr struct {
  const char* name;
  MonarchShape shape;
} kShapes[] = {
    {"small", kSmall},
    {"480p", kWan480p},
    {"480p_h_reduce2", With(kWan480p, 1, 2, 1)},
    {"480p_f_tied3", With(kWan480p, 3, 1, 1)},
    {"480p_two_steps", With(kWan480p, 1, 1, 2)},
    {"720p", kWan720p},
    {"720p_f_tied3", With(kWan720p, 3, 1, 1)},
};

void Run(benchmark::State& state, const MonarchImpl& impl, const MonarchShape& shape) {
  if (const char* refusal = impl.refuses(shape, GetCpuFeatures())) {
    state.SkipWithError(refusal);
    return;
  }
  const bool bf16 = shape.storage == StorageType::kBF16;
  const int64_t frame = int64_t{shape.rows} * shape.cols * shape.heads * shape.head_dim;
  const auto q = testing::RandomBuffer(shape.frames_q * frame, bf16, 1);
  const auto out = testing::RandomBuffer(shape.frames_q * frame, bf16, 2);
  const auto scratch = testing::AllocateBuffer(impl.scratch_bytes(shape, ThreadCount()));
  std::vector<testing::BenchBuffer> frames;
  std::vector<const void*> k, v;
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
              .out = out.get(),
              .scratch = scratch.get()});
  state.counters["FLOP/s"] =
      benchmark::Counter(MonarchFlop(shape), benchmark::Counter::kIsIterationInvariantRate);
}

bool RegisterAll() {
  for (const auto& named : kShapes)
    for (const MonarchImpl& impl : MonarchImpls())
      for (const StorageType storage : {StorageType::kF32, StorageType::kBF16}) {
        if (&impl == &MonarchImpls().back()) continue;  // the reference takes minutes
        MonarchShape shape = named.shape;
        shape.storage = storage;
        std::string name = std::string("monarch/") + named.name + "/" + impl.name;
        name += storage == StorageType::kF32 ? "/f32" : "/bf16";
        benchmark::RegisterBenchmark(
            name.c_str(), [&impl, shape](benchmark::State& state) { Run(state, impl, shape); })
            ->Unit(benchmark::kMillisecond)
            ->MeasureProcessCPUTime()
            ->UseRealTime();
      }
  return true;
}

[[maybe_unused]] const bool kRegistered = RegisterAll();

}  // namespace
}  // namespace mrt
