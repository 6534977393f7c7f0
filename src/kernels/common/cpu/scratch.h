// Cuts one block of scratch memory into the buffers of a task.
#pragma once

#include <cstdint>

namespace mrt {

/// Buffers and padded extents are multiples of this many floats: 64 bytes, a cache line, and the
/// widest vector of any instruction set.
inline constexpr int64_t kPadFloats = 16;

/// Queries in one block of scores: [keys, kBlockQueries]. Four vectors of AVX-512, and a block of
/// 64 keys takes 16 KB of the 32 KB or more of L1.
inline constexpr int64_t kBlockQueries = 64;

constexpr int64_t PadFloats(int64_t count) {
  return (count + kPadFloats - 1) / kPadFloats * kPadFloats;
}

/// With a null base it only counts.
class ScratchCarver {
 public:
  explicit ScratchCarver(float* base) : base_(base) {}
  float* Take(int64_t floats) {
    float* p = base_ == nullptr ? nullptr : base_ + used_;
    used_ += PadFloats(floats);
    return p;
  }
  int64_t used() const { return used_; }

 private:
  float* base_;
  int64_t used_ = 0;  // floats
};

}  // namespace mrt
