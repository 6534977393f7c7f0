// One task of a Linear on AMX: some rows of x and some columns of y.
#pragma once

#include <cstdint>

#include "kernels/linear/linear.h"

namespace mrt {

/// Rows and columns of y that share a load of two tiles: 2 x 2 tiles of 16 x 16.
inline constexpr int64_t kLinearBlock = 32;
/// Bytes of such a block of sums.
inline constexpr int64_t kLinearBlockBytes = kLinearBlock * kLinearBlock * int64_t{sizeof(float)};

constexpr int64_t LinearRowBytes(LinearType type, int64_t in) {
  return type == LinearType::kBF16 ? 2 * in : in;  // of AMX
}

/// Rows of such a block: each of two digits is a tile of its own.
inline int64_t LinearBlockRows(const LinearArgs& args) {
  return args.x_low == nullptr ? kLinearBlock : kLinearBlock / 2;
}

struct LinearTask {
  int64_t first_row = 0;
  int64_t rows = 0;
  int64_t first_col = 0;
  int64_t cols = 0;         // a multiple of kLinearBlock
  int64_t steps = 0;        // of 64 bytes of a row, at once: then sums wait in memory
  char* padded = nullptr;   // [kLinearBlock, in]: the last rows, if they fill no block
  char* results = nullptr;  // two blocks of sums, by turns
  char* sums = nullptr;     // all blocks of the task, if `steps` is not all inputs
};

namespace amx {
void RunTask(const LinearArgs& args, const LinearTask& task);
/// Columns [panel * kLinearBlock, + kLinearBlock).
void PackPanel(const void* weight, int64_t row_bytes, int64_t panel, void* packed);
}  // namespace amx

}  // namespace mrt
