#include "model/tokenizer/text_repair.h"

#include <algorithm>
#include <iterator>

#include "model/tokenizer/html_entities.h"
#include "model/tokenizer/unicode.h"

namespace mrt {
namespace {

// Each round may uncover another level ("&amp;amp;lt;"). ftfy has no limit, and so takes quadratic
// time over a megabyte of "amp;"; real text settles in two rounds.
constexpr int kRoundsMax = 8;

constexpr char32_t kEscape = 0x1B;

struct Ligature {
  char32_t ligature;
  std::u32string_view letters;
};

constexpr Ligature kLigatures[] = {
    {0x0132, U"IJ"},      {0x0133, U"ij"},      {0x0149, U"\u02bcn"}, {0x01C4, U"D\u017d"},
    {0x01C5, U"D\u017e"}, {0x01C6, U"d\u017e"}, {0x01C7, U"LJ"},      {0x01C8, U"Lj"},
    {0x01C9, U"lj"},      {0x01CA, U"NJ"},      {0x01CB, U"Nj"},      {0x01CC, U"nj"},
    {0x01F1, U"DZ"},      {0x01F2, U"Dz"},      {0x01F3, U"dz"},      {0xFB00, U"ff"},
    {0xFB01, U"fi"},      {0xFB02, U"fl"},      {0xFB03, U"ffi"},     {0xFB04, U"ffl"},
    {0xFB05, U"\u017ft"}, {0xFB06, U"st"},
};

// Controls that nobody means to write; those that are white space stay.
bool IsUnwantedControl(char32_t c) {
  return c <= 0x08 || c == 0x0B || (c >= 0x0E && c <= 0x1F) || c == 0x7F ||
         (c >= 0x206A && c <= 0x206F) || c == 0xFEFF || (c >= 0xFFF9 && c <= 0xFFFC);
}

char32_t Uncurl(char32_t c) {
  if (c == 0x02BC || (c >= 0x2018 && c <= 0x201B)) return '\'';
  if (c >= 0x201C && c <= 0x201F) return '"';
  return c;
}

void AppendRepaired(char32_t c, std::u32string* out) {
  if (c >= 0x80 && c <= 0x9F) c = FromWindows1252(c);
  const auto ligature = std::find_if(std::begin(kLigatures), std::end(kLigatures),
                                     [c](const Ligature& l) { return l.ligature == c; });
  if (ligature != std::end(kLigatures)) {
    for (const char32_t letter : ligature->letters) out->push_back(Uncurl(letter));
  } else if (c == 0x3000) {
    out->push_back(' ');
  } else if (c >= 0xFF01 && c <= 0xFFEF) {
    AppendCompatibility(c, out);
  } else {
    out->push_back(Uncurl(c));
  }
}

// Control characters go, and with an escape character the terminal sequence it starts: "[", digits
// and semicolons, a letter.
std::u32string RemoveControls(std::u32string_view text) {
  std::u32string out;
  out.reserve(text.size());
  for (size_t i = 0; i < text.size(); ++i) {
    if (!IsUnwantedControl(text[i])) {
      out.push_back(text[i]);
      continue;
    }
    if (text[i] != kEscape || i + 1 >= text.size() || text[i + 1] != '[') continue;
    size_t end = i + 2;
    while (end < text.size() && (text[end] == ';' || (text[end] >= '0' && text[end] <= '9'))) ++end;
    const char32_t last = end < text.size() ? text[end] | 0x20 : 0;  // lower case
    if (last >= 'a' && last <= 'z') i = end;
  }
  return out;
}

// UTF-8 that somebody read as Latin-1. A C1 control must be among it: no real text has those, while
// other Latin-1 letters may form valid UTF-8 by chance.
std::u32string RepairLatin1(std::u32string text) {
  bool has_control = false;
  for (const char32_t c : text) {
    if (c > 0xFF) return text;
    has_control |= c >= 0x80 && c <= 0x9F;
  }
  if (!has_control) return text;
  std::u32string decoded = DecodeUtf8(std::string(text.begin(), text.end()));
  const bool valid = decoded.find(kReplacementCharacter) == decoded.npos;
  return valid ? decoded : text;
}

std::u32string RepairLine(std::u32string text, bool unescape) {
  for (int round = 0; round < kRoundsMax; ++round) {
    std::u32string next = RepairLatin1(unescape ? UnescapeHtml(text, EntityRule::kStrict) : text);
    std::u32string repaired;
    repaired.reserve(next.size());
    for (const char32_t c : next) AppendRepaired(c, &repaired);
    next = ComposeNfc(RemoveControls(repaired));
    if (next == text) break;
    text = std::move(next);
  }
  return text;
}

}  // namespace

std::u32string RepairText(std::u32string_view text) {
  std::u32string out;
  out.reserve(text.size());
  bool unescape = true;
  while (!text.empty()) {
    const size_t size = std::min(text.find(U'\n'), text.size() - 1) + 1;  // with its line break
    const std::u32string_view line = text.substr(0, size);
    unescape = unescape && line.find(U'<') == line.npos;  // looks like HTML that is meant as such
    out += RepairLine(std::u32string(line), unescape);
    text.remove_prefix(size);
  }
  return out;
}

}  // namespace mrt
