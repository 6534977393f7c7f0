#include <algorithm>

#include "base/threads.h"
#include "kernels/common/cpu/scratch.h"
#include "kernels/monarch/cpu/portable.h"
#include "kernels/monarch/tiling.h"

namespace mrt {
namespace {

MonarchWork Carve(const MonarchShape& s, ScratchCarver& carver) {
  const int64_t i = s.b1(), j = s.b2();
  MonarchWork w;
  w.i_pad = PadFloats(i), w.j_pad = PadFloats(j), w.d_pad = PadFloats(s.head_dim);
  w.key_row_floats = j * w.d_pad + kPadFloats;
  w.q_rows = carver.Take(i * w.d_pad * w.j_pad);
  w.q_columns = carver.Take(j * w.d_pad * w.i_pad);
  w.key_row = carver.Take(j * w.d_pad);
  w.value_row = carver.Take(j * w.d_pad);
  w.scores = carver.Take(std::max(i, j) * kBlockQueries);
  w.kbar = carver.Take(i * w.key_row_floats);
  w.vbar = carver.Take(i * w.key_row_floats);
  w.c = carver.Take(j * i);
  w.max = carver.Take(j * w.i_pad);
  w.sum = carver.Take(j * w.i_pad);
  w.keep = carver.Take(kBlockQueries);
  w.out = carver.Take(j * i * w.d_pad);
  if (s.iterations == 1) return w;
  w.q_plain = carver.Take(j * i * w.d_pad);
  w.qbar_rows = carver.Take(i * w.d_pad * w.j_pad);
  w.qbar = carver.Take(i * w.d_pad);
  w.n = carver.Take(i);
  w.log_sum = carver.Take((s.iterations - 1) * j * w.i_pad);
  return w;
}

int64_t WorkFloats(const MonarchShape& shape) {
  ScratchCarver carver(nullptr);
  Carve(shape, carver);
  return carver.used();
}

void RunTasks(const MonarchArgs& args, void (*attend)(const MonarchArgs&, const MonarchWork&)) {
  const MonarchShape& shape = args.shape;
  const int64_t floats = WorkFloats(shape);
  ParallelTasks(shape.heads * TileCount(shape, shape.frames_q), [&](int64_t task, int worker) {
    float* scratch = static_cast<float*>(args.scratch) + worker * floats;
    attend(args, PlanMonarchWork(shape, task, scratch));
  });
}

}  // namespace

MonarchWork PlanMonarchWork(const MonarchShape& shape, int64_t task, float* scratch) {
  ScratchCarver carver(scratch);
  MonarchWork work = Carve(shape, carver);
  const int64_t tiles = TileCount(shape, shape.frames_q);
  work.head = task / tiles;
  work.a = task % tiles;
  return work;
}

int64_t MonarchPortableScratchBytes(const MonarchShape& shape, int threads) {
  return threads * WorkFloats(shape) * int64_t{sizeof(float)};
}

void RunMonarchPortable(const MonarchArgs& args) { RunTasks(args, portable::AttendQueryTile); }
void RunMonarchAvx2(const MonarchArgs& args) { RunTasks(args, avx2::AttendQueryTile); }
void RunMonarchAvx512(const MonarchArgs& args) { RunTasks(args, avx512::AttendQueryTile); }

}  // namespace mrt
