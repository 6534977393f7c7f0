#include "tensor/printable.h"

#include <algorithm>

namespace mrt {

std::string Printable(std::string_view text) {
  constexpr size_t kLengthMax = 120;  // longer than any tensor name in use
  constexpr char kHex[] = "0123456789abcdef";
  std::string out = "'";
  for (const char c : text.substr(0, std::min(text.size(), kLengthMax))) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte >= 0x20 && byte < 0x7f) {
      out += c;
    } else {
      out += {'\\', 'x', kHex[byte >> 4], kHex[byte & 15]};
    }
  }
  return out + (text.size() > kLengthMax ? "...'" : "'");
}

}  // namespace mrt
