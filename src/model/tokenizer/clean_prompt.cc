#include "model/tokenizer/html_entities.h"
#include "model/tokenizer/text_repair.h"
#include "model/tokenizer/tokenizer.h"
#include "model/tokenizer/unicode.h"

namespace mrt {
namespace {

// Runs of white space become one blank; none is left at the ends.
std::u32string CollapseSpace(std::u32string_view text) {
  std::u32string out;
  out.reserve(text.size());
  for (const char32_t c : text) {
    if (!IsUnicodeSpace(c)) {
      out.push_back(c);
    } else if (!out.empty() && out.back() != ' ') {
      out.push_back(' ');
    }
  }
  if (!out.empty() && out.back() == ' ') out.pop_back();
  return out;
}

}  // namespace

std::string CleanPrompt(std::string_view text) {
  std::u32string clean = RepairText(DecodeUtf8(text));
  for (int i = 0; i < 2; ++i) clean = UnescapeHtml(clean, EntityRule::kHtml5);
  return EncodeUtf8(CollapseSpace(clean));
}

}  // namespace mrt
