#include "model/tokenizer/unicode.h"

#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <vector>

#include "base/check.h"

namespace mrt {
namespace {

// The least and largest second byte after a first byte, and how many bytes follow (Unicode table
// 3-7). A count of 0 means that nothing valid starts with this byte.
struct Utf8Start {
  int following;
  uint8_t second_min;
  uint8_t second_max;
};

Utf8Start StartOf(uint8_t first) {
  if (first >= 0xC2 && first <= 0xDF) return {1, 0x80, 0xBF};
  if (first == 0xE0) return {2, 0xA0, 0xBF};
  if (first == 0xED) return {2, 0x80, 0x9F};
  if (first >= 0xE1 && first <= 0xEF) return {2, 0x80, 0xBF};
  if (first == 0xF0) return {3, 0x90, 0xBF};
  if (first >= 0xF1 && first <= 0xF3) return {3, 0x80, 0xBF};
  if (first == 0xF4) return {3, 0x80, 0x8F};
  return {0, 0, 0};
}

// Longest canonical or compatibility decomposition of one code point is 18 (U+FDFA).
constexpr int kDecompositionMax = 18;

void AppendDecomposition(char32_t c, int options, std::u32string* out) {
  std::array<utf8proc_int32_t, kDecompositionMax> buffer;
  int boundary_class = 0;
  const utf8proc_ssize_t n =
      utf8proc_decompose_char(static_cast<utf8proc_int32_t>(c), buffer.data(), kDecompositionMax,
                              static_cast<utf8proc_option_t>(options), &boundary_class);
  MRT_CHECK(n >= 0 && n <= kDecompositionMax);
  for (utf8proc_ssize_t i = 0; i < n; ++i) out->push_back(static_cast<char32_t>(buffer[i]));
}

int CombiningClass(char32_t c) {
  return utf8proc_get_property(static_cast<utf8proc_int32_t>(c))->combining_class;
}

// Canonical ordering. utf8proc would do it too, but in quadratic time: a megabyte of accents must
// not take minutes.
void SortCombiningMarks(std::u32string* text) {
  for (auto begin = text->begin(); begin != text->end();) {
    if (CombiningClass(*begin) == 0) {
      ++begin;
      continue;
    }
    const auto end =
        std::find_if(begin, text->end(), [](char32_t c) { return CombiningClass(c) == 0; });
    std::stable_sort(begin, end,
                     [](char32_t a, char32_t b) { return CombiningClass(a) < CombiningClass(b); });
    begin = end;
  }
}

}  // namespace

std::u32string DecodeUtf8(std::string_view text) {
  std::u32string out;
  out.reserve(text.size());
  for (size_t i = 0; i < text.size();) {
    const uint8_t first = static_cast<uint8_t>(text[i++]);
    if (first < 0x80) {
      out.push_back(first);
      continue;
    }
    const Utf8Start start = StartOf(first);
    char32_t c = first & (0x3Fu >> start.following);
    bool valid = start.following > 0;
    for (int k = 0; k < start.following && valid; ++k) {
      const uint8_t low = k == 0 ? start.second_min : 0x80;
      const uint8_t high = k == 0 ? start.second_max : 0xBF;
      const uint8_t byte = i < text.size() ? static_cast<uint8_t>(text[i]) : 0;
      valid = byte >= low && byte <= high;
      if (!valid) break;
      c = (c << 6) | (byte & 0x3Fu);
      ++i;
    }
    out.push_back(valid ? c : kReplacementCharacter);
  }
  return out;
}

std::string EncodeUtf8(std::u32string_view text) {
  std::string out;
  out.reserve(text.size());
  for (const char32_t c : text) {
    std::array<utf8proc_uint8_t, 4> bytes;
    const utf8proc_ssize_t n = utf8proc_encode_char(static_cast<utf8proc_int32_t>(c), bytes.data());
    out.append(reinterpret_cast<const char*>(bytes.data()), static_cast<size_t>(n));
  }
  return out;
}

bool IsUnicodeSpace(char32_t c) {
  return (c >= 0x09 && c <= 0x0D) || (c >= 0x1C && c <= 0x20) || c == 0x85 || c == 0xA0 ||
         c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F ||
         c == 0x205F || c == 0x3000;
}

char32_t FromWindows1252(char32_t c) {
  static constexpr std::array<char16_t, 32> kTable = {
      0x20AC, 0x81,   0x201A, 0x0192, 0x201E, 0x2026, 0x2020, 0x2021, 0x02C6, 0x2030, 0x0160,
      0x2039, 0x0152, 0x8D,   0x017D, 0x8F,   0x90,   0x2018, 0x2019, 0x201C, 0x201D, 0x2022,
      0x2013, 0x2014, 0x02DC, 0x2122, 0x0161, 0x203A, 0x0153, 0x9D,   0x017E, 0x0178};
  return kTable.at(c - 0x80);
}

std::u32string ComposeNfc(std::u32string_view text) {
  // Below U+0300 nothing combines and nothing is a decomposable singleton.
  if (std::all_of(text.begin(), text.end(), [](char32_t c) { return c < 0x300; }))
    return std::u32string(text);
  std::u32string work;
  work.reserve(text.size());
  for (const char32_t c : text) AppendDecomposition(c, UTF8PROC_DECOMPOSE | UTF8PROC_STABLE, &work);
  SortCombiningMarks(&work);
  std::vector<utf8proc_int32_t> buffer(work.begin(), work.end());
  const utf8proc_ssize_t n =
      utf8proc_normalize_utf32(buffer.data(), static_cast<utf8proc_ssize_t>(buffer.size()),
                               static_cast<utf8proc_option_t>(UTF8PROC_COMPOSE | UTF8PROC_STABLE));
  MRT_CHECK(n >= 0);
  return {buffer.begin(), buffer.begin() + n};
}

void AppendCompatibility(char32_t c, std::u32string* out) {
  AppendDecomposition(c, UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT | UTF8PROC_STABLE, out);
}

}  // namespace mrt
