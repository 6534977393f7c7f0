#include "tensor/weight_reader.h"

#include <algorithm>
#include <cmath>

#include "tensor/int8_weights.h"

namespace mrt {
namespace {

constexpr size_t kListed = 20;  // in a message

std::string Join(const std::vector<std::string>& items) {
  std::string text;
  for (size_t i = 0; i < std::min(items.size(), kListed); ++i)
    text += (i == 0 ? "" : ", ") + items[i];
  if (items.size() > kListed) text += " and " + std::to_string(items.size() - kListed) + " more";
  return text;
}

}  // namespace

ConstTensorView WeightReader::Optional(const std::string& name, const Shape& shape) {
  return Has(name) ? Require(name, shape) : ConstTensorView{};
}

ConstTensorView WeightReader::Require(const std::string& name, const Shape& shape) {
  const ConstTensorView found = checkpoint_.Find(name);
  if (!found.empty() && found.shape == shape && IsFloatingPoint(found.dtype)) return found;
  if (found.empty()) {
    missing_.push_back(name);
  } else {
    NoteWrong(name, found, IsFloatingPoint(found.dtype) ? "" : "floating point", shape);
  }
  return {};
}

void WeightReader::RequireMatrix(const std::string& name, const Shape& shape) {
  const ConstTensorView found = checkpoint_.Find(name);
  if (found.empty() || found.dtype != DType::kI8 || !(found.shape == shape)) {
    Require(name, shape);
    return;
  }
  const std::string scale_name = ScaleName(name);
  const ConstTensorView scales = checkpoint_.Find(scale_name);
  if (scales.empty()) return missing_.push_back(scale_name);
  const Shape rows{shape[0]};
  if (scales.dtype != DType::kF32 || !(scales.shape == rows))
    return NoteWrong(scale_name, scales, "F32", rows);
  for (int64_t i = 0; i < shape[0]; ++i)
    if (const float scale = scales.as<float>()[i]; !(scale > 0) || !std::isfinite(scale))
      return wrong_.push_back(scale_name + " (got " + std::to_string(scale) + " for row " +
                              std::to_string(i) + ", need finite positive numbers)");
}

void WeightReader::NoteWrong(const std::string& name, const ConstTensorView& got,
                             const std::string& need_dtype, const Shape& need) {
  wrong_.push_back(name + " (got " + DTypeName(got.dtype) + " " + got.shape.ToString() + ", need " +
                   need_dtype + (need_dtype.empty() ? "" : " ") + need.ToString() + ")");
}

Shape WeightReader::ShapeOf(const std::string& name) const { return checkpoint_.Find(name).shape; }

Status WeightReader::status() const {
  if (missing_.empty() && wrong_.empty()) return {};
  std::string text = where_ + " " + checkpoint_.path() + ": ";
  if (!missing_.empty())
    text += std::to_string(missing_.size()) + " tensors are missing: " + Join(missing_);
  if (!wrong_.empty())
    text += (missing_.empty() ? "" : "; ") + std::to_string(wrong_.size()) +
            " tensors are wrong: " + Join(wrong_);
  return missing_.empty() ? BadData(text) : NotFound(text);
}

}  // namespace mrt
