// Elements of one floating point dtype as those of another.
#pragma once

#include <cstdint>

#include "tensor/tensor.h"

namespace mrt {

/// Writes elements [begin, end) of `source` to `out` as `to`: F32, BF16 or F16. `source` is of a
/// floating point dtype. Rounds to nearest, ties to even, once; NaN stays NaN. Returns the index of
/// the first finite element that became infinite, or -1.
int64_t ConvertElements(const ConstTensorView& source, int64_t begin, int64_t end, DType to,
                        void* out);

/// Element `i` of a floating point tensor. Exact.
double ElementAsDouble(const ConstTensorView& tensor, int64_t i);

}  // namespace mrt
