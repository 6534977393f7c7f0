// One task of a float32 Linear: some rows of x and some columns of y.
#pragma once

#include <cstdint>

#include "kernels/linear/linear.h"

namespace mrt {

/// Columns of y whose weights lie together: two vectors of AVX2.
inline constexpr int64_t kFloatPanel = 16;

/// Rows that are multiplied with a panel at a time, and how far apart their inputs lie: a vector.
inline constexpr int64_t kFloatTileRows = 6;
inline constexpr int64_t kFloatTileStride = 8;

struct FloatLinearTask {
  int64_t first_row = 0;
  int64_t rows = 0;
  int64_t first_col = 0;
  int64_t cols = 0;        // a multiple of kFloatPanel
  int64_t depth = 0;       // inputs at once
  float* tiles = nullptr;  // [rows / kFloatTileRows, depth, kFloatTileStride]: these inputs
  float* sums = nullptr;   // [cols / kFloatPanel, rows, kFloatPanel]
};

namespace avx2 {
void RunFloatTask(const LinearArgs& args, const FloatLinearTask& task);
}

/// The columns of linear.h for LinearType::kF32.
const char* FloatLinearRefuses(int64_t in, int64_t out, const CpuFeatures& cpu);
void PackFloatWeight(const float* weight, int64_t in, int64_t out, float* packed);
int64_t FloatLinearScratchBytes(const LinearArgs& args, int threads);
void RunFloatLinear(const LinearArgs& args);

}  // namespace mrt
