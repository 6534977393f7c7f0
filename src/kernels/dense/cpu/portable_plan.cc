#include <algorithm>

#include "base/threads.h"
#include "kernels/dense/cpu/portable.h"

namespace mrt {
namespace {

DenseWork Carve(const DenseShape& s, ScratchCarver& carver) {
  DenseWork w;
  w.d_pad = PadFloats(s.head_dim);
  w.q = carver.Take(w.d_pad * kTaskQueries);
  w.keys = carver.Take(kBlockKeys * w.d_pad);
  w.values = carver.Take(kBlockKeys * w.d_pad);
  w.scores = carver.Take(kBlockKeys * kBlockQueries);
  w.max = carver.Take(kTaskQueries);
  w.sum = carver.Take(kTaskQueries);
  w.keep = carver.Take(kBlockQueries);
  w.out = carver.Take(kTaskQueries * w.d_pad);
  return w;
}

int64_t WorkFloats(const DenseShape& shape) {
  ScratchCarver carver(nullptr);
  Carve(shape, carver);
  return carver.used();
}

// Queries that see the same keys.
int64_t GroupTokens(const DenseShape& s) {
  return s.causal_block_frames == 0 ? s.tokens_q : s.causal_block_frames * s.tokens_per_frame;
}

int64_t TasksPerGroup(const DenseShape& s) {
  return (GroupTokens(s) + kTaskQueries - 1) / kTaskQueries;
}

int64_t TaskCount(const DenseShape& s) {
  return s.heads * (s.tokens_q / GroupTokens(s)) * TasksPerGroup(s);
}

// Tasks of one head follow one another, so that threads share its keys in the cache.
DenseWork PlanTask(const DenseShape& s, int64_t task, float* scratch) {
  ScratchCarver carver(scratch);
  DenseWork w = Carve(s, carver);
  const int64_t tasks = TasksPerGroup(s), groups = s.tokens_q / GroupTokens(s);
  const int64_t first_in_group = task % tasks * kTaskQueries;
  w.head = task / (tasks * groups);
  w.first_query = task / tasks % groups * GroupTokens(s) + first_in_group;
  w.queries = std::min(kTaskQueries, GroupTokens(s) - first_in_group);
  w.keys_visible = VisibleKeyFrames(s, w.first_query) * s.tokens_per_frame;
  return w;
}

void RunTasks(const DenseArgs& args, void (*attend)(const DenseArgs&, const DenseWork&)) {
  const int64_t floats = WorkFloats(args.shape);
  ParallelTasks(TaskCount(args.shape), [&](int64_t task, int worker) {
    float* scratch = static_cast<float*>(args.scratch) + worker * floats;
    attend(args, PlanTask(args.shape, task, scratch));
  });
}

}  // namespace

int64_t DensePortableScratchBytes(const DenseShape& shape, int threads) {
  return threads * WorkFloats(shape) * int64_t{sizeof(float)};
}

void RunDensePortable(const DenseArgs& args) { RunTasks(args, portable::AttendQueries); }
void RunDenseAvx2(const DenseArgs& args) { RunTasks(args, avx2::AttendQueries); }
void RunDenseAvx512(const DenseArgs& args) { RunTasks(args, avx512::AttendQueries); }

}  // namespace mrt
