#include "model/wan/rope.h"

#include <algorithm>
#include <cmath>

#include "base/threads.h"
#include "ops/transfer.h"

namespace mrt {
namespace {

constexpr double kRopeBase = 10000;

/// The table of one axis: F32 [positions, channels / 2].
RopeTable MakeAxis(ops::Context& context, int64_t channels, int64_t first, int64_t positions) {
  const int64_t pairs = channels / 2;
  const RopeTable axis{context.HostFloat({positions, pairs}),
                       context.HostFloat({positions, pairs})};
  for (int64_t i = 0; i < pairs; ++i) {
    const double frequency =
        std::pow(kRopeBase, -2.0 * static_cast<double>(i) / static_cast<double>(channels));
    for (int64_t p = 0; p < positions; ++p) {
      const double angle = static_cast<double>(first + p) * frequency;
      axis.cos.as<float>()[p * pairs + i] = static_cast<float>(std::cos(angle));
      axis.sin.as<float>()[p * pairs + i] = static_cast<float>(std::sin(angle));
    }
  }
  return axis;
}

/// Appends the row of `position` of one axis to `out`; returns the end.
float* AppendPosition(const TensorView& axis, int64_t position, float* out) {
  const float* row = axis.as<float>() + position * axis.shape[1];
  return std::copy_n(row, axis.shape[1], out);
}

}  // namespace

RopeTable MakeRopeTable(ops::Context& context, int64_t head_dim, int64_t first_frame,
                        int64_t frames, int64_t rows, int64_t cols) {
  const int64_t space = 2 * (head_dim / 6);  // channels of the row, and of the column
  const int64_t half = head_dim / 2;
  const RopeTable table{context.HostFloat({frames * rows * cols, half}),
                        context.HostFloat({frames * rows * cols, half})};
  const ArenaScope scope(context.host_arena());
  const RopeTable time = MakeAxis(context, head_dim - 2 * space, first_frame, frames);
  const RopeTable row = MakeAxis(context, space, 0, rows);
  const RopeTable col = MakeAxis(context, space, 0, cols);
  const auto fill = [&](TensorView RopeTable::*part) {
    ParallelFor(frames * rows, 1, [&](int64_t begin, int64_t end) {
      float* out = (table.*part).as<float>() + begin * cols * half;
      for (int64_t fr = begin; fr < end; ++fr) {
        for (int64_t c = 0; c < cols; ++c) {
          out = AppendPosition(time.*part, fr / rows, out);
          out = AppendPosition(row.*part, fr % rows, out);
          out = AppendPosition(col.*part, c, out);
        }
      }
    });
  };
  fill(&RopeTable::cos);
  fill(&RopeTable::sin);
  return {ops::Upload(context, table.cos), ops::Upload(context, table.sin)};
}

}  // namespace mrt
