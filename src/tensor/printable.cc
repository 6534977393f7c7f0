#include "tensor/printable.h"

#include <algorithm>

namespace mrt {

std::string Escaped(std::string_view text) {
  constexpr char kHex[] = "0123456789abcdef";
  std::string out;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte >= 0x20 && byte < 0x7f && c != '\\') {
      out += c;
    } else {
      out += {'\\', 'x', kHex[byte >> 4], kHex[byte & 15]};
    }
  }
  return out;
}

std::string Printable(std::string_view text) {
  constexpr size_t kLengthMax = 120;  // longer than any tensor name in use
  const std::string start = "'" + Escaped(text.substr(0, std::min(text.size(), kLengthMax)));
  return start + (text.size() > kLengthMax ? "...'" : "'");
}

}  // namespace mrt
