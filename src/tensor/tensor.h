// Dense row-major tensors: shape, dtype, views and owners. No arithmetic here.
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "base/check.h"
#include "base/float16.h"
#include "tensor/memory.h"

namespace mrt {

enum class DType : uint8_t { kF32, kF16, kBF16, kF64, kI8, kU8, kI16, kI32, kI64, kBool };

/// Bytes of one element.
int64_t DTypeSize(DType dtype);
/// F32, F16, BF16 or F64.
bool IsFloatingPoint(DType dtype);
/// "F32", "BF16" ...: the names of the safetensors format.
const char* DTypeName(DType dtype);

template <typename T>
struct DTypeOf;
template <>
struct DTypeOf<float> {
  static constexpr DType value = DType::kF32;
};
template <>
struct DTypeOf<BFloat16> {
  static constexpr DType value = DType::kBF16;
};
template <>
struct DTypeOf<Float16> {
  static constexpr DType value = DType::kF16;
};
template <>
struct DTypeOf<int32_t> {
  static constexpr DType value = DType::kI32;
};

/// The extents of a tensor, outermost first. At most kMaxRank of them.
class Shape {
 public:
  static constexpr int kMaxRank = 8;

  Shape() = default;  // rank 0: one element
  Shape(std::initializer_list<int64_t> dims) {
    for (int64_t d : dims) Append(d);
  }

  /// The shape of extents out of a file. None if there are more than kMaxRank, one is negative, or
  /// the bytes of such a tensor (with extents of 0 counted as 1) do not fit int64_t in any dtype.
  static std::optional<Shape> Checked(std::span<const int64_t> dims);

  void Append(int64_t dim) {
    MRT_CHECK(rank_ < kMaxRank && dim >= 0);
    dims_[rank_++] = dim;
  }
  int rank() const { return rank_; }
  int64_t operator[](int axis) const {
    MRT_CHECK(axis >= 0 && axis < rank_);
    return dims_[axis];
  }
  int64_t back() const { return (*this)[rank_ - 1]; }
  /// Number of elements. No check for overflow: extents out of a file go through Checked().
  int64_t elements() const {
    int64_t n = 1;
    for (int i = 0; i < rank_; ++i) n *= dims_[i];
    return n;
  }
  /// Product of all extents but the last: the number of rows of a [..., width] tensor.
  int64_t rows() const { return rank_ == 0 || back() == 0 ? 0 : elements() / back(); }
  bool operator==(const Shape& other) const {
    if (rank_ != other.rank_) return false;
    for (int i = 0; i < rank_; ++i)
      if (dims_[i] != other.dims_[i]) return false;
    return true;
  }
  /// "[3, 16, 60, 104]"
  std::string ToString() const;

 private:
  std::array<int64_t, kMaxRank> dims_ = {};
  int rank_ = 0;
};

/// Borrowed, read-only, contiguous. Cheap to copy; valid while its owner lives.
struct ConstTensorView {
  const void* data = nullptr;
  DType dtype = DType::kF32;
  Shape shape;

  bool empty() const { return data == nullptr; }
  int64_t bytes() const { return shape.elements() * DTypeSize(dtype); }
  /// The elements as T; a defect if the dtype is another.
  template <typename T>
  const T* as() const {
    MRT_CHECK(dtype == DTypeOf<T>::value);
    return static_cast<const T*>(data);
  }
  /// The same elements with another shape of equal size.
  ConstTensorView Reshape(const Shape& to) const {
    MRT_CHECK(to.elements() == shape.elements());
    return {data, dtype, to};
  }
  /// Indices [begin, end) of the outermost axis.
  ConstTensorView Slice(int64_t begin, int64_t end) const;
};

/// Borrowed, writable, contiguous.
struct TensorView {
  void* data = nullptr;
  DType dtype = DType::kF32;
  Shape shape;

  operator ConstTensorView() const { return {data, dtype, shape}; }  // NOLINT: implicit on purpose
  bool empty() const { return data == nullptr; }
  int64_t bytes() const { return shape.elements() * DTypeSize(dtype); }
  template <typename T>
  T* as() const {
    MRT_CHECK(dtype == DTypeOf<T>::value);
    return static_cast<T*>(data);
  }
  TensorView Reshape(const Shape& to) const {
    MRT_CHECK(to.elements() == shape.elements());
    return {data, dtype, to};
  }
  TensorView Slice(int64_t begin, int64_t end) const;
};

/// Owns its elements: 64-byte aligned, zeroed. Move-only. Throws std::bad_alloc. They lie in the
/// memory of a device if there is one, which must outlive the tensor: then only shape, dtype and
/// views are for the host.
class Tensor {
 public:
  Tensor() = default;
  Tensor(DType dtype, const Shape& shape, Memory* memory = nullptr);
  /// The same, but what lies in the memory of a device has any contents.
  static Tensor ToBeWritten(DType dtype, const Shape& shape, Memory* memory);

  TensorView view() const { return {data_.get(), dtype_, shape_}; }
  operator TensorView() const { return view(); }       // NOLINT: implicit on purpose
  operator ConstTensorView() const { return view(); }  // NOLINT: implicit on purpose
  bool empty() const { return data_ == nullptr; }
  DType dtype() const { return dtype_; }
  const Shape& shape() const { return shape_; }
  int64_t bytes() const { return shape_.elements() * DTypeSize(dtype_); }
  template <typename T>
  T* as() const {
    return view().as<T>();
  }

 private:
  enum class Contents { kZero, kAny };
  Tensor(DType dtype, const Shape& shape, Memory* memory, Contents contents);

  struct Free {
    Memory* memory;  // null: of the host
    void operator()(void* p) const;
  };
  std::unique_ptr<void, Free> data_;
  DType dtype_ = DType::kF32;
  Shape shape_;
};

/// Element `i` of a floating point tensor (F32, F16, BF16, F64) as float. For tests and small
/// tables.
float ElementAsFloat(const ConstTensorView& tensor, int64_t i);

/// `host` itself without a memory, else a copy of it there.
Tensor MoveTo(Memory* memory, Tensor host);

/// A float32 copy of a floating point tensor (F32, F16, BF16, F64).
Tensor ToFloat32(const ConstTensorView& tensor);

}  // namespace mrt
