// Memory of a device that was given back, kept for who asks next: the device takes milliseconds for
// a gigabyte, and waits for all its work when it gets one back.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <vector>

namespace mrt {

/// What is used and what is kept is together never more than was used at one time: a stream like
/// the one before finds all its memory here, and no other stream makes the pool grow.
/// Thread-safe.
class MemoryPool {
 public:
  /// `allocate` throws std::bad_alloc.
  struct Source {
    std::function<void*(int64_t bytes)> allocate;
    std::function<void(void* data)> free;
  };
  explicit MemoryPool(Source source) : source_(std::move(source)) {}
  /// Gives back what is kept; nothing may be in use.
  ~MemoryPool();
  MemoryPool(const MemoryPool&) = delete;
  MemoryPool& operator=(const MemoryPool&) = delete;

  /// For work of that `lane`, which is done in the order of the calls: so memory that is free can
  /// be used at once, though work with it is under way. May be up to an eighth larger. Throws
  /// std::bad_alloc if there is none even with nothing kept.
  void* Allocate(int64_t bytes, int lane);
  void Free(void* data, int lane) noexcept;

  /// What Allocate can give without the source.
  int64_t kept_bytes() const;

 private:
  struct Block {
    void* data = nullptr;
    int64_t bytes = 0;
    int lane = 0;
  };

  /// A kept block for that, or null.
  void* Reuse(int64_t bytes, int lane);
  /// Gives kept blocks back to the source until no more than `most_bytes` are left.
  void Shrink(int64_t most_bytes) noexcept;

  const Source source_;
  mutable std::mutex mutex_;       // guards what follows
  std::vector<Block> kept_;        // by size
  std::map<void*, int64_t> used_;  // and their sizes
  int64_t kept_bytes_ = 0, used_bytes_ = 0, most_used_bytes_ = 0;
};

}  // namespace mrt
