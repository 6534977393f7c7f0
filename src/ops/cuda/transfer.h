// Copies between pageable host memory and the device, through page-locked memory.
#pragma once

#include <array>
#include <cstdint>

#include "ops/cuda/handles.h"

namespace mrt::ops {

/// A ring of page-locked slots. Used by one thread at a time.
class PinnedRing {
 public:
  PinnedRing();

  /// Puts the copy on the stream; the host's bytes may change when it returns. Waits only when all
  /// slots are under way.
  void Upload(void* device, const void* host, int64_t bytes, cudaStream_t stream);
  /// Returns when the bytes are there.
  void Download(void* host, const void* device, int64_t bytes, cudaStream_t stream);

 private:
  static constexpr int kSlots = 8;
  static constexpr int64_t kSlotBytes = int64_t{4} << 20;

  char* slot(int n) const { return static_cast<char*>(memory_.get()) + n * kSlotBytes; }
  /// Marks the end of what the current slot holds, and goes to the next once it is free.
  void NextSlot(cudaStream_t stream);

  PinnedOwner memory_;
  std::array<EventOwner, kSlots> done_;  // the last copy of each slot
  int current_ = 0;
  int64_t used_bytes_ = 0;  // of the current slot
};

}  // namespace mrt::ops
