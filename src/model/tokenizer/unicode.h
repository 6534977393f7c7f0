// Text as code points: what the cleaning of prompts works on.
#pragma once

#include <string>
#include <string_view>

namespace mrt {

inline constexpr char32_t kReplacementCharacter = 0xFFFD;

/// The code points of `text`. Every longest invalid start of a sequence becomes one U+FFFD, as in
/// Unicode chapter 3 (table 3-7) and Python's errors="replace"; surrogates are invalid.
std::u32string DecodeUtf8(std::string_view text);

/// UTF-8 of code points that are all valid (no surrogates, none above U+10FFFF).
std::string EncodeUtf8(std::u32string_view text);

/// White space as Python's str.isspace() and `\s` see it.
bool IsUnicodeSpace(char32_t c);

/// The character windows-1252 has at byte `c`, 0x80 <= c <= 0x9F; its five unused bytes stay.
char32_t FromWindows1252(char32_t c);

/// Normalization form C (UAX #15).
std::u32string ComposeNfc(std::u32string_view text);

/// Appends the compatibility decomposition (NFKD) of one code point.
void AppendCompatibility(char32_t c, std::u32string* out);

}  // namespace mrt
