#include "base/large_memory.h"

#include <sys/mman.h>

#include <cstdlib>
#include <new>

namespace mrt {

void* AllocateLarge(int64_t bytes) {
  constexpr int64_t kCacheLine = 64, kHugePage = int64_t{2} << 20;
  const int64_t alignment = bytes < kHugePage ? kCacheLine : kHugePage;
  const auto rounded = static_cast<size_t>((bytes + alignment - 1) / alignment * alignment);
  void* const data = std::aligned_alloc(static_cast<size_t>(alignment), rounded);
  if (data == nullptr) throw std::bad_alloc();
  if (alignment == kHugePage) madvise(data, rounded, MADV_HUGEPAGE);  // only a wish
  return data;
}

}  // namespace mrt
