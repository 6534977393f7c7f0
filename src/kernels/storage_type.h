// How a kernel's tensors lie in memory.
#pragma once

#include <cstdint>

namespace mrt {

enum class StorageType : uint8_t { kF32, kBF16 };  // sums are always float32

constexpr int64_t StorageBytes(StorageType type) { return type == StorageType::kF32 ? 4 : 2; }

}  // namespace mrt
