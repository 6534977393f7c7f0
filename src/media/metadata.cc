#include "media/metadata.h"

#include "base/json.h"

namespace mrt::media {
namespace {

constexpr int64_t kTitleBytesMax = 120;  // one line of a player's window

// Bytes of the well-formed UTF-8 character at the front of `s`, 0 if there is none (Unicode 15,
// table 3-7).
int CharacterBytes(std::string_view s) {
  const auto byte = [&](size_t i) { return i < s.size() ? static_cast<uint8_t>(s[i]) : 0; };
  const auto in = [](int value, int low, int high) { return value >= low && value <= high; };
  const int lead = byte(0), second = byte(1);
  if (lead < 0x80) return 1;
  if (in(lead, 0xC2, 0xDF)) return in(second, 0x80, 0xBF) ? 2 : 0;
  if (in(lead, 0xE0, 0xEF)) {
    const int low = lead == 0xE0 ? 0xA0 : 0x80, high = lead == 0xED ? 0x9F : 0xBF;
    return in(second, low, high) && in(byte(2), 0x80, 0xBF) ? 3 : 0;
  }
  if (in(lead, 0xF0, 0xF4)) {
    const int low = lead == 0xF0 ? 0x90 : 0x80, high = lead == 0xF4 ? 0x8F : 0xBF;
    return in(second, low, high) && in(byte(2), 0x80, 0xBF) && in(byte(3), 0x80, 0xBF) ? 4 : 0;
  }
  return 0;
}

// U+0000 to U+001F but newline and tab, U+007F, U+0080 to U+009F.
bool IsControl(std::string_view character) {
  const auto first = static_cast<uint8_t>(character[0]);
  if (character.size() == 1)
    return (first < 0x20 && first != '\n' && first != '\t') || first == 0x7F;
  return first == 0xC2 && static_cast<uint8_t>(character[1]) < 0xA0;
}

}  // namespace

std::string CleanText(std::string_view text, int64_t bytes_max) {
  constexpr std::string_view kReplacement = "\xEF\xBF\xBD";  // U+FFFD
  std::string clean;
  while (!text.empty()) {
    const int bytes = CharacterBytes(text);
    const std::string_view character = bytes ? text.substr(0, bytes) : kReplacement;
    text.remove_prefix(bytes ? bytes : 1);
    if (bytes && IsControl(character)) continue;
    if (static_cast<int64_t>(clean.size() + character.size()) > bytes_max) break;
    clean += character;
  }
  return clean;
}

std::vector<Tag> TagsOf(const Metadata& metadata) {
  std::vector<Tag> tags;
  if (metadata.empty()) return tags;
  if (const auto prompt = metadata.find("prompt"); prompt != metadata.end()) {
    const std::string text = CleanText(prompt->second);
    tags.push_back({"title", CleanText(text.substr(0, text.find('\n')), kTitleBytesMax)});
    tags.push_back({"description", text});
  }
  Json all = Json::object();
  for (const auto& [key, value] : metadata) all[CleanText(key)] = CleanText(value);
  tags.push_back({"comment", DumpJson(all)});
  return tags;
}

}  // namespace mrt::media
