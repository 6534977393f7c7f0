#include "model/tokenizer/html_entities.h"

#include <algorithm>
#include <iterator>

#include "model/tokenizer/unicode.h"

namespace mrt {
namespace {

struct Entity {
  std::string_view name;  // without '&', with its ';' if it has one
  char32_t first;
  char32_t second;  // or 0
};

constexpr Entity kEntities[] = {
#include "model/tokenizer/html5_entities.inc"
};

// Longest name html.unescape looks at, its semicolon not counted.
constexpr size_t kNameMax = 32;
// ftfy's limit for what stands between '&' (or "&#") and ';'.
constexpr size_t kStrictMax = 24;
// Larger than any code point: where the reading of digits stops counting.
constexpr uint32_t kNumberMax = 0x110000;

const Entity* FindEntity(std::string_view name) {
  const auto it = std::lower_bound(std::begin(kEntities), std::end(kEntities), name,
                                   [](const Entity& e, std::string_view n) { return e.name < n; });
  return it != std::end(kEntities) && it->name == name ? it : nullptr;
}

bool IsAsciiAlnum(char32_t c) {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

int DigitValue(char32_t c) {
  if (c >= '0' && c <= '9') return static_cast<int>(c - '0');
  if (c >= 'a' && c <= 'f') return static_cast<int>(c - 'a') + 10;
  if (c >= 'A' && c <= 'F') return static_cast<int>(c - 'A') + 10;
  return 16;
}

// HTML5 "numeric character reference end state": what a number stands for; nothing for characters
// that may not occur.
void AppendNumbered(uint32_t number, std::u32string* out) {
  const bool surrogate = number >= 0xD800 && number <= 0xDFFF;
  if (number == 0 || surrogate || number >= kNumberMax) {
    out->push_back(kReplacementCharacter);
    return;
  }
  if (number >= 0x80 && number <= 0x9F) {
    out->push_back(FromWindows1252(number));
    return;
  }
  const bool control =
      (number < 0x20 && number != '\t' && number != '\n' && number != '\f' && number != '\r') ||
      number == 0x7F;
  const bool noncharacter = (number >= 0xFDD0 && number <= 0xFDEF) || (number & 0xFFFE) == 0xFFFE;
  if (!control && !noncharacter) out->push_back(number);
}

// Reads what follows "&#" at text[i]. Returns the index behind it, or 0 if it is no number.
size_t ReadNumber(std::u32string_view text, size_t i, uint32_t* number) {
  const bool hex = i < text.size() && (text[i] == 'x' || text[i] == 'X');
  const int base = hex ? 16 : 10;
  const size_t begin = i + (hex ? 1 : 0);
  size_t end = begin;
  *number = 0;
  for (; end < text.size() && DigitValue(text[end]) < base; ++end)
    *number = std::min(*number * base + DigitValue(text[end]), kNumberMax);
  return end == begin ? 0 : end;
}

void AppendEntity(const Entity& entity, std::u32string* out) {
  out->push_back(entity.first);
  if (entity.second != 0) out->push_back(entity.second);
}

// Each of the next two handles the reference at text[i] == '&': appends what it stands for and
// returns the index behind it, or returns i if it is none.
size_t UnescapeStrict(std::u32string_view text, size_t i, std::u32string* out) {
  const bool numbered = i + 1 < text.size() && text[i + 1] == '#';
  const size_t begin = i + (numbered ? 2 : 1);
  size_t end = begin;
  while (end < text.size() && end - begin <= kStrictMax && IsAsciiAlnum(text[end])) ++end;
  if (end == begin || end - begin > kStrictMax || end == text.size() || text[end] != ';') return i;
  if (numbered) {
    uint32_t number = 0;
    // "&#59;" is a semicolon itself: ftfy takes that for a sign that nothing was decoded.
    if (ReadNumber(text, begin, &number) != end || number == ';') return i;
    AppendNumbered(number, out);
    return end + 1;
  }
  const Entity* entity = FindEntity(std::string(text.begin() + begin, text.begin() + end + 1));
  if (entity == nullptr) return i;
  AppendEntity(*entity, out);
  return end + 1;
}

size_t UnescapeHtml5(std::u32string_view text, size_t i, std::u32string* out) {
  if (i + 1 < text.size() && text[i + 1] == '#') {
    uint32_t number = 0;
    const size_t end = ReadNumber(text, i + 2, &number);
    if (end == 0) return i;
    AppendNumbered(number, out);
    return end < text.size() && text[end] == ';' ? end + 1 : end;
  }
  std::string name;  // the ASCII letters and digits from i + 1 on: no name has anything else
  size_t end = i + 1;
  while (end < text.size() && name.size() < kNameMax && IsAsciiAlnum(text[end]))
    name.push_back(static_cast<char>(text[end++]));
  if (end < text.size() && text[end] == ';') name.push_back(';');
  for (size_t length = name.size(); length >= 2; --length) {
    const Entity* entity = FindEntity(std::string_view(name).substr(0, length));
    if (entity == nullptr) continue;
    AppendEntity(*entity, out);
    return i + 1 + length;
  }
  return i;
}

}  // namespace

std::u32string UnescapeHtml(std::u32string_view text, EntityRule rule) {
  std::u32string out;
  out.reserve(text.size());
  for (size_t i = 0; i < text.size();) {
    size_t next = i;
    if (text[i] == '&')
      next = rule == EntityRule::kStrict ? UnescapeStrict(text, i, &out)
                                         : UnescapeHtml5(text, i, &out);
    if (next == i) out.push_back(text[next++]);
    i = next;
  }
  return out;
}

}  // namespace mrt
