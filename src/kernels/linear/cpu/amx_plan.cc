#include <algorithm>

#include "base/threads.h"
#include "kernels/linear/cpu/amx.h"
#include "kernels/linear/cpu/float.h"

namespace mrt {
namespace {

// Of a task, in L2 (2 MB on the CPUs that have AMX): 192 rows of 48 steps are 590 KB, sums of 1024
// columns 790 KB, two panels of the weight 200 KB.
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
  int64_t padded_bytes;
  int64_t sums_bytes;
  int64_t task_bytes() const { return padded_bytes + 2 * kLinearBlockBytes + sums_bytes; }
};

Cut CutTasks(const LinearArgs& args, int threads) {
  const int64_t rows = args.rows, out = args.out, row_bytes = LinearRowBytes(args.type, args.in);
  const int64_t panels = out / kLinearBlock, steps = row_bytes / 64;
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
  cut.padded_bytes = kLinearBlock * row_bytes;
  cut.sums_bytes = cut.steps == steps ? 0
                                      : CeilDiv(cut.rows, LinearBlockRows(args)) *
                                            (cut.cols / kLinearBlock) * kLinearBlockBytes;
  return cut;
}

}  // namespace

const char* LinearRefuses(LinearType type, int64_t in, int64_t out, const CpuFeatures& cpu) {
  if (type == LinearType::kF32) return FloatLinearRefuses(in, out, cpu);
  if (type == LinearType::kBF16 && !cpu.amx_bf16)
    return "the CPU has no AMX with bf16, or the system does not grant it";
  if (type == LinearType::kInt8 && !cpu.amx_int8)
    return "the CPU has no AMX with int8, or the system does not grant it";
  if (LinearRowBytes(type, in) % 64 != 0 || out % kLinearBlock != 0 || in == 0 || out == 0)
    return "a row of inputs is not a multiple of 64 bytes, or the outputs not of 32";
  return nullptr;
}

void PackLinearWeight(LinearType type, const void* weight, int64_t in, int64_t out, void* packed) {
  if (type == LinearType::kF32)
    return PackFloatWeight(static_cast<const float*>(weight), in, out, static_cast<float*>(packed));
  ParallelFor(out / kLinearBlock, 1, [&](int64_t begin, int64_t end) {
    for (int64_t panel = begin; panel < end; ++panel)
      amx::PackPanel(weight, LinearRowBytes(type, in), panel, packed);
  });
}

int64_t LinearScratchBytes(const LinearArgs& args, int threads) {
  if (args.type == LinearType::kF32) return FloatLinearScratchBytes(args, threads);
  return threads * CutTasks(args, threads).task_bytes();
}

// Tasks of the same rows follow one another: their rows are then in a cache.
void RunLinear(const LinearArgs& args) {
  if (args.type == LinearType::kF32) return RunFloatLinear(args);
  const Cut cut = CutTasks(args, ThreadCount());
  ParallelTasks(cut.row_parts * cut.col_parts, [&](int64_t n, int worker) {
    LinearTask task;
    task.first_row = n / cut.col_parts * cut.rows;
    task.rows = std::min(cut.rows, args.rows - task.first_row);
    task.first_col = n % cut.col_parts * cut.cols;
    task.cols = std::min(cut.cols, args.out - task.first_col);
    task.steps = cut.steps;
    task.padded = static_cast<char*>(args.scratch) + worker * cut.task_bytes();
    task.results = task.padded + cut.padded_bytes;
    if (cut.sums_bytes > 0) task.sums = task.results + 2 * kLinearBlockBytes;
    amx::RunTask(args, task);
  });
}

}  // namespace mrt
