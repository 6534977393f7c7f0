// Rotary position embedding over (frame, row, column).
#pragma once

#include <cstdint>

#include "ops/context.h"

namespace mrt {

/// Cosines and sines, F32 [frames * rows * cols, head_dim / 2].
struct RopeTable {
  TensorView cos, sin;
};

/// The table for frames [first_frame, first_frame + frames), for the operations of the context. It
/// lasts as long as what is in both of its arenas. Of the head's channels d - 4 * (d / 6) turn with
/// the frame, 2 * (d / 6) with the row and as many with the column; pair i of a part with n
/// channels turns by position * 10000^(-2i/n).
RopeTable MakeRopeTable(ops::Context& context, int64_t head_dim, int64_t first_frame,
                        int64_t frames, int64_t rows, int64_t cols);

}  // namespace mrt
