// MRT_CHECK: for defects of this library only, never for a caller's mistake (that is a Status).
#pragma once

namespace mrt {
/// Writes the place and the condition to stderr and aborts.
[[noreturn]] void CheckFailed(const char* file, int line, const char* condition);
}  // namespace mrt

#define MRT_CHECK(condition) \
  ((condition) ? static_cast<void>(0) : ::mrt::CheckFailed(__FILE__, __LINE__, #condition))
