// How much of a device's memory is allocated, for devices that do not say it per process.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <mutex>

namespace mrt {

/// Thread-safe.
class MemoryMeter {
 public:
  /// Throws std::bad_alloc.
  void Allocated(const void* data, int64_t bytes) {
    const std::lock_guard lock(mutex_);
    bytes_.emplace(data, bytes);
    live_ += bytes;
    peak_ = std::max(peak_, live_);
  }
  /// What Allocated has not seen does not count. Before the memory is given back: then somebody
  /// else may get it at once.
  void Freed(const void* data) noexcept {
    const std::lock_guard lock(mutex_);
    const auto found = bytes_.find(data);
    if (found == bytes_.end()) return;
    live_ -= found->second;
    bytes_.erase(found);
  }

  int64_t live_bytes() const {
    const std::lock_guard lock(mutex_);
    return live_;
  }
  /// The most there was at one time.
  int64_t peak_bytes() const {
    const std::lock_guard lock(mutex_);
    return peak_;
  }

 private:
  mutable std::mutex mutex_;
  std::map<const void*, int64_t> bytes_;
  int64_t live_ = 0, peak_ = 0;
};

}  // namespace mrt
