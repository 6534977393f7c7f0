// No exception leaves the library: lack of memory and a vendor library's errors become a Status.
#pragma once

#include <exception>
#include <new>
#include <string>

#include "base/status.h"

namespace mrt {

/// Calls `body`, which returns a Status or a Result.
template <typename F>
auto Guard(F&& body) -> decltype(body()) {
  try {
    return body();
  } catch (const std::bad_alloc&) {
    return OutOfMemory("[memory] the system gave no more memory");
  } catch (const std::exception& e) {
    return Internal(std::string("[monarchrt] ") + e.what());
  }
}

}  // namespace mrt
