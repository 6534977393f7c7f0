// monarch_bench: every implementation on the shapes of real models. Key and value frames are
// distinct, as in a key/value cache. FLOPs are those of the products of one step forward, whatever
// the number of steps, and of the gradients too. CPU time is that of all threads.
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

// Tensors of a shape, and one more of the queries' sizes: the output, or the derivative by it.
struct Tensors {
  explicit Tensors(const MonarchShape& shape) {
    const bool bf16 = shape.storage == StorageType::kBF16;
    const int64_t frame = FrameElements(shape);
    q = testing::RandomBuffer(shape.frames_q * frame, bf16, 1);
    out = testing::RandomBuffer(shape.frames_q * frame, bf16, 2);
    for (int f = 0; f < shape.frames_kv; ++f) {
      frames.push_back(testing::RandomBuffer(frame, bf16, static_cast<uint32_t>(3 + f)));
      k.push_back(frames.back().get());
      frames.push_back(testing::RandomBuffer(frame, bf16, static_cast<uint32_t>(1003 + f)));
      v.push_back(frames.back().get());
    }
  }
  static int64_t FrameElements(const MonarchShape& shape) {
    return int64_t{shape.rows} * shape.cols * shape.heads * shape.head_dim;
  }
  testing::BenchBuffer q, out;
  std::vector<testing::BenchBuffer> frames;
  std::vector<const void*> k, v;
};

void CountFlop(benchmark::State& state, const MonarchShape& shape) {
  state.counters["FLOP/s"] =
      benchmark::Counter(MonarchFlop(shape), benchmark::Counter::kIsIterationInvariantRate);
}

void Run(benchmark::State& state, const MonarchImpl& impl, const MonarchShape& shape) {
  const Tensors t(shape);
  const auto scratch = testing::AllocateBuffer(impl.scratch_bytes(shape, ThreadCount()));
  for (auto _ : state)
    impl.run({.shape = shape,
              .q = t.q.get(),
              .k_frames = t.k.data(),
              .v_frames = t.v.data(),
              .out = t.out.get(),
              .scratch = scratch.get()});
  CountFlop(state, shape);
}

void Run(benchmark::State& state, const MonarchBackwardImpl& impl, const MonarchShape& shape) {
  const Tensors t(shape);
  const auto scratch = testing::AllocateBuffer(impl.scratch_bytes(shape, ThreadCount()));
  std::vector<testing::BenchBuffer> gradients;
  const auto gradient = [&](int64_t frames) {
    gradients.push_back(
        testing::AllocateBuffer(frames * Tensors::FrameElements(shape) * int64_t{sizeof(float)}));
    return static_cast<float*>(gradients.back().get());
  };
  float* const d_q = gradient(shape.frames_q);
  std::vector<float*> d_k, d_v;
  for (int f = 0; f < shape.frames_kv; ++f) {
    d_k.push_back(gradient(1));
    d_v.push_back(gradient(1));
  }
  for (auto _ : state)
    impl.run({.shape = shape,
              .q = t.q.get(),
              .k_frames = t.k.data(),
              .v_frames = t.v.data(),
              .d_out = t.out.get(),
              .d_q = d_q,
              .d_k_frames = d_k.data(),
              .d_v_frames = d_v.data(),
              .scratch = scratch.get()});
  CountFlop(state, shape);
}

template <typename Impl>
void Register(const std::string& name, const Impl& impl, MonarchShape shape) {
  shape.kv_layout = KvLayout::kHeadMajor;  // as in the engine's KV cache
  for (const StorageType storage : {StorageType::kF32, StorageType::kBF16}) {
    shape.storage = storage;
    const std::string full =
        name + "/" + impl.name + (storage == StorageType::kF32 ? "/f32" : "/bf16");
    benchmark::RegisterBenchmark(full.c_str(),
                                 [&impl, shape](benchmark::State& state) {
                                   if (const char* why = impl.refuses(shape, GetCpuFeatures()))
                                     return state.SkipWithError(why);
                                   Run(state, impl, shape);
                                 })
        ->Unit(benchmark::kMillisecond)
        ->MeasureProcessCPUTime()
        ->UseRealTime();
  }
}

// The references, which come last, would take minutes.
bool RegisterAll() {
  for (const auto& named : kShapes) {
    const std::string name = named.name;
    for (const MonarchImpl& impl : MonarchImpls())
      if (&impl != &MonarchImpls().back()) Register("monarch/" + name, impl, named.shape);
    for (const MonarchBackwardImpl& impl : MonarchBackwardImpls())
      if (&impl != &MonarchBackwardImpls().back())
        Register("monarch_backward/" + name, impl, named.shape);
  }
  return true;
}

[[maybe_unused]] const bool kRegistered = RegisterAll();

}  // namespace
}  // namespace mrt
