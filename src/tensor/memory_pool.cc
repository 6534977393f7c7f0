#include "tensor/memory_pool.h"

#include <algorithm>
#include <new>

#include "base/check.h"

namespace mrt {

MemoryPool::~MemoryPool() {
  MRT_CHECK(used_.empty());
  Shrink(0);
}

void* MemoryPool::Allocate(int64_t bytes, int lane) {
  const std::lock_guard lock(mutex_);
  kept_.reserve(kept_.size() + used_.size() + 1);  // Free must find room there
  void* data = Reuse(bytes, lane);
  if (data != nullptr) return data;
  const int64_t used_bytes = used_bytes_ + bytes;
  Shrink(std::max<int64_t>(0, most_used_bytes_ - used_bytes));
  try {
    data = source_.allocate(bytes);
  } catch (const std::bad_alloc&) {
    if (kept_.empty()) throw;
    Shrink(0);
    data = source_.allocate(bytes);
  }
  used_.emplace(data, bytes);
  used_bytes_ = used_bytes;
  most_used_bytes_ = std::max(most_used_bytes_, used_bytes);
  return data;
}

void* MemoryPool::Reuse(int64_t bytes, int lane) {
  const auto found = std::ranges::find_if(
      kept_, [&](const Block& block) { return block.lane == lane && block.bytes >= bytes; });
  if (found == kept_.end() || found->bytes > bytes + bytes / 8) return nullptr;
  const Block block = *found;
  used_.emplace(block.data, block.bytes);
  kept_.erase(found);
  kept_bytes_ -= block.bytes;
  used_bytes_ += block.bytes;
  most_used_bytes_ = std::max(most_used_bytes_, used_bytes_);
  return block.data;
}

void MemoryPool::Free(void* data, int lane) noexcept {
  const std::lock_guard lock(mutex_);
  const auto found = used_.find(data);
  MRT_CHECK(found != used_.end());
  const Block block{data, found->second, lane};
  used_.erase(found);
  used_bytes_ -= block.bytes;
  const auto larger =
      std::ranges::find_if(kept_, [&](const Block& other) { return other.bytes >= block.bytes; });
  kept_.insert(larger, block);
  kept_bytes_ += block.bytes;
}

int64_t MemoryPool::kept_bytes() const {
  const std::lock_guard lock(mutex_);
  return kept_bytes_;
}

void MemoryPool::Shrink(int64_t most_bytes) noexcept {
  while (kept_bytes_ > most_bytes) {
    // The smallest one that is enough, else the largest: few are given back, and little.
    const int64_t excess = kept_bytes_ - most_bytes;
    auto block = std::ranges::find_if(kept_, [&](const Block& b) { return b.bytes >= excess; });
    if (block == kept_.end()) --block;
    kept_bytes_ -= block->bytes;
    source_.free(block->data);
    kept_.erase(block);
  }
}

}  // namespace mrt
