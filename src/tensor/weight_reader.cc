#include "tensor/weight_reader.h"

namespace mrt {
namespace {

bool IsFloatingPoint(DType dtype) {
  return dtype == DType::kF32 || dtype == DType::kF16 || dtype == DType::kBF16 ||
         dtype == DType::kF64;
}

std::string Join(const std::vector<std::string>& items) {
  std::string text;
  for (const std::string& item : items) text += (text.empty() ? "" : ", ") + item;
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
    wrong_.push_back(name + " (got " + DTypeName(found.dtype) + " " + found.shape.ToString() +
                     ", need " + shape.ToString() + ")");
  }
  return {};
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
