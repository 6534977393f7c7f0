// Where the elements of tensors lie.
#pragma once

#include <cstdint>

namespace mrt {

/// Memory of a device. Thread-safe; outlives everything allocated from it.
class Memory {
 public:
  virtual ~Memory() = default;
  /// At least 256-byte aligned, contents undefined. Throws std::bad_alloc.
  virtual void* Allocate(int64_t bytes) = 0;
  virtual void Free(void* data) noexcept = 0;
  /// Between this memory and the host's, or within it, in order with the device's other work. To
  /// the host: the bytes are there when it returns. From the host: they may change afterwards.
  virtual void Copy(void* to, const void* from, int64_t bytes) = 0;
  /// Bytes become zero, in order with the device's other work.
  virtual void Zero(void* data, int64_t bytes) = 0;
};

}  // namespace mrt
