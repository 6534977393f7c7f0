// Attention settings out of JSON.
#include <algorithm>
#include <charconv>
#include <set>
#include <string_view>

#include "base/json.h"
#include "base/status.h"
#include "monarchrt/engine.h"
#include "tensor/printable.h"

namespace monarchrt {
namespace {

using mrt::InvalidArgument;
using mrt::Json;

constexpr size_t kJsonBytesMax = size_t{1} << 20;
constexpr size_t kRulesMax = 1000;
constexpr int kNumberMax = 1023;   // of a layer or a step: no model and no schedule has more
constexpr int kValueMax = 10'000;  // of a tiling or an iteration; the plan knows better
constexpr int kDepthMax = 8;

Status Wrong(const std::string& where, const std::string& what) {
  return InvalidArgument("[attention settings] " + where + ": " + what);
}

Status CheckNames(const Json& object, const std::set<std::string>& known,
                  const std::string& where) {
  if (!object.is_object()) return Wrong(where, "is not an object");
  std::string list;
  for (const std::string& name : known) list += (list.empty() ? "" : ", ") + name;
  for (const auto& [name, value] : object.items())
    if (!known.count(name))
      return Wrong(where, "got " + mrt::Printable(name) + ", need one of " + list);
  return {};
}

Status ReadInt(const Json& value, const std::string& where, int* out) {
  if (!value.is_number_integer()) return Wrong(where, "is not a whole number");
  const auto n = value.get<int64_t>();
  if (n < 1 || n > kValueMax)
    return Wrong(where, "got " + std::to_string(n) + ", need 1 to " + std::to_string(kValueMax));
  *out = static_cast<int>(n);
  return {};
}

Status ReadMode(const Json& value, const std::string& where, AttentionMode* out) {
  std::string names;
  for (const AttentionMode mode : ListAttentionModes()) {
    if (value == AttentionModeName(mode)) {
      *out = mode;
      return {};
    }
    names += (names.empty() ? "\"" : ", \"") + std::string(AttentionModeName(mode)) + "\"";
  }
  return Wrong(where, "need one of " + names);
}

// The fields of one attention, over what `out` holds.
Status ReadOptions(const Json& json, const std::string& where, AttentionOptions* out) {
  if (json.contains("mode")) {
    MRT_RETURN_IF_ERROR(ReadMode(json["mode"], where + ".mode", &out->mode));
  }
  if (json.contains("tiles")) {
    const Json& tiles = json["tiles"];
    if (!tiles.is_array() || tiles.size() != 3)
      return Wrong(where + ".tiles", "need three numbers: f_tied, h_reduce, w_reduce");
    int* const fields[] = {&out->f_tied, &out->h_reduce, &out->w_reduce};
    for (size_t i = 0; i < 3; ++i)
      MRT_RETURN_IF_ERROR(
          ReadInt(tiles[i], where + ".tiles[" + std::to_string(i) + "]", fields[i]));
  }
  if (json.contains("iterations"))
    MRT_RETURN_IF_ERROR(ReadInt(json["iterations"], where + ".iterations", &out->iterations));
  if (json.contains("density")) {
    if (!json["density"].is_number()) return Wrong(where + ".density", "is not a number");
    out->density = json["density"].get<double>();
    if (!(out->density > 0 && out->density <= 1))
      return Wrong(where + ".density",
                   "got " + mrt::DumpJson(json["density"]) + ", need more than 0 and at most 1");
  }
  if (json.contains("implementation")) {
    if (!json["implementation"].is_string())
      return Wrong(where + ".implementation", "is not a string");
    out->implementation = json["implementation"].get<std::string>();
  }
  return {};
}

// A set of layers or steps, whatever is named how often.
struct Numbers {
  std::vector<bool> named = std::vector<bool>(kNumberMax + 1);
  bool clean = false;
};

// "3" or "0-7".
bool ReadRange(std::string_view text, Numbers* numbers) {
  int first = 0, last = 0;
  const char* const end = text.data() + text.size();
  auto [at, error] = std::from_chars(text.data(), end, first);
  if (error != std::errc()) return false;
  last = first;
  if (at != end) {
    if (*at != '-') return false;
    const auto [after, error2] = std::from_chars(at + 1, end, last);
    if (error2 != std::errc() || after != end) return false;
  }
  if (first < 0 || last < first || last > kNumberMax) return false;
  std::fill(numbers->named.begin() + first, numbers->named.begin() + last + 1, true);
  return true;
}

// Numbers as "0-3,29", as 7, or as [0, 1, 29]; "clean" (for steps) stands for the clean pass.
Status ReadNumbers(const Json& json, bool steps, const std::string& where, std::vector<int>* out) {
  Numbers numbers;
  const Json list = json.is_array() ? json : Json::array({json});
  if (list.empty()) return Wrong(where, "is empty, need a number at least");
  for (const Json& item : list) {
    std::string text;
    if (item.is_string())
      text = item.get<std::string>();
    else if (item.is_number_integer())
      text = std::to_string(item.get<int64_t>());
    for (size_t begin = 0; begin <= text.size();) {
      const size_t comma = std::min(text.find(',', begin), text.size());
      const std::string_view part = std::string_view(text).substr(begin, comma - begin);
      begin = comma + 1;
      if (steps && part == "clean")
        numbers.clean = true;
      else if (!ReadRange(part, &numbers))
        return Wrong(where, "got " + mrt::Printable(part) +
                                ", need numbers and ranges such as \"0-3,29\"" +
                                (steps ? " or \"clean\"" : ""));
    }
  }
  for (int n = 0; n <= kNumberMax; ++n)
    if (numbers.named[static_cast<size_t>(n)]) out->push_back(n);
  if (numbers.clean) out->push_back(AttentionRule::kCleanPass);
  return {};
}

}  // namespace

Result<AttentionSettings> ParseAttentionSettings(const std::string& text) {
  if (text.size() > kJsonBytesMax)
    return Wrong("the text", "got " + std::to_string(text.size()) + " bytes, need at most " +
                                 std::to_string(kJsonBytesMax));
  if (mrt::NestsDeeper(text, kDepthMax)) return Wrong("the text", "is nested too deeply");
  const Json json = mrt::ParseJson(text);
  if (json.is_discarded()) return Wrong("the text", "is not JSON");
  MRT_RETURN_IF_ERROR(CheckNames(json, {"default", "rules"}, "the text"));
  AttentionSettings settings;
  const std::set<std::string> fields = {"mode", "tiles", "iterations", "density", "implementation"};
  if (json.contains("default")) {
    MRT_RETURN_IF_ERROR(CheckNames(json["default"], fields, "default"));
    MRT_RETURN_IF_ERROR(ReadOptions(json["default"], "default", &settings.attention));
  }
  if (!json.contains("rules")) return settings;
  const Json& rules = json["rules"];
  if (!rules.is_array() || rules.size() > kRulesMax)
    return Wrong("rules", "need a list of at most " + std::to_string(kRulesMax));
  std::set<std::string> rule_fields = fields;
  rule_fields.insert({"layers", "steps"});
  for (size_t i = 0; i < rules.size(); ++i) {
    const std::string where = "rules[" + std::to_string(i) + "]";
    MRT_RETURN_IF_ERROR(CheckNames(rules[i], rule_fields, where));
    AttentionRule rule;
    rule.attention = settings.attention;
    if (rules[i].contains("layers"))
      MRT_RETURN_IF_ERROR(ReadNumbers(rules[i]["layers"], false, where + ".layers", &rule.layers));
    if (rules[i].contains("steps"))
      MRT_RETURN_IF_ERROR(ReadNumbers(rules[i]["steps"], true, where + ".steps", &rule.steps));
    MRT_RETURN_IF_ERROR(ReadOptions(rules[i], where, &rule.attention));
    settings.rules.push_back(std::move(rule));
  }
  return settings;
}

}  // namespace monarchrt
