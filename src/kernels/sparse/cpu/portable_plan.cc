#include <algorithm>

#include "base/threads.h"
#include "kernels/sparse/cpu/portable.h"

namespace mrt {
namespace {

SparseWork Carve(const SparseShape& s, ScratchCarver& carver) {
  const int64_t d = s.head_dim;
  constexpr int64_t kSpanFloats = sizeof(TokenSpan) / sizeof(float);
  SparseWork w;
  w.d_pad = PadFloats(d);
  w.q = carver.Take(d * kSparseQueries);
  w.keys = carver.Take(kSparseKeys * w.d_pad);
  w.slots = s.frames_kv * s.tokens();
  w.block = carver.Take(kSparseKeys * kSparseQueries);
  w.scores = carver.Take(w.slots * kSparseQueries);
  w.weights = carver.Take(w.slots);
  w.kept = reinterpret_cast<int32_t*>(carver.Take(w.slots));
  w.spans = reinterpret_cast<TokenSpan*>(carver.Take(s.frames_kv * kSpanFloats));
  w.value = carver.Take(w.d_pad);
  w.out = carver.Take(w.d_pad);
  return w;
}

int64_t WorkFloats(const SparseShape& shape) {
  ScratchCarver carver(nullptr);
  Carve(shape, carver);
  return carver.used();
}

int64_t TasksPerFrame(const SparseShape& s) {
  return (s.tokens() + kSparseQueries - 1) / kSparseQueries;
}

// Tasks of one head follow one another, so that threads share its keys in the cache.
SparseWork PlanTask(const SparseShape& s, const SparsePlan& plan, int64_t task, float* scratch) {
  ScratchCarver carver(scratch);
  SparseWork w = Carve(s, carver);
  const int64_t tasks = TasksPerFrame(s);
  w.plan = &plan;
  w.head = task / (tasks * s.frames_q);
  w.frame = task / tasks % s.frames_q;
  w.first_query = task % tasks * kSparseQueries;
  w.queries = std::min(kSparseQueries, s.tokens() - w.first_query);
  w.frames = VisibleFrames(s, w.frame);
  for (int64_t f = 0; f < w.frames; ++f)
    w.spans[f] = SpanOfFrame(s, plan, s.frames_kv - s.frames_q + w.frame, w.first_query,
                             w.first_query + w.queries - 1, f);
  return w;
}

void RunTasks(const SparseArgs& args, void (*attend)(const SparseArgs&, const SparseWork&)) {
  const SparseShape& s = args.shape;
  const int64_t floats = WorkFloats(s);
  const SparsePlan plan = PlanSparse(s);
  ParallelTasks(s.heads * s.frames_q * TasksPerFrame(s), [&](int64_t task, int worker) {
    float* scratch = static_cast<float*>(args.scratch) + worker * floats;
    attend(args, PlanTask(s, plan, task, scratch));
  });
}

}  // namespace

int64_t SparsePortableScratchBytes(const SparseShape& shape, int threads) {
  return threads * WorkFloats(shape) * int64_t{sizeof(float)};
}

void RunSparsePortable(const SparseArgs& args) { RunTasks(args, portable::AttendKept); }
void RunSparseAvx2(const SparseArgs& args) { RunTasks(args, avx2::AttendKept); }
void RunSparseAvx512(const SparseArgs& args) { RunTasks(args, avx512::AttendKept); }

}  // namespace mrt
