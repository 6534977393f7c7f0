// Text out of a file, made fit for a one-line message.
#pragma once

#include <string>
#include <string_view>

namespace mrt {

/// `text` with everything but printable ASCII, and the backslash, as \xNN.
std::string Escaped(std::string_view text);

/// The same in quotes, and cut if it is long.
std::string Printable(std::string_view text);

}  // namespace mrt
