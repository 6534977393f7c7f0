#include <algorithm>
#include <cstring>

#include "base/threads.h"
#include "kernels/conv/cpu/amx.h"
#include "kernels/linear/linear.h"

namespace mrt {
namespace {

// Input of a task in bytes, about: with a panel of the weight and what is fetched for the next one
// it stays in L2 (2 MB on the CPUs that have AMX).
constexpr int64_t kTaskInputBytes = int64_t{600} << 10;
constexpr int64_t kTaskRows = 8;
constexpr int64_t kTaskColBlocks = 2;  // at least: for fewer blocks the weight is read too often

int64_t CeilDiv(int64_t x, int64_t y) { return (x + y - 1) / y; }
int64_t ToWhole(int64_t x, int64_t y) { return CeilDiv(x, y) * y; }

struct Cut {
  int64_t rows, cols;            // of a task
  int64_t row_parts, col_parts;  // tasks
  int64_t zeros_bytes, edges_bytes;
  int64_t task_bytes() const { return edges_bytes + 2 * kConvBlockBytes; }
};

int64_t EdgeBlocks(const ConvArgs& args) {
  int64_t blocks = 0;
  for (int64_t col = 0; col < args.out_cols; col += kConvBlockCols)
    blocks += ConvBlockLeaves(args, col) ? 1 : 0;
  return blocks;
}

Cut CutTasks(const ConvArgs& args) {
  const ConvShape& s = args.shape;
  Cut cut;
  cut.rows = std::min(ToWhole(args.out_rows, kConvBlockRows), kTaskRows);
  const int64_t input_rows = (cut.rows - 1) * s.stride + s.kernel_rows;
  const int64_t col_bytes = s.kernel_time * input_rows * s.stride * s.in * 2;
  const int64_t col_blocks = CeilDiv(args.out_cols, kConvBlockCols);
  const int64_t wanted = std::max(kTaskColBlocks, kTaskInputBytes / (col_bytes * kConvBlockCols));
  cut.col_parts = CeilDiv(col_blocks, wanted);
  cut.cols = CeilDiv(col_blocks, cut.col_parts) * kConvBlockCols;
  cut.col_parts = CeilDiv(args.out_cols, cut.cols);
  cut.row_parts = CeilDiv(args.out_rows, cut.rows);
  cut.zeros_bytes = ToWhole(ConvBlockInputRowBytes(s), 64);
  cut.edges_bytes = cut.rows / kConvBlockRows *
                    std::min(EdgeBlocks(args), cut.cols / kConvBlockCols) * s.kernel_time *
                    ConvBlockInputRows(s) * cut.zeros_bytes;
  return cut;
}

}  // namespace

const char* ConvRefuses(const ConvShape& s, const CpuFeatures& cpu) {
  if (!cpu.amx_bf16) return "the CPU has no AMX with bf16, or the system does not grant it";
  if (s.in % 32 != 0 || s.in == 0) return "the input channels are not a multiple of 32";
  if (s.kernel_time * s.kernel_rows > kConvSegmentsMax) return "the kernel has too many rows";
  if (s.stride > kConvStrideMax) return "the stride is more than 2";
  return nullptr;
}

void PackConvWeight(const ConvShape& s, const void* weight, void* packed) {
  PackLinearWeight(LinearType::kBF16, weight, s.taps() * s.in, PaddedConvOut(s.out), packed);
}

int64_t ConvScratchBytes(const ConvArgs& args, int threads) {
  const Cut cut = CutTasks(args);
  return cut.zeros_bytes + threads * cut.task_bytes();
}

void RunConv(const ConvArgs& args) {
  const Cut cut = CutTasks(args);
  char* const zeros = static_cast<char*>(args.scratch);
  std::memset(zeros, 0, static_cast<size_t>(cut.zeros_bytes));
  ParallelTasks(cut.row_parts * cut.col_parts, [&](int64_t n, int worker) {
    ConvTask task;
    task.first_row = n / cut.col_parts * cut.rows;
    task.rows = std::min(cut.rows, args.out_rows - task.first_row);
    task.first_col = n % cut.col_parts * cut.cols;
    task.cols = std::min(cut.cols, args.out_cols - task.first_col);
    task.zeros = zeros;
    task.edges = zeros + cut.zeros_bytes + worker * cut.task_bytes();
    task.results = task.edges + cut.edges_bytes;
    amx::RunConvTask(args, task);
  });
}

}  // namespace mrt
