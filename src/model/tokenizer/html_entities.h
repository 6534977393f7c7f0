// Character references of HTML, as Python's html.unescape and ftfy read them.
#pragma once

#include <string>
#include <string_view>

namespace mrt {

enum class EntityRule {
  kHtml5,   // html.unescape: the semicolon may be missing, the longest known name counts
  kStrict,  // ftfy: only complete references that end in a semicolon
};

/// `text` with its references ("&amp;", "&#x4e2d;") replaced, one level deep.
std::u32string UnescapeHtml(std::u32string_view text, EntityRule rule);

}  // namespace mrt
