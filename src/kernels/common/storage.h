// Storage to doubles and back, for the references.
#pragma once

#include <cstdint>

#include "base/float16.h"
#include "kernels/storage_type.h"

namespace mrt {

inline double LoadElement(const void* data, StorageType type, int64_t i) {
  if (type == StorageType::kF32) return static_cast<const float*>(data)[i];
  return ToFloat(static_cast<const BFloat16*>(data)[i]);
}

inline void StoreElement(double x, void* data, StorageType type, int64_t i) {
  if (type == StorageType::kF32) {
    static_cast<float*>(data)[i] = static_cast<float>(x);
  } else {
    static_cast<BFloat16*>(data)[i] = ToBFloat16(static_cast<float>(x));
  }
}

}  // namespace mrt
