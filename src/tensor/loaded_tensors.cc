#include "tensor/loaded_tensors.h"

#include <cstring>

namespace mrt {
namespace {

// Where views of no elements point to: a view with a null pointer means "no such tensor".
alignas(64) constexpr char kNoBytes[64] = {};

void CopyToRowMajor(const StridedTensor& from, char* to) {
  const int rank = from.shape.rank();
  const size_t size = static_cast<size_t>(DTypeSize(from.dtype));
  std::array<int64_t, Shape::kMaxRank> index = {};
  int64_t offset = 0;  // of the element at `index`, in elements
  for (int64_t n = from.shape.elements(); n > 0; --n, to += size) {
    std::memcpy(to, from.data + offset * static_cast<int64_t>(size), size);
    for (int axis = rank - 1; axis >= 0; --axis) {
      offset += from.strides[axis];
      if (++index[axis] < from.shape[axis]) break;
      offset -= from.strides[axis] * from.shape[axis];
      index[axis] = 0;
    }
  }
}

}  // namespace

std::array<int64_t, Shape::kMaxRank> RowMajorStrides(const Shape& shape) {
  std::array<int64_t, Shape::kMaxRank> strides = {};
  int64_t stride = 1;
  for (int axis = shape.rank() - 1; axis >= 0; --axis) {
    strides[axis] = stride;
    stride *= shape[axis];
  }
  return strides;
}

bool StridedTensor::IsContiguous() const {
  if (shape.elements() == 0) return true;
  const auto row_major = RowMajorStrides(shape);
  for (int axis = 0; axis < shape.rank(); ++axis)
    if (shape[axis] != 1 && strides[axis] != row_major[axis]) return false;
  return true;
}

Result<ConstTensorView> MakeView(const StridedTensor& source, CopyBudget& budget,
                                 LoadedTensors& loaded) {
  if (source.shape.elements() == 0) return ConstTensorView{kNoBytes, source.dtype, source.shape};
  const auto address = reinterpret_cast<uintptr_t>(source.data);
  const bool aligned = address % static_cast<uintptr_t>(DTypeSize(source.dtype)) == 0;
  const ConstTensorView mapped{source.data, source.dtype, source.shape};
  if (aligned && source.IsContiguous()) return mapped;
  if (!budget.Take(mapped.bytes()))
    return BadData("a copy of " + std::to_string(mapped.bytes()) +
                   " bytes is out of proportion to the file");
  auto copy = std::make_shared<Tensor>(source.dtype, source.shape);
  CopyToRowMajor(source, static_cast<char*>(copy->view().data));
  loaded.owners.push_back(copy);
  return ConstTensorView(*copy);
}

}  // namespace mrt
