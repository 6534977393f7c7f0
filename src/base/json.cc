#include "base/json.h"

namespace mrt {

Json ParseJson(std::string_view text, const Json::parser_callback_t& callback) {
  return Json::parse(text, callback, /*allow_exceptions=*/false);
}

OrderedJson ParseOrderedJson(std::string_view text) {
  return OrderedJson::parse(text, nullptr, /*allow_exceptions=*/false);
}

bool NestsDeeper(std::string_view text, int levels) {
  int depth = 0;
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') ++i;
      if (c == '"') in_string = false;
    } else if (c == '"') {
      in_string = true;
    } else if (c == '[' || c == '{') {
      if (++depth > levels) return true;
    } else if (c == ']' || c == '}') {
      --depth;
    }
  }
  return false;
}

std::string DumpJson(const Json& json, int indent) {
  return json.dump(indent, ' ', false, Json::error_handler_t::replace);
}

std::string DumpJson(const OrderedJson& json, int indent) {
  return json.dump(indent, ' ', false, OrderedJson::error_handler_t::replace);
}

std::optional<std::string> DumpJsonExactly(const OrderedJson& json) {
  try {
    return json.dump();
  } catch (const OrderedJson::type_error&) {
    return std::nullopt;
  }
}

}  // namespace mrt
