#include <algorithm>

#include "base/threads.h"
#include "kernels/linear/cpu/amx.h"

namespace mrt {
namespace {

// Of a task, in L2 (2 MB on the CPUs that have AMX): 192 rows of 1536 inputs are 590 KB, sums of
// 1024 columns 790 KB, two panels of the weight 200 KB.
constexpr int64_t kTaskRows = 192;
constexpr int64_t kTaskRowsMin = 128;  // for fewer the weight is read too often
constexpr int64_t kTaskPanels = 32;
constexpr int64_t kTaskSteps = 48;

int64_t CeilDiv(int64_t x, int64_t y) { return (x + y - 1) / y; }

struct Cut {
  int64_t rows;  // of a task
  int64_t cols;
  int64_t row_parts;
  int64_t col_parts;
  int64_t steps;
  bool keeps_sums;

  int64_t padded_bytes(int64_t in) const { return kLinearBlock * in * 2; }
  int64_t sums_bytes() const {
    return keeps_sums ? CeilDiv(rows, kLinearBlock) * (cols / kLinearBlock) * kLinearBlockBytes : 0;
  }
  int64_t task_bytes(int64_t in) const {
    return padded_bytes(in) + 2 * kLinearBlockBytes + sums_bytes();
  }
};

Cut CutTasks(int64_t rows, int64_t in, int64_t out, int threads) {
  const int64_t panels = out / kLinearBlock, steps = in / 32;
  Cut cut;
  cut.cols = CeilDiv(panels, CeilDiv(panels, kTaskPanels)) * kLinearBlock;
  cut.col_parts = CeilDiv(out, cut.cols);
  // Fewer rows if the threads are then done more at the same time.
  const auto rows_of_a_thread = [&](int64_t task_rows) {
    return CeilDiv(CeilDiv(rows, task_rows) * cut.col_parts, threads) * task_rows;
  };
  cut.rows = kTaskRows;
  for (int64_t fewer = kTaskRows - kLinearBlock; fewer >= kTaskRowsMin; fewer -= kLinearBlock)
    if (rows_of_a_thread(fewer) < rows_of_a_thread(cut.rows)) cut.rows = fewer;
  cut.row_parts = CeilDiv(rows, cut.rows);
  cut.steps = CeilDiv(steps, CeilDiv(steps, kTaskSteps));
  cut.keeps_sums = cut.steps < steps;
  return cut;
}

}  // namespace

const char* LinearRefuses(int64_t in, int64_t out, const CpuFeatures& cpu) {
  if (!cpu.amx_bf16) return "the CPU has no AMX with bf16, or the system does not grant it";
  if (in % 32 != 0 || out % kLinearBlock != 0 || in == 0 || out == 0)
    return "inputs or outputs are not a multiple of 32";
  return nullptr;
}

void PackLinearWeight(const void* weight, int64_t in, int64_t out, void* packed) {
  ParallelFor(out / kLinearBlock, 1, [&](int64_t begin, int64_t end) {
    for (int64_t panel = begin; panel < end; ++panel) amx::PackPanel(weight, in, panel, packed);
  });
}

int64_t LinearScratchBytes(int64_t rows, int64_t in, int64_t out, int threads) {
  return threads * CutTasks(rows, in, out, threads).task_bytes(in);
}

// Tasks of the same rows follow one another: their rows are then in a cache.
void RunLinear(const LinearArgs& args) {
  const Cut cut = CutTasks(args.rows, args.in, args.out, ThreadCount());
  ParallelTasks(cut.row_parts * cut.col_parts, [&](int64_t n, int worker) {
    LinearTask task;
    task.first_row = n / cut.col_parts * cut.rows;
    task.rows = std::min(cut.rows, args.rows - task.first_row);
    task.first_col = n % cut.col_parts * cut.cols;
    task.cols = std::min(cut.cols, args.out - task.first_col);
    task.steps = cut.steps;
    task.padded = static_cast<char*>(args.scratch) + worker * cut.task_bytes(args.in);
    task.results = task.padded + cut.padded_bytes(args.in);
    if (cut.keeps_sums) task.sums = task.results + 2 * kLinearBlockBytes;
    amx::RunTask(args, task);
  });
}

}  // namespace mrt
