// What a file reader hands to Checkpoint, and how a piece of a mapped file becomes a tensor.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/status.h"
#include "tensor/mapped_file.h"
#include "tensor/tensor.h"

namespace mrt {

struct LoadedTensors {
  std::map<std::string, ConstTensorView> tensors;
  std::map<std::string, std::string> metadata;
  std::vector<std::shared_ptr<const MappedFile>> files;  // hold the bytes of mapped tensors
  std::vector<std::shared_ptr<const void>> owners;       // hold the bytes of copied tensors
};

/// A tensor as it lies in a file: any strides, any alignment. All elements must be inside the file.
struct StridedTensor {
  const char* data = nullptr;  // element (0, 0, ...)
  DType dtype = DType::kF32;
  Shape shape;
  std::array<int64_t, Shape::kMaxRank> strides = {};  // elements, not bytes; >= 0

  /// Row-major without gaps. Extents of one may have any stride; so may a tensor of no elements.
  bool IsContiguous() const;
};

/// The strides of a row-major tensor.
std::array<int64_t, Shape::kMaxRank> RowMajorStrides(const Shape& shape);

/// Bounds what one small file can make the reader allocate: all copies of a file together may not
/// be larger than kCopyBytesPerFileByte times the file. Expanded tensors (stride 0) need this.
class CopyBudget {
 public:
  explicit CopyBudget(const MappedFile& file)
      : left_bytes_(kCopyBytesPerFileByte * static_cast<int64_t>(file.bytes().size())) {}
  /// False, and nothing taken, if less than `bytes` is left.
  bool Take(int64_t bytes) {
    if (bytes > left_bytes_) return false;
    left_bytes_ -= bytes;
    return true;
  }

 private:
  static constexpr int64_t kCopyBytesPerFileByte = 4;
  int64_t left_bytes_;
};

/// A contiguous, element-aligned view of `source`: of the mapped bytes where they allow it, else of
/// a copy that `loaded` then owns. BadData if the copy is over the budget; the message has no
/// place, the caller adds it.
Result<ConstTensorView> MakeView(const StridedTensor& source, CopyBudget& budget,
                                 LoadedTensors& loaded);

}  // namespace mrt
