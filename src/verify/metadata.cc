#include "verify/metadata.h"

#include <cmath>

#include "base/json.h"
#include "tensor/printable.h"

namespace mrt::verify {
namespace {

constexpr double kIntegerMax = 1e15;  // exact in a double, and far from overflow

}  // namespace

std::string Metadata::Text(const std::string& key, const std::string& otherwise) const {
  const auto it = file_.metadata().find(key);
  return it == file_.metadata().end() ? otherwise : it->second;
}

Result<double> Metadata::Number(const std::string& key, double otherwise) const {
  if (!Has(key)) return otherwise;
  const Json value = ParseJson(Text(key, ""));
  if (value.is_number()) return value.get<double>();
  return BadData("[verify] " + file_.path() + ": metadata " + key + " is " +
                 Printable(Text(key, "")) + ", need a number");
}

Result<int64_t> Metadata::Integer(const std::string& key, int64_t otherwise) const {
  MRT_ASSIGN_OR_RETURN(const double value, Number(key, static_cast<double>(otherwise)));
  if (std::abs(value) <= kIntegerMax && value == std::floor(value))
    return static_cast<int64_t>(value);
  return BadData("[verify] " + file_.path() + ": metadata " + key + " is " +
                 Printable(Text(key, "")) + ", need an integer");
}

Result<int64_t> Metadata::Integer(const std::string& key) const {
  if (!Has(key)) return NotFound("[verify] " + file_.path() + ": metadata has no " + key);
  return Integer(key, 0);
}

Result<std::vector<int>> Metadata::IntegerList(const std::string& key,
                                               const std::vector<int>& otherwise) const {
  if (!Has(key)) return otherwise;
  const Json value = ParseJson(Text(key, ""));
  std::vector<int> list;
  if (value.is_array())
    for (const Json& item : value)
      if (item.is_number() && std::abs(item.get<double>()) < 1e9 &&
          item.get<double>() == std::floor(item.get<double>()))
        list.push_back(item.get<int>());
  if (value.is_array() && list.size() == value.size()) return list;
  return BadData("[verify] " + file_.path() + ": metadata " + key + " is " +
                 Printable(Text(key, "")) + ", need a list of integers");
}

Result<ops::AttentionConfig> Metadata::Attention(const std::string& implementation) const {
  ops::AttentionConfig config;
  config.implementation = implementation;
  const Json value = ParseJson(Text("monarch", "null"));
  if (value.is_null()) {
    config.mode = ops::AttentionMode::kDense;
    return config;
  }
  if (!value.is_object())
    return BadData("[verify] " + file_.path() + ": metadata monarch is " +
                   Printable(Text("monarch", "")) + ", need null or an object");
  config.mode = ops::AttentionMode::kMonarch;
  for (auto& [key, field] : {std::pair{"f_tied", &config.f_tied},
                             {"h_reduce", &config.h_reduce},
                             {"w_reduce", &config.w_reduce},
                             {"num_iters", &config.iterations}}) {
    if (!value.contains(key)) continue;
    const Json& number = value[key];
    if (!number.is_number_integer() || number.get<int64_t>() < 1 ||
        number.get<int64_t>() > 1'000'000)
      return BadData("[verify] " + file_.path() + ": metadata monarch." + key +
                     " must be a positive integer");
    *field = number.get<int>();
  }
  return config;
}

}  // namespace mrt::verify
