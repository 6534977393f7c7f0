// Text out of a file, made fit for a one-line message.
#pragma once

#include <string>
#include <string_view>

namespace mrt {

/// `text` in quotes: anything but printable ASCII becomes \xNN, and long text is cut.
std::string Printable(std::string_view text);

}  // namespace mrt
