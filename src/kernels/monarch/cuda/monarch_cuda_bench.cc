// monarch_cuda_bench [--shape NAME] [--plan FIELD=N[,FIELD=N...]]... [--repeats N] [--no-check]
//                    [--compare] [--backward] [--dtype bf16|f16]
//
// Prints one JSON row per shape and plan: milliseconds with L2 full of something else before each
// run (cold) and without (warm), and the error against the CPU kernel in float32, which is within
// 1e-6 of the definition; with --no-check against the output of the first plan. Without --plan the
// plan is what RunMonarchCuda uses; "resident=1" or "resident=0" first means that of the resident
// or of the ring kernel, "passes=1" that of the passes. A row shows the plan that ran: a ring that
// is too small grows. Times are those of CUDA events around the call.
//
// --backward: the time of RunMonarchBackwardCuda instead.
//
// --compare: all shapes (or one) with every plan worth trying, as a table; the error is that
// against the first plan's output.
#include <cuda_runtime.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <span>
#include <string>
#include <vector>

#include "base/threads.h"
#include "kernels/common/cuda/device_buffer.cuh"
#include "kernels/monarch/cuda/launch.cuh"
#include "kernels/monarch/cuda/monarch_cuda.h"
#include "testing/attention_inputs.h"
#include "testing/bench_buffers.h"

namespace mrt {
namespace {

constexpr MonarchShape k480p = {.heads = 12,
                                .frames_q = 3,
                                .frames_kv = 21,
                                .rows = 30,
                                .cols = 52,
                                .storage = StorageType::kBF16};
constexpr MonarchShape k720p = {.heads = 12,
                                .frames_q = 3,
                                .frames_kv = 21,
                                .rows = 45,
                                .cols = 80,
                                .storage = StorageType::kBF16};

constexpr MonarchShape With(MonarchShape shape, int f_tied, int h_reduce, int frames_q = 3) {
  shape.f_tied = f_tied, shape.h_reduce = h_reduce, shape.frames_q = frames_q;
  return shape;
}

constexpr MonarchShape InSteps(MonarchShape shape, int iterations) {
  shape.iterations = iterations;
  return shape;
}

constexpr struct {
  const char* name;
  MonarchShape shape;
} kShapes[] = {
    {"480p", k480p},
    {"480p_h_reduce2", With(k480p, 1, 2)},
    {"480p_f_tied3", With(k480p, 3, 1)},
    {"480p_one_frame", With(k480p, 1, 1, 1)},
    {"480p_all_frames", With(k480p, 1, 1, 21)},
    {"720p", k720p},
    {"720p_f_tied3", With(k720p, 3, 1)},
    {"720p_f_tied3_all_frames", With(k720p, 3, 1, 21)},
    {"480p_two_steps", InSteps(k480p, 2)},
    {"720p_two_steps", InSteps(k720p, 2)},
    {"720p_f_tied3_two_steps", InSteps(With(k720p, 3, 1), 2)},
};

// The first is what RunMonarchCuda does.
constexpr const char* kCandidates[] = {
    "",        "resident=0", "passes=1",      "means_last=1",  "slice_tiles=3",
    "ring=12", "ring=16",    "slice_tiles=7", "slice_tiles=2", "interleave=3"};

double Flops(const MonarchShape& s) {
  const double cuts = double(s.h_reduce) * s.w_reduce;
  const double tile_pairs = cuts * s.frames_q / s.f_tied * cuts * s.frames_kv / s.f_tied;
  const double b1 = s.b1(), b2 = s.b2();
  return 2 * s.iterations * tile_pairs * s.heads * s.head_dim *
         (3 * b1 * b2 * b2 + 2 * b2 * b1 * b1);
}

void Check(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  std::fprintf(stderr, "monarch_cuda_bench: %s: %s\n", what, cudaGetErrorString(error));
  std::exit(1);
}

// Sums of four uniform numbers: near enough to normal, and quick to make.
std::vector<Bits16> RandomValues(int64_t count, uint32_t seed, StorageType type) {
  constexpr int64_t kPeriod = 1000003;  // they repeat, because that is quick to make
  std::vector<Bits16> x(static_cast<size_t>(count));
  for (Bits16& value : std::span(x).first(static_cast<size_t>(std::min(count, kPeriod)))) {
    float sum = 0;
    for (int n = 0; n < 4; ++n) {
      seed = seed * 1664525u + 1013904223u;
      sum += static_cast<float>(static_cast<int32_t>(seed)) * 0x1p-31f;
    }
    value = testing::ToBits(sum * 0.866f, type);  // variance 1
  }
  for (int64_t begin = kPeriod; begin < count; begin += kPeriod)
    std::copy_n(x.begin(), std::min(kPeriod, count - begin), x.begin() + begin);
  return x;
}

struct Problem {
  MonarchShape shape;
  std::vector<Bits16> q;
  std::vector<std::vector<Bits16>> k, v;
  DeviceBuffer device_q, device_out;
  std::vector<DeviceBuffer> device_frames;
  std::vector<const void*> k_frames, v_frames;
  std::vector<float> want;  // empty until something has computed it

  explicit Problem(const MonarchShape& s) : shape(s) {
    const int64_t frame = int64_t{s.rows} * s.cols * s.heads * s.head_dim;
    q = RandomValues(s.frames_q * frame, 1, s.storage);
    device_q = ToDevice(q.data(), 2 * s.frames_q * frame);
    device_out = AllocateDevice(2 * s.frames_q * frame);
    for (int f = 0; f < s.frames_kv; ++f) {
      for (auto* tensor : {&k, &v}) {
        const uint32_t seed = static_cast<uint32_t>(1000 + 2 * f + (tensor == &v));
        tensor->push_back(RandomValues(frame, seed, s.storage));
        device_frames.push_back(ToDevice(tensor->back().data(), 2 * frame));
        (tensor == &k ? k_frames : v_frames).push_back(device_frames.back().get());
      }
    }
  }

  MonarchArgs Args(void* scratch) const {
    return {.shape = shape,
            .q = device_q.get(),
            .k_frames = k_frames.data(),
            .v_frames = v_frames.data(),
            .out = device_out.get(),
            .scratch = scratch};
  }

  void RunOnCpu() {
    MonarchShape s = shape;
    s.storage = StorageType::kF32;
    const auto floats = [&](const std::vector<Bits16>& x) { return Floats(x); };
    std::vector<std::vector<float>> frames;
    const std::vector<float> query = floats(q);
    for (const auto& x : k) frames.push_back(floats(x));
    for (const auto& x : v) frames.push_back(floats(x));
    std::vector<const void*> keys, values;
    for (int f = 0; f < s.frames_kv; ++f) {
      keys.push_back(frames[static_cast<size_t>(f)].data());
      values.push_back(frames[static_cast<size_t>(s.frames_kv + f)].data());
    }
    want.resize(q.size());
    const MonarchImpl* impl = PickMonarch(s).value();
    const auto scratch = testing::AllocateBuffer(impl->scratch_bytes(s, ThreadCount()));
    impl->run({.shape = s,
               .q = query.data(),
               .k_frames = keys.data(),
               .v_frames = values.data(),
               .out = want.data(),
               .scratch = scratch.get()});
  }

  std::vector<float> Floats(const std::vector<Bits16>& bits) const {
    std::vector<float> x;
    x.reserve(bits.size());
    for (Bits16 value : bits) x.push_back(testing::FromBits(value, shape.storage));
    return x;
  }

  std::vector<float> Output() const {
    std::vector<Bits16> got(q.size());
    Check(cudaMemcpy(got.data(), device_out.get(), 2 * got.size(), cudaMemcpyDeviceToHost), "copy");
    return Floats(got);
  }

  double RelativeL2() const {
    const std::vector<float> got = Output();
    double difference_sq = 0, want_sq = 0;
    for (size_t i = 0; i < want.size(); ++i) {
      const double difference = double(got[i]) - want[i];
      difference_sq += difference * difference;
      want_sq += double(want[i]) * want[i];
    }
    return std::sqrt(difference_sq / want_sq);
  }
};

struct Times {
  double median_ms = 0, p95_ms = 0, min_ms = 0;
};

template <typename Run>
Times Measure(Run&& run, int repeats, void* flush, int64_t flush_bytes) {
  cudaEvent_t begin = nullptr, end = nullptr;
  Check(cudaEventCreate(&begin), "event");
  Check(cudaEventCreate(&end), "event");
  std::vector<float> times;
  constexpr int kWarmUp = 5;
  for (int n = 0; n < kWarmUp + repeats; ++n) {
    if (flush != nullptr)
      Check(cudaMemsetAsync(flush, n, static_cast<size_t>(flush_bytes), nullptr), "memset");
    Check(cudaEventRecord(begin, nullptr), "record");
    const Status status = run();
    if (!status.ok()) std::fprintf(stderr, "%s\n", status.message().c_str()), std::exit(1);
    Check(cudaEventRecord(end, nullptr), "record");
    Check(cudaEventSynchronize(end), "the kernel");
    float ms = 0;
    Check(cudaEventElapsedTime(&ms, begin, end), "time");
    if (n >= kWarmUp) times.push_back(ms);
  }
  Check(cudaEventDestroy(begin), "event");
  Check(cudaEventDestroy(end), "event");
  std::sort(times.begin(), times.end());
  return {times[times.size() / 2], times[times.size() * 95 / 100], times[0]};
}

void SetField(MonarchCudaPlan& plan, const std::string& name, int value) {
  const std::pair<const char*, int*> fields[] = {{"slice_tiles", &plan.slice_tiles},
                                                 {"task_tiles", &plan.task_tiles},
                                                 {"interleave", &plan.interleave},
                                                 {"delay", &plan.delay},
                                                 {"ring", &plan.ring},
                                                 {"blocks", &plan.blocks},
                                                 {"pass_pairs", &plan.pass_pairs},
                                                 {"warpgroups", &plan.warpgroups},
                                                 {"group_tiles", &plan.group_tiles},
                                                 {"means_last", &plan.means_last},
                                                 {"kept", &plan.kept},
                                                 {"dropped", &plan.dropped},
                                                 {"dependent", &plan.dependent},
                                                 {"own_sums", &plan.own_sums}};
  if (name == "resident" || name == "passes") return;  // MakePlan() has looked at it
  for (const auto& [field, target] : fields)
    if (name == field) {
      *target = value;
      return;
    }
  std::fprintf(stderr, "monarch_cuda_bench: no plan field %s\n", name.c_str());
  std::exit(2);
}

void Vary(const MonarchShape& shape, const std::string& change, MonarchCudaPlan& plan) {
  for (size_t begin = 0; begin < change.size();) {
    const size_t end = std::min(change.find(',', begin), change.size());
    const std::string field = change.substr(begin, end - begin);
    const size_t equals = field.find('=');
    if (equals != std::string::npos)
      SetField(plan, field.substr(0, equals), std::atoi(field.c_str() + equals + 1));
    begin = end + 1;
  }
  FinishMonarchCudaPlan(shape, plan);
}

// Whether its blocks can wait for one another without end.
bool IsSafe(const MonarchCudaPlan& plan) {
  if (plan.passes >= 0) return true;
  if (plan.resident >= 0) return plan.consumers < plan.blocks * 9 / 10;
  return plan.average_tasks <= plan.delay && plan.delay <= (plan.ring - 2) * plan.average_tasks;
}

Result<MonarchCudaPlan> MakePlan(const MonarchShape& shape, const std::string& change) {
  const char* forced = change.rfind("resident=1", 0) == 0   ? "resident"
                       : change.rfind("resident=0", 0) == 0 ? "ring"
                       : change.rfind("passes=1", 0) == 0   ? "passes"
                                                            : "";
  MRT_ASSIGN_OR_RETURN(const GpuLimits gpu, CurrentGpu());
  MRT_ASSIGN_OR_RETURN(MonarchCudaPlan plan, PickMonarchCudaPlan(shape, gpu, forced));
  if (!change.empty()) Vary(shape, change, plan);
  if (!IsSafe(plan)) return Unavailable("that order of tasks may never end");
  return plan;
}

cudaDeviceProp Gpu() {
  cudaDeviceProp gpu = {};
  Check(cudaGetDeviceProperties(&gpu, 0), "properties");
  return gpu;
}

void Bench(const char* name, Problem& problem, const std::string& change, int repeats) {
  const cudaDeviceProp gpu = Gpu();
  const MonarchCudaPlan plan = MakePlan(problem.shape, change).value();
  const auto scratch = AllocateDevice(plan.scratch_bytes);
  const int64_t flush_bytes = 4 * int64_t{gpu.l2CacheSize};
  const auto flush = AllocateDevice(flush_bytes);
  const MonarchArgs args = problem.Args(scratch.get());
  const auto run = [&] { return LaunchMonarchPlan(args, plan, nullptr); };
  const double gflop = Flops(problem.shape) / 1e9;
  for (const bool cold : {true, false}) {
    const Times t = Measure(run, repeats, cold ? flush.get() : nullptr, flush_bytes);
    std::printf(
        "{\"op\": \"monarch\", \"impl\": \"cuda\", \"shape\": \"%s\", \"dtype\": \"%s\", "
        "\"l2\": \"%s\", \"ms_median\": %.4f, \"ms_p95\": %.4f, \"ms_min\": %.4f, \"gflop\": %.1f, "
        "\"tflops\": %.1f",
        name, problem.shape.storage == StorageType::kF16 ? "f16" : "bf16", cold ? "cold" : "warm",
        t.median_ms, t.p95_ms, t.min_ms, gflop, gflop / t.median_ms);
    if (problem.want.empty()) problem.want = problem.Output();
    if (cold) std::printf(", \"rel_l2\": %.3e", problem.RelativeL2());
    std::printf(", \"gpu\": \"%s\", \"plan\": \"%s\"}\n", gpu.name, Describe(plan).c_str());
    std::fflush(stdout);
  }
}

void BenchBackward(const char* name, const Problem& problem, int repeats) {
  const MonarchShape& s = problem.shape;
  const Result<int64_t> bytes = MonarchBackwardCudaScratchBytes(s);
  if (!bytes.ok()) {
    std::printf("%-24s %s\n", name, bytes.status().message().c_str());
    return;
  }
  const auto scratch = AllocateDevice(*bytes);
  const int64_t frame = int64_t{s.rows} * s.cols * s.heads * s.head_dim;
  const auto d_out = ToDevice(problem.q.data(), 2 * s.frames_q * frame);
  const auto d_q = AllocateDevice(4 * s.frames_q * frame);
  const auto d_kv = AllocateDevice(2 * 4 * s.frames_kv * frame);
  std::vector<float*> d_k_frames, d_v_frames;
  for (int f = 0; f < s.frames_kv; ++f) {
    d_k_frames.push_back(static_cast<float*>(d_kv.get()) + 2 * f * frame);
    d_v_frames.push_back(d_k_frames.back() + frame);
  }
  const MonarchBackwardArgs args = {.shape = s,
                                    .q = problem.device_q.get(),
                                    .k_frames = problem.k_frames.data(),
                                    .v_frames = problem.v_frames.data(),
                                    .d_out = d_out.get(),
                                    .d_q = static_cast<float*>(d_q.get()),
                                    .d_k_frames = d_k_frames.data(),
                                    .d_v_frames = d_v_frames.data(),
                                    .scratch = scratch.get()};
  const int64_t flush_bytes = 4 * int64_t{Gpu().l2CacheSize};
  const auto flush = AllocateDevice(flush_bytes);
  const Times t = Measure([&] { return RunMonarchBackwardCuda(args, nullptr); }, repeats,
                          flush.get(), flush_bytes);
  std::printf("%-24s backward, cold %.4f ms (p95 %.4f), scratch %lld bytes\n", name, t.median_ms,
              t.p95_ms, static_cast<long long>(*bytes));
}

void CompareShape(const char* name, Problem& problem, int repeats) {
  const cudaDeviceProp gpu = Gpu();
  const int64_t flush_bytes = 4 * int64_t{gpu.l2CacheSize};
  const auto flush = AllocateDevice(flush_bytes);
  const double gflop = Flops(problem.shape) / 1e9;
  for (const char* change : kCandidates) {
    const Result<MonarchCudaPlan> plan = MakePlan(problem.shape, change);
    if (!plan.ok()) {
      std::printf("%-24s %-34s %s\n", name, change, plan.status().message().c_str());
      continue;
    }
    const auto scratch = AllocateDevice(plan->scratch_bytes);
    const MonarchArgs args = problem.Args(scratch.get());
    const auto run = [&] { return LaunchMonarchPlan(args, *plan, nullptr); };
    const Times cold = Measure(run, repeats, flush.get(), flush_bytes);
    const Times warm = Measure(run, repeats, nullptr, 0);
    if (problem.want.empty()) problem.want = problem.Output();
    std::printf(
        "%-24s %-34s cold %.4f ms (p95 %.4f), warm %.4f ms, %.0f TFLOP/s, rel_l2 %.1e, %s\n", name,
        *change == 0 ? "as RunMonarchCuda" : change, cold.median_ms, cold.p95_ms, warm.median_ms,
        gflop / cold.median_ms, problem.RelativeL2(), Describe(*plan).c_str());
    std::fflush(stdout);
  }
}

int Main(int argc, char** argv) {
  std::string only;
  std::vector<std::string> changes;
  int repeats = 50;
  bool check = true, compare = false, backward = false, f16 = false;
  for (int n = 1; n < argc; ++n) {
    const std::string flag = argv[n];
    if (flag == "--no-check") {
      check = false;
    } else if (flag == "--compare") {
      compare = true;
    } else if (flag == "--backward") {
      backward = true;
    } else if (flag == "--dtype" && n + 1 < argc) {
      f16 = std::string(argv[++n]) == "f16";
    } else if (flag == "--shape" && n + 1 < argc) {
      only = argv[++n];
    } else if (flag == "--plan" && n + 1 < argc) {
      changes.push_back(argv[++n]);
    } else if (flag == "--repeats" && n + 1 < argc) {
      repeats = std::atoi(argv[++n]);
    } else {
      std::fprintf(stderr, "monarch_cuda_bench: got %s\n", argv[n]);
      return 2;
    }
  }
  if (changes.empty()) changes.push_back("");
  for (const auto& named : kShapes) {
    if (!only.empty() && only != named.name) continue;
    MonarchShape shape = named.shape;
    if (f16) shape.storage = StorageType::kF16;
    Problem problem(shape);
    if (backward) {
      BenchBackward(named.name, problem, repeats);
      continue;
    }
    if (compare) {
      CompareShape(named.name, problem, repeats);
      continue;
    }
    if (check) problem.RunOnCpu();
    for (const std::string& change : changes) Bench(named.name, problem, change, repeats);
  }
  return 0;
}

}  // namespace
}  // namespace mrt

int main(int argc, char** argv) { return mrt::Main(argc, argv); }
