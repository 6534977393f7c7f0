#include <algorithm>

#include "base/threads.h"
#include "kernels/linear/cpu/float.h"

namespace mrt {
namespace {

// With more, oneDNN's own copies and passes cost it little.
constexpr int64_t kInputsMax = 1024;
// Inputs at once: a panel and a tile of them, 24 KB, fit in L1 (32 KB on CPUs without AVX-512).
constexpr int64_t kDepth = 256;
// Of a task: its tiles take 131 KB, sums of 512 columns 197 KB of an L2 of 512 KB.
constexpr int64_t kRowsOfTask = 96;
constexpr int64_t kColsOfTask = 512;

int64_t PartsOf(int64_t whole, int64_t most) { return (whole + most - 1) / most; }

struct FloatCut {
  int64_t rows, cols;  // of a task
  int64_t row_parts, col_parts;
  int64_t depth;
  int64_t tiles() const { return PartsOf(rows, kFloatTileRows) * depth * kFloatTileStride; }
  int64_t floats() const { return tiles() + rows * cols; }
};

// Few rows are cut into columns for all threads.
FloatCut CutFloatTasks(const LinearArgs& args, int threads) {
  FloatCut cut;
  cut.rows = std::min(args.rows, kRowsOfTask);
  cut.row_parts = PartsOf(args.rows, cut.rows);
  const int64_t panels = args.out / kFloatPanel;
  const int64_t col_parts =
      std::max(PartsOf(args.out, kColsOfTask), PartsOf(threads, cut.row_parts));
  cut.cols = PartsOf(panels, std::min(panels, col_parts)) * kFloatPanel;
  cut.col_parts = PartsOf(args.out, cut.cols);
  cut.depth = PartsOf(args.in, PartsOf(args.in, kDepth));
  return cut;
}

}  // namespace

const char* FloatLinearRefuses(int64_t in, int64_t out, const CpuFeatures& cpu) {
  if (!cpu.avx2) return "the CPU has no AVX2 (x86-64-v3)";
  if (cpu.avx512) return "oneDNN has AVX-512 for float32, which is faster";
  if (in > kInputsMax) return "oneDNN is as fast with so many inputs";
  if (in == 0 || out == 0 || out % kFloatPanel != 0) return "the outputs are not a multiple of 16";
  return nullptr;
}

void PackFloatWeight(const float* weight, int64_t in, int64_t out, float* packed) {
  ParallelFor(out / kFloatPanel, 1, [&](int64_t begin, int64_t end) {
    for (int64_t panel = begin; panel < end; ++panel)
      for (int64_t i = 0; i < in; ++i)
        for (int64_t o = 0; o < kFloatPanel; ++o)
          packed[(panel * in + i) * kFloatPanel + o] = weight[(panel * kFloatPanel + o) * in + i];
  });
}

int64_t FloatLinearScratchBytes(const LinearArgs& args, int threads) {
  return threads * CutFloatTasks(args, threads).floats() * int64_t{sizeof(float)};
}

// Tasks of the same rows follow one another: their rows are then in a cache.
void RunFloatLinear(const LinearArgs& args) {
  const FloatCut cut = CutFloatTasks(args, ThreadCount());
  ParallelTasks(cut.row_parts * cut.col_parts, [&](int64_t n, int worker) {
    FloatLinearTask task;
    task.first_row = n / cut.col_parts * cut.rows;
    task.rows = std::min(cut.rows, args.rows - task.first_row);
    task.first_col = n % cut.col_parts * cut.cols;
    task.cols = std::min(cut.cols, args.out - task.first_col);
    task.depth = cut.depth;
    task.tiles = static_cast<float*>(args.scratch) + worker * cut.floats();
    task.sums = task.tiles + cut.tiles();
    avx2::RunFloatTask(args, task);
  });
}

}  // namespace mrt
