// Picks the weights of a model out of a checkpoint and reports everything that is wrong in one
// line.
#pragma once

#include <string>
#include <vector>

#include "base/status.h"
#include "tensor/checkpoint.h"

namespace mrt {

class WeightReader {
 public:
  /// `where` names the model in messages: "[wan]".
  WeightReader(const Checkpoint& checkpoint, std::string where)
      : checkpoint_(checkpoint), where_(std::move(where)) {}

  /// The tensor, which must have this shape and a floating point dtype. If it is missing or
  /// differs, that is noted and an empty view returned. A model asks for all its tensors first,
  /// then checks status(), and only then packs them: so all faults are found at once.
  ConstTensorView Require(const std::string& name, const Shape& shape);

  /// The same for a matrix that may be int8 as well (tensor/int8_weights.h): then its scales must
  /// be there, F32, one a row, finite and positive.
  void RequireMatrix(const std::string& name, const Shape& shape);

  /// The tensor if it is there (then its shape must fit, as above), else an empty view.
  ConstTensorView Optional(const std::string& name, const Shape& shape);

  /// Its shape, or rank 0 if there is no such tensor: how sizes are read from the file.
  Shape ShapeOf(const std::string& name) const;

  bool Has(const std::string& name) const { return !checkpoint_.Find(name).empty(); }

  /// Ok, or NotFound/BadData with the missing tensors and the wrong ones, the first 20 of each.
  Status status() const;

 private:
  void NoteWrong(const std::string& name, const ConstTensorView& got, const std::string& need_dtype,
                 const Shape& need);

  const Checkpoint& checkpoint_;
  std::string where_;
  std::vector<std::string> missing_;
  std::vector<std::string> wrong_;  // "name (got [..], need [..])"
};

}  // namespace mrt
