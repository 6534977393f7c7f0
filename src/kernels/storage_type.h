// How a kernel's tensors lie in memory.
#pragma once

#include <cstdint>

namespace mrt {

/// Sums are always float32. kF16 is for a GPU: of the CPU only the references take it.
enum class StorageType : uint8_t { kF32, kBF16, kF16 };

/// A bf16 or an f16 of a kernel for both: only its products and roundings ask which.
using Bits16 = uint16_t;

constexpr int64_t StorageBytes(StorageType type) { return type == StorageType::kF32 ? 4 : 2; }

/// How the keys of one frame lie, and its values.
enum class KvLayout : uint8_t {
  kTokenMajor,  // [tokens, heads, head_dim], as queries and outputs
  kHeadMajor,   // [heads, tokens, head_dim]: kernels work on one head, and read it in one piece
};

/// Elements from one token to the next, and from one head to the next.
struct TokenStrides {
  int64_t token = 0;
  int64_t head = 0;
};
constexpr TokenStrides StridesOf(KvLayout layout, int64_t tokens, int64_t heads, int64_t head_dim) {
  if (layout == KvLayout::kHeadMajor) return {.token = head_dim, .head = tokens * head_dim};
  return {.token = heads * head_dim, .head = head_dim};
}

}  // namespace mrt
