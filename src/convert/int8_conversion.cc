#include "convert/int8_conversion.h"

#include <cmath>
#include <string>

#include "base/int8.h"
#include "convert/float_conversion.h"
#include "tensor/printable.h"

namespace mrt {

Status QuantizeRows(const std::string& name, const ConstTensorView& matrix, int64_t begin,
                    int64_t end, std::vector<int8_t>* values, std::vector<float>* scales) {
  const int64_t width = matrix.shape[1];
  std::vector<float> row(static_cast<size_t>(width));
  values->resize(static_cast<size_t>((end - begin) * width));
  scales->resize(static_cast<size_t>(end - begin));
  for (int64_t r = begin; r < end; ++r) {
    ConvertElements(matrix, r * width, (r + 1) * width, DType::kF32, row.data());
    const float scale = QuantizeRow(row.data(), width, values->data() + (r - begin) * width);
    if (!std::isfinite(scale))
      return InvalidArgument("[convert] tensor " + Printable(name) +
                             " holds NaN or infinity in row " + std::to_string(r) +
                             ", need finite numbers for int8");
    (*scales)[static_cast<size_t>(r - begin)] = scale;
  }
  return {};
}

}  // namespace mrt
