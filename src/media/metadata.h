// What a file says of how it was made, and how that becomes the tags of a format.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace mrt::media {

/// Key to value, for example prompt, seed, model and version. Any bytes are allowed: see CleanText.
/// Empty: nothing is written.
using Metadata = std::map<std::string, std::string>;

/// Longest text kept of one key or value. A text encoder reads 512 tokens, a few kilobytes; what
/// goes into every frame of a PNG sequence must not outgrow the pictures.
inline constexpr int64_t kTextBytesMax = 32 << 10;

/// Valid UTF-8 of at most `bytes_max` bytes, which keeps newlines and tabs: other control
/// characters are left out, each byte that is not UTF-8 becomes U+FFFD.
std::string CleanText(std::string_view text, int64_t bytes_max = kTextBytesMax);

struct Tag {
  std::string name;
  std::string text;  // clean
};

/// title: the first line of the prompt, shortened. description: the prompt. Both only if there is
/// the key "prompt". comment: all keys and values as one JSON object. No tags for no metadata.
std::vector<Tag> TagsOf(const Metadata& metadata);

}  // namespace mrt::media
