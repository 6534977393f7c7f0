#include "tensor/tensor.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "base/large_memory.h"

namespace mrt {

bool IsFloatingPoint(DType dtype) {
  return dtype == DType::kF32 || dtype == DType::kF16 || dtype == DType::kBF16 ||
         dtype == DType::kF64;
}

int64_t DTypeSize(DType dtype) {
  switch (dtype) {
    case DType::kF64:
    case DType::kI64: return 8;
    case DType::kF32:
    case DType::kI32: return 4;
    case DType::kF16:
    case DType::kBF16:
    case DType::kI16: return 2;
    case DType::kI8:
    case DType::kU8:
    case DType::kBool: return 1;
  }
  return 0;
}

const char* DTypeName(DType dtype) {
  switch (dtype) {
    case DType::kF32: return "F32";
    case DType::kF16: return "F16";
    case DType::kBF16: return "BF16";
    case DType::kF64: return "F64";
    case DType::kI8: return "I8";
    case DType::kU8: return "U8";
    case DType::kI16: return "I16";
    case DType::kI32: return "I32";
    case DType::kI64: return "I64";
    case DType::kBool: return "BOOL";
  }
  return "?";
}

std::optional<Shape> Shape::Checked(std::span<const int64_t> dims) {
  if (dims.size() > static_cast<size_t>(kMaxRank)) return std::nullopt;
  int64_t bytes = 8;  // of one element of the largest dtype
  Shape shape;
  for (const int64_t dim : dims) {
    if (dim < 0 || __builtin_mul_overflow(bytes, std::max<int64_t>(dim, 1), &bytes))
      return std::nullopt;
    shape.Append(dim);
  }
  return shape;
}

std::string Shape::ToString() const {
  std::string text = "[";
  for (int i = 0; i < rank_; ++i) text += (i ? ", " : "") + std::to_string(dims_[i]);
  return text + "]";
}

namespace {

template <typename View>
View SliceOf(const View& view, int64_t begin, int64_t end) {
  MRT_CHECK(view.shape.rank() >= 1 && 0 <= begin && begin <= end && end <= view.shape[0]);
  Shape shape{end - begin};
  int64_t stride = DTypeSize(view.dtype);
  for (int i = 1; i < view.shape.rank(); ++i) {
    shape.Append(view.shape[i]);
    stride *= view.shape[i];
  }
  using Byte = std::conditional_t<std::is_same_v<View, TensorView>, char, const char>;
  return {static_cast<Byte*>(view.data) + begin * stride, view.dtype, shape};
}

}  // namespace

ConstTensorView ConstTensorView::Slice(int64_t begin, int64_t end) const {
  return SliceOf(*this, begin, end);
}
TensorView TensorView::Slice(int64_t begin, int64_t end) const {
  return SliceOf(*this, begin, end);
}

void Tensor::Free::operator()(void* p) const {
  if (memory == nullptr) return std::free(p);
  memory->Free(p);
}

Tensor::Tensor(DType dtype, const Shape& shape, Memory* memory)
    : Tensor(dtype, shape, memory, Contents::kZero) {}

Tensor Tensor::ToBeWritten(DType dtype, const Shape& shape, Memory* memory) {
  return {dtype, shape, memory, Contents::kAny};
}

Tensor::Tensor(DType dtype, const Shape& shape, Memory* memory, Contents contents)
    : dtype_(dtype), shape_(shape) {
  constexpr int64_t kAlignment = 64;  // a cache line, and an AVX-512 vector
  const int64_t bytes =
      std::max(kAlignment, (this->bytes() + kAlignment - 1) / kAlignment * kAlignment);
  if (memory != nullptr) {
    data_ = {memory->Allocate(bytes), Free{memory}};
    if (contents == Contents::kZero) memory->Zero(data_.get(), bytes);
    return;
  }
  data_.reset(AllocateLarge(bytes));
  std::memset(data_.get(), 0, static_cast<size_t>(bytes));
}

float ElementAsFloat(const ConstTensorView& tensor, int64_t i) {
  MRT_CHECK(i >= 0 && i < tensor.shape.elements());
  switch (tensor.dtype) {
    case DType::kF32: return static_cast<const float*>(tensor.data)[i];
    case DType::kF64: return static_cast<float>(static_cast<const double*>(tensor.data)[i]);
    case DType::kF16: return ToFloat(static_cast<const Float16*>(tensor.data)[i]);
    case DType::kBF16: return ToFloat(static_cast<const BFloat16*>(tensor.data)[i]);
    default: MRT_CHECK(!"a floating point dtype");
  }
  return 0;
}

Tensor MoveTo(Memory* memory, Tensor host) {
  if (memory == nullptr || host.empty()) return host;
  Tensor there = Tensor::ToBeWritten(host.dtype(), host.shape(), memory);
  memory->Copy(there.view().data, host.view().data, host.bytes());
  return there;
}

Tensor ToFloat32(const ConstTensorView& tensor) {
  Tensor out(DType::kF32, tensor.shape);
  float* to = out.as<float>();
  const int64_t n = tensor.shape.elements();
  if (tensor.dtype == DType::kF32) {
    std::memcpy(to, tensor.data, static_cast<size_t>(tensor.bytes()));
    return out;
  }
  for (int64_t i = 0; i < n; ++i) to[i] = ElementAsFloat(tensor, i);
  return out;
}

}  // namespace mrt
