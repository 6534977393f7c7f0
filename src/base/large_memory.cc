#include "base/large_memory.h"

#include <malloc.h>
#include <sys/mman.h>

#include <cstdlib>
#include <new>

namespace mrt {

void* AllocateLarge(int64_t bytes) {
  constexpr int64_t kCacheLine = 64, kHugePage = int64_t{2} << 20;
  const int64_t alignment = bytes < kHugePage ? kCacheLine : kHugePage;
  void* data = nullptr;
  if (posix_memalign(&data, static_cast<size_t>(alignment), static_cast<size_t>(bytes)) != 0)
    throw std::bad_alloc();
  // Only a wish, and only for whole pages: a part of one would take the memory of a whole one.
  const int64_t whole = bytes / kHugePage * kHugePage;
  if (whole > 0) madvise(data, static_cast<size_t>(whole), MADV_HUGEPAGE);
  return data;
}

void ReturnFreedMemory() { malloc_trim(0); }

}  // namespace mrt
