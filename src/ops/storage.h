// Between tensors and the kernels' raw pointers; only for the files of this folder.
#pragma once

#include <algorithm>
#include <cstdlib>
#include <memory>

#include "base/large_memory.h"
#include "kernels/rowwise/rowwise.h"
#include "ops/linear.h"
#include "tensor/tensor.h"

namespace mrt::ops {

inline StorageType Storage(DType dtype) {
  MRT_CHECK(dtype == DType::kF32 || dtype == DType::kBF16);
  return dtype == DType::kF32 ? StorageType::kF32 : StorageType::kBF16;
}

/// How keys and values of self-attention lie: what StoreKeys writes, and SelfAttention reads.
inline constexpr KvLayout kKvLayout = KvLayout::kHeadMajor;

/// For the spans of a trace.
inline double BytesOf(const ConstTensorView& x) { return static_cast<double>(x.bytes()); }

inline RowsIn In(const ConstTensorView& x) { return {x.data, Storage(x.dtype)}; }
inline RowsOut Out(const TensorView& x) { return {x.data, Storage(x.dtype)}; }

inline Epilogue EpilogueOf(Activation activation) {
  switch (activation) {
    case Activation::kNone: return Epilogue::kNone;
    case Activation::kGeluTanh: return Epilogue::kGeluTanh;
    case Activation::kSilu: return Epilogue::kSilu;
    case Activation::kRelu: return Epilogue::kRelu;
  }
  return Epilogue::kNone;
}

/// A weight in the order of our AMX kernels. Nobody has to write zeros there first, as in a Tensor.
class TileBytes {
 public:
  TileBytes() = default;
  explicit TileBytes(int64_t bytes) : data_(AllocateLarge(bytes)), bytes_(bytes) {}
  void* data() const { return data_.get(); }
  int64_t bytes() const { return bytes_; }
  bool empty() const { return bytes_ == 0; }

 private:
  struct Free {
    void operator()(void* data) const { std::free(data); }
  };
  std::unique_ptr<void, Free> data_;
  int64_t bytes_ = 0;
};

/// Rows of that width a thread gets at least: for fewer, waking it costs more than it saves.
inline int64_t RowsGrain(int64_t width) {
  constexpr int64_t kElements = 16384;
  return std::max<int64_t>(1, kElements / std::max<int64_t>(width, 1));
}

/// The row-wise kernels of this machine, picked once.
const RowwiseKernels& Rowwise();

}  // namespace mrt::ops
