// monarch_bench: every implementation on the shapes of real models. Key and value frames are random
// and distinct, as in a key/value cache. FLOPs are those of one step's four products.
#include <benchmark/benchmark.h>

#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "base/float16.h"
#include "base/threads.h"
#include "kernels/monarch/monarch.h"

namespace mrt {
namespace {

struct NamedShape {
  const char* name;
  MonarchShape shape;
};

// The chunk of three frames against a full window of 21.
constexpr MonarchShape kWan480p = {
    .heads = 12, .frames_q = 3, .frames_kv = 21, .rows = 30, .cols = 52, .head_dim = 128};

constexpr MonarchShape With(MonarchShape shape, int f_tied, int h_reduce, int iterations) {
  shape.f_tied = f_tied, shape.h_reduce = h_reduce, shape.iterations = iterations;
  return shape;
}

constexpr MonarchShape kWan720p = {
    .heads = 12, .frames_q = 3, .frames_kv = 21, .rows = 45, .cols = 80, .head_dim = 128};
constexpr MonarchShape kOneFrame = {
    .heads = 12, .frames_q = 1, .frames_kv = 3, .rows = 30, .cols = 52, .head_dim = 128};

constexpr NamedShape kShapes[] = {
    {"one_frame", kOneFrame},
    {"480p", kWan480p},
    {"480p_h_reduce2", With(kWan480p, 1, 2, 1)},
    {"480p_f_tied3", With(kWan480p, 3, 1, 1)},
    {"480p_two_steps", With(kWan480p, 1, 1, 2)},
    {"720p", kWan720p},
    {"720p_f_tied3", With(kWan720p, 3, 1, 1)},
};

double Flops(const MonarchShape& s) {
  const double tile_pairs = double(s.frames_q) / s.f_tied * s.h_reduce * s.w_reduce *
                            (double(s.frames_kv) / s.f_tied * s.h_reduce * s.w_reduce);
  const double b1 = s.b1(), b2 = s.b2();
  return 2 * tile_pairs * s.heads * s.head_dim * (3 * b1 * b2 * b2 + 2 * b2 * b1 * b1);
}

struct Free {
  void operator()(void* p) const { std::free(p); }
};
using Buffer = std::unique_ptr<void, Free>;

Buffer Allocate(int64_t bytes) {
  return Buffer(std::aligned_alloc(64, static_cast<size_t>((bytes + 63) / 64 * 64)));
}

// Values in about [-1, 1); a linear congruential generator is random enough for time.
Buffer RandomTensor(int64_t elements, StorageType storage, uint32_t seed) {
  Buffer buffer = Allocate(elements * StorageBytes(storage));
  for (int64_t i = 0; i < elements; ++i) {
    seed = seed * 1664525u + 1013904223u;
    const float x = static_cast<float>(static_cast<int32_t>(seed)) * 0x1p-31f;
    if (storage == StorageType::kF32) {
      static_cast<float*>(buffer.get())[i] = x;
    } else {
      static_cast<BFloat16*>(buffer.get())[i] = ToBFloat16(x);
    }
  }
  return buffer;
}

void Run(benchmark::State& state, const MonarchImpl& impl, const MonarchShape& shape) {
  if (const char* refusal = impl.refuses(shape, GetCpuFeatures())) {
    state.SkipWithError(refusal);
    return;
  }
  const int64_t frame_elements = int64_t{shape.rows} * shape.cols * shape.heads * shape.head_dim;
  const Buffer q = RandomTensor(shape.frames_q * frame_elements, shape.storage, 1);
  const Buffer out = Allocate(shape.frames_q * frame_elements * StorageBytes(shape.storage));
  const Buffer scratch = Allocate(impl.scratch_bytes(shape, ThreadCount()));
  std::vector<Buffer> frames;
  std::vector<const void*> k, v;
  for (int f = 0; f < 2 * shape.frames_kv; ++f) {
    frames.push_back(RandomTensor(frame_elements, shape.storage, static_cast<uint32_t>(f + 2)));
    (f % 2 == 0 ? k : v).push_back(frames.back().get());
  }
  for (auto _ : state)
    impl.run({.shape = shape,
              .q = q.get(),
              .k_frames = k.data(),
              .v_frames = v.data(),
              .out = out.get(),
              .scratch = scratch.get()});
  state.counters["FLOP/s"] =
      benchmark::Counter(Flops(shape), benchmark::Counter::kIsIterationInvariantRate);
}

void RegisterAll() {
  for (const NamedShape& named : kShapes)
    for (const MonarchImpl& impl : MonarchImpls())
      for (const StorageType storage : {StorageType::kF32, StorageType::kBF16}) {
        if (std::string(impl.name) == "reference") continue;  // minutes
        MonarchShape shape = named.shape;
        shape.storage = storage;
        const std::string name = std::string("monarch/") + named.name + "/" + impl.name +
                                 (storage == StorageType::kF32 ? "/f32" : "/bf16");
        benchmark::RegisterBenchmark(
            name.c_str(), [&impl, shape](benchmark::State& state) { Run(state, impl, shape); })
            ->Unit(benchmark::kMillisecond)
            ->UseRealTime();
      }
}

[[maybe_unused]] const bool kRegistered = (RegisterAll(), true);

}  // namespace
}  // namespace mrt
