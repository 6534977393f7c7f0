// Scratch memory for activations: allocate in a scope, all of it comes back when the scope ends.
//
// The blocks stay with the arena, so a loop that allocates the same way every time touches the heap
// only in its first round.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "tensor/tensor.h"

namespace mrt {

class Arena {
 public:
  Arena() = default;
  /// Its blocks lie in the memory of a device, which must outlive it.
  explicit Arena(Memory* memory) : memory_(memory) {}

  /// One block of that size for what comes first, if there is none yet: many blocks have ends in
  /// which nothing fits. Of the host's memory a block takes only what is used.
  void Reserve(int64_t bytes);

  /// A tensor valid until the enclosing ArenaScope ends. Contents are undefined. Throws
  /// std::bad_alloc.
  TensorView Allocate(DType dtype, const Shape& shape);

  /// Bytes of all blocks held.
  int64_t capacity_bytes() const;

 private:
  friend class ArenaScope;
  struct Mark {
    size_t block = 0;
    int64_t used = 0;  // bytes of that block
  };
  struct Free {
    Memory* memory;  // null: of the host
    void operator()(char* p) const;
  };
  struct Block {
    std::unique_ptr<char, Free> data;
    int64_t size = 0;  // bytes
  };
  void AddBlock(int64_t bytes);

  Memory* memory_ = nullptr;
  std::vector<Block> blocks_;
  Mark top_;
};

/// Everything allocated from the arena while this lives is released at its end. Scopes nest.
class ArenaScope {
 public:
  explicit ArenaScope(Arena& arena) : arena_(arena), mark_(arena.top_) {}
  ~ArenaScope() { arena_.top_ = mark_; }
  ArenaScope(const ArenaScope&) = delete;
  ArenaScope& operator=(const ArenaScope&) = delete;

 private:
  Arena& arena_;
  Arena::Mark mark_;
};

}  // namespace mrt
