#include "apps/attention_shape.h"

#include <charconv>
#include <map>
#include <vector>

#include "base/status.h"

namespace mrt::apps {
namespace {

using monarchrt::AttentionMode;
using monarchrt::AttentionOptions;
using monarchrt::AttentionProblem;

const std::map<std::string, AttentionShape>& NamedShapes() {
  static const std::map<std::string, AttentionShape> kShapes = {
      {"A", {"A", {}, {.frames_q = 3, .frames_kv = 21, .rows = 30, .cols = 52, .heads = 12}}},
      {"B", {"B", {}, {.frames_q = 1, .frames_kv = 21, .rows = 30, .cols = 52, .heads = 12}}},
      {"C",
       {"C", {.f_tied = 3}, {.frames_q = 3, .frames_kv = 12, .rows = 45, .cols = 80, .heads = 12}}},
      {"D",
       {"D",
        {},
        {.frames_q = 3, .frames_kv = 21, .rows = 30, .cols = 52, .heads = 4, .head_dim = 64}}},
  };
  return kShapes;
}

std::vector<std::string> Split(const std::string& text, char separator) {
  std::vector<std::string> parts(1);
  for (const char c : text) {
    if (c == separator) {
      parts.emplace_back();
    } else {
      parts.back() += c;
    }
  }
  return parts;
}

/// "30x52" with 'x' to two integers, "1,1,1" with ',' to three; false if it is anything else.
bool ReadIntegers(const std::string& text, char separator, std::vector<int*> to) {
  const std::vector<std::string> parts = Split(text, separator);
  if (parts.size() != to.size()) return false;
  for (size_t i = 0; i < parts.size(); ++i) {
    const char* const end = parts[i].data() + parts[i].size();
    const auto [stop, error] = std::from_chars(parts[i].data(), end, *to[i]);
    if (error != std::errc() || stop != end) return false;
  }
  return true;
}

monarchrt::Status Wrong(const std::string& got, const std::string& need) {
  return InvalidArgument("[shape] got '" + got + "', need " + need);
}

monarchrt::Status SetValue(const std::string& key, const std::string& value,
                           AttentionShape& shape) {
  AttentionProblem& p = shape.problem;
  AttentionOptions& o = shape.options;
  const struct {
    const char* key;
    char separator;
    std::vector<int*> to;
    const char* need;
  } values[] = {
      {"heads", ',', {&p.heads}, "a number"},
      {"head_dim", ',', {&p.head_dim}, "a number"},
      {"grid", 'x', {&p.rows, &p.cols}, "rows x columns, as 30x52"},
      {"q", ',', {&p.frames_q}, "a number of frames"},
      {"kv", ',', {&p.frames_kv}, "a number of frames"},
      {"tiles", ',', {&o.f_tied, &o.h_reduce, &o.w_reduce}, "three numbers, as 1,1,1"},
      {"iterations", ',', {&o.iterations}, "a number"},
  };
  if (key == "density") {
    const char* const end = value.data() + value.size();
    const auto [stop, error] = std::from_chars(value.data(), end, o.density);
    if (error == std::errc() && stop == end) return {};
    return Wrong(key + "=" + value, "a number");
  }
  for (const auto& known : values)
    if (key == known.key) {
      if (ReadIntegers(value, known.separator, known.to)) return {};
      return Wrong(key + "=" + value, known.need);
    }
  return Wrong(key, "heads, head_dim, grid, q, kv, tiles, iterations or density");
}

}  // namespace

monarchrt::Result<AttentionShape> ParseAttentionShape(const std::string& text) {
  if (const auto named = NamedShapes().find(text); named != NamedShapes().end())
    return named->second;
  // A part without '=' goes on with the value before it: tiles=1,1,1.
  std::vector<std::string> settings;
  for (const std::string& part : Split(text, ',')) {
    if (part.find('=') == std::string::npos && !settings.empty()) {
      settings.back() += "," + part;
    } else {
      settings.push_back(part);
    }
  }
  AttentionShape shape = NamedShapes().at("A");
  shape.name = text;
  for (const std::string& setting : settings) {
    const size_t equals = setting.find('=');
    if (equals == std::string::npos)
      return Wrong(text, "A, B, C, D or heads=12,head_dim=128,grid=30x52,q=3,kv=21,tiles=1,1,1");
    MRT_RETURN_IF_ERROR(SetValue(setting.substr(0, equals), setting.substr(equals + 1), shape));
  }
  for (const AttentionMode mode : {AttentionMode::kTopK, AttentionMode::kMonarch}) {
    shape.options.mode = mode;
    const auto list = monarchrt::ListAttentionImplementations(shape.options, shape.problem);
    if (!list.ok()) return list.status();
  }
  return shape;
}

}  // namespace mrt::apps
