#include <algorithm>

#include "base/threads.h"
#include "kernels/common/cpu/scratch.h"
#include "kernels/monarch/cpu/backward.h"

namespace mrt {
namespace {

MonarchBackwardWork CarveBackward(const MonarchShape& s, ScratchCarver& carver) {
  const int64_t i = s.b1(), j = s.b2();
  MonarchBackwardWork w;
  w.i_pad = PadFloats(i), w.j_pad = PadFloats(j), w.d_pad = PadFloats(s.head_dim);
  w.row_floats = j * w.d_pad + kPadFloats;  // rows of a column not all in the same sets of L1
  for (float** rows : {&w.q, &w.d_out, &w.d_q, &w.kbar, &w.vbar})
    *rows = carver.Take(i * w.row_floats);
  w.q_rows = carver.Take(i * w.d_pad * w.j_pad);
  w.q_columns = carver.Take(j * w.d_pad * w.i_pad);
  w.d_out_columns = carver.Take(j * w.d_pad * w.i_pad);
  for (float** sums : {&w.max, &w.sum, &w.mean}) *sums = carver.Take(j * w.i_pad);
  for (float** entropies : {&w.c, &w.d_c}) *entropies = carver.Take(i * w.j_pad);
  w.log_r = carver.Take(i * j * w.j_pad);
  for (float** tile : {&w.keys, &w.values}) *tile = carver.Take(i * j * w.d_pad);
  for (float** column : {&w.d_kbar_column, &w.d_vbar_column}) *column = carver.Take(i * w.d_pad);
  w.d_row = carver.Take(j * w.d_pad);
  for (float** block : {&w.scores, &w.d_scores})
    *block = carver.Take(std::max(i, j) * kBlockQueries);
  w.turned = carver.Take(w.d_pad * kBlockQueries);
  w.keep = carver.Take(kBlockQueries);
  return w;
}

int64_t BackwardWorkFloats(const MonarchShape& shape) {
  ScratchCarver carver(nullptr);
  CarveBackward(shape, carver);
  return carver.used();
}

// A head is one task: all its query tiles add to the same gradients of keys and values, in one
// order.
void RunHeads(const MonarchBackwardArgs& args,
              void (*backward)(const MonarchBackwardArgs&, const MonarchBackwardWork&)) {
  const int64_t floats = BackwardWorkFloats(args.shape);
  ParallelTasks(args.shape.heads, [&](int64_t head, int worker) {
    ScratchCarver carver(static_cast<float*>(args.scratch) + worker * floats);
    MonarchBackwardWork work = CarveBackward(args.shape, carver);
    work.head = head;
    backward(args, work);
  });
}

}  // namespace

int64_t MonarchBackwardScratchBytes(const MonarchShape& shape, int threads) {
  return threads * BackwardWorkFloats(shape) * int64_t{sizeof(float)};
}

void RunMonarchBackwardPortable(const MonarchBackwardArgs& args) {
  RunHeads(args, portable::BackwardHead);
}
void RunMonarchBackwardAvx2(const MonarchBackwardArgs& args) { RunHeads(args, avx2::BackwardHead); }
void RunMonarchBackwardAvx512(const MonarchBackwardArgs& args) {
  RunHeads(args, avx512::BackwardHead);
}

}  // namespace mrt
