// Keeps the process alive when a mapped file becomes shorter, or its disk fails, while it is read:
// docs/decisions/0007-a-mapped-file-that-shrinks.md.
#pragma once

#include <atomic>
#include <cstddef>

namespace mrt {

struct GuardedMapping;

/// While it lives, a read inside the mapping that the system answers with SIGBUS gives zeros
/// instead, from that page to the end of the mapping, and is remembered. The first guard of a
/// process installs a SIGBUS handler; it hands every other SIGBUS to the one that was there before.
/// Other threads may read meanwhile. Lives shorter than the mapping.
class MappingGuard {
 public:
  /// A private, read-only mapping of a file; `begin` is page aligned, `bytes` > 0.
  MappingGuard(const void* begin, size_t bytes);
  ~MappingGuard();
  MappingGuard(const MappingGuard&) = delete;
  MappingGuard& operator=(const MappingGuard&) = delete;

  /// Has any read been answered with zeros?
  bool damaged() const;

 private:
  GuardedMapping* mapping_;
};

}  // namespace mrt
