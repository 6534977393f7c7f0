// Storage to doubles and back, for the references.
//
// The references see tokens as [tokens, heads, head_dim], whatever the layout.
#pragma once

#include <cstdint>
#include <vector>

#include "base/float16.h"
#include "kernels/storage_type.h"

namespace mrt {

inline double LoadElement(const void* data, StorageType type, int64_t i) {
  if (type == StorageType::kF32) return static_cast<const float*>(data)[i];
  if (type == StorageType::kF16) return ToFloat(static_cast<const Float16*>(data)[i]);
  return ToFloat(static_cast<const BFloat16*>(data)[i]);
}

inline void StoreElement(double x, void* data, StorageType type, int64_t i) {
  if (type == StorageType::kF32) {
    static_cast<float*>(data)[i] = static_cast<float>(x);
  } else if (type == StorageType::kF16) {
    static_cast<Float16*>(data)[i] = ToFloat16(static_cast<float>(x));
  } else {
    static_cast<BFloat16*>(data)[i] = ToBFloat16(static_cast<float>(x));
  }
}

/// Appends the `tokens` x heads x head_dim elements of a frame to `to`.
inline void AppendTokens(const void* frame, StorageType type, const TokenStrides& strides,
                         int64_t tokens, int64_t heads, int64_t head_dim, std::vector<double>& to) {
  for (int64_t t = 0; t < tokens; ++t)
    for (int64_t h = 0; h < heads; ++h)
      for (int64_t d = 0; d < head_dim; ++d)
        to.push_back(LoadElement(frame, type, t * strides.token + h * strides.head + d));
}

}  // namespace mrt
