// JSON with nlohmann/json. Its reader and its writer are templates that take long to compile: they
// are compiled here, once.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

namespace mrt {

/// Members sorted by name.
using Json = nlohmann::json;
/// Members in the order in which they were added; looking one up takes time in their number.
using OrderedJson = nlohmann::ordered_json;

/// The value, or one that `is_discarded()` if `text` is not JSON. `callback`: sees every value as
/// it is read, and may drop it.
Json ParseJson(std::string_view text, const Json::parser_callback_t& callback = nullptr);
OrderedJson ParseOrderedJson(std::string_view text);

/// Whether brackets nest deeper than `levels`, those in strings not counted: what walks through the
/// value is recursive. `text` need not be JSON.
bool NestsDeeper(std::string_view text, int levels);

/// `indent`: spaces per level; all on one line if it is negative. What is not UTF-8 becomes U+FFFD.
std::string DumpJson(const Json& json, int indent = -1);
std::string DumpJson(const OrderedJson& json, int indent = -1);

/// On one line, or nothing if a string in it is not UTF-8.
std::optional<std::string> DumpJsonExactly(const OrderedJson& json);

}  // namespace mrt
