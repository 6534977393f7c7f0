// Memory in huge pages, and back to the system.
#pragma once

#include <cstdint>

namespace mrt {

/// Aligned to 64 bytes; from 2 MB on to 2 MB, and the system is asked for huge pages, because
/// kernels that walk through tens of megabytes otherwise wait for addresses to be translated.
/// std::bad_alloc if there is none; std::free() gives it back.
void* AllocateLarge(int64_t bytes);

/// What malloc keeps of freed memory goes back to the system: hundreds of megabytes after weights
/// have been packed, or a prompt encoded.
void ReturnFreedMemory();

}  // namespace mrt
