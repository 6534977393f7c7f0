// Scales and shifts: what the time says added to what was learned.
#pragma once

#include "ops/rowwise.h"

namespace mrt {

/// Each row of `rows`, F32 [n, width], += vector, F32 of `width` elements.
inline void AddToRows(ops::Context& context, const TensorView& rows,
                      const ConstTensorView& vector) {
  for (int64_t r = 0; r < rows.shape[0]; ++r)
    ops::Add(context, rows.Slice(r, r + 1), vector, /*relu=*/false, ops::Output::kFloat);
}

}  // namespace mrt
