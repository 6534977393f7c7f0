// Memory that ends at a page nobody may touch, so that a kernel that reads or writes one element
// too far stops the test.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstring>

#include "base/check.h"

namespace mrt::testing {

/// Move-only. The contents are zero at first, or the bytes `fill`.
class GuardedBuffer {
 public:
  explicit GuardedBuffer(int64_t bytes, unsigned char fill = 0) {
    const int64_t page = sysconf(_SC_PAGESIZE);
    const int64_t payload = (bytes + page - 1) / page * page;
    mapped_bytes_ = static_cast<size_t>(payload + page);
    map_ = mmap(nullptr, mapped_bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    MRT_CHECK(map_ != MAP_FAILED);
    MRT_CHECK(mprotect(static_cast<char*>(map_) + payload, static_cast<size_t>(page), PROT_NONE) ==
              0);
    data_ = static_cast<char*>(map_) + (payload - bytes);
    if (fill != 0) std::memset(data_, fill, static_cast<size_t>(bytes));
  }
  GuardedBuffer(GuardedBuffer&& other) noexcept
      : map_(other.map_), mapped_bytes_(other.mapped_bytes_), data_(other.data_) {
    other.map_ = nullptr;
  }
  GuardedBuffer& operator=(GuardedBuffer&&) = delete;
  ~GuardedBuffer() {
    if (map_ != nullptr) munmap(map_, mapped_bytes_);
  }

  /// The last of the bytes lies just before the guard page.
  void* data() const { return data_; }

 private:
  void* map_ = nullptr;
  size_t mapped_bytes_ = 0;
  void* data_ = nullptr;
};

}  // namespace mrt::testing
