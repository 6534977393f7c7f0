// Names of files that stand in other files.
#pragma once

#include <string_view>

namespace mrt {

/// A bare name, no path: what a file names so lies beside it, and nothing reaches out of the
/// folder.
inline bool IsBareFileName(std::string_view name) {
  return !name.empty() && name != "." && name != ".." && name.find('/') == name.npos &&
         name.find('\0') == name.npos;
}

}  // namespace mrt
