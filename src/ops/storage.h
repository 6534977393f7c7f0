// Between tensors and the kernels' raw pointers; only for the files of this folder.
#pragma once

#include "kernels/rowwise/rowwise.h"
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

/// The row-wise kernels of this machine, picked once.
const RowwiseKernels& Rowwise();

}  // namespace mrt::ops
