// Matrices as int8 (tensor/int8_weights.h), row by row.
#pragma once

#include <cstdint>
#include <vector>

#include "base/status.h"
#include "tensor/tensor.h"

namespace mrt {

/// Rows [begin, end) of a floating point matrix. InvalidArgument if one holds NaN, infinity or a
/// number that is infinite as F32; `name` is for the message.
Status QuantizeRows(const std::string& name, const ConstTensorView& matrix, int64_t begin,
                    int64_t end, std::vector<int8_t>* values, std::vector<float>* scales);

}  // namespace mrt
