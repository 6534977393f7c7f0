// How much memory there is and how much this process has used.
#pragma once

#include <cstdint>

namespace mrt {

/// Bytes that can still be allocated without swapping: MemAvailable, or what the control group
/// leaves if less.
int64_t AvailableMemoryBytes();

/// Bytes of RAM in the machine.
int64_t TotalMemoryBytes();

/// Largest resident set of this process so far, in bytes (mapped file pages count while resident).
int64_t PeakResidentBytes();

}  // namespace mrt
