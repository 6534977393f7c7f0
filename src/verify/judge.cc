#include "verify/judge.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/json.h"

namespace mrt::verify {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

struct Difference {
  double max_abs = 0;
  double relative_l2 = 0;
};

Difference Measure(const ConstTensorView& got, const ConstTensorView& want) {
  double difference_sq = 0, want_sq = 0, max_abs = 0;
  for (int64_t i = 0; i < want.shape.elements(); ++i) {
    const double g = ElementAsFloat(got, i), w = ElementAsFloat(want, i);
    if (!std::isfinite(g) || !std::isfinite(w)) return {kInfinity, kInfinity};
    max_abs = std::max(max_abs, std::abs(g - w));
    difference_sq += (g - w) * (g - w);
    want_sq += w * w;
  }
  // Where the truth is zero but for rounding (a gradient through constant values), a ratio means
  // nothing: below this root mean square both count as zero.
  constexpr double kNoise = 1e-8;
  const double floor_sq = kNoise * kNoise * static_cast<double>(want.shape.elements());
  return {max_abs, std::sqrt(difference_sq / std::max({want_sq, floor_sq, 1e-300}))};
}

}  // namespace

// The root of the mean square of its samples, twice.
double Judge::Allowed(const monarchrt::VerifyLine& line) const {
  const auto found = yardsticks_.find(line.file + " " + line.tensor);
  if (found == yardsticks_.end()) return 0;
  return 2 * std::sqrt(found->second.sum_sq / found->second.samples);
}

bool Judge::exceeds_yardstick() const {
  return std::any_of(lines_.begin() + static_cast<std::ptrdiff_t>(shown_), lines_.end(),
                     [&](const monarchrt::VerifyLine& line) {
                       const double allowed = Allowed(line);
                       return allowed > 0 && line.relative_l2 > std::max(line.allowed, allowed);
                     });
}

void Judge::Flush() {
  for (; shown_ < lines_.size(); ++shown_) {
    monarchrt::VerifyLine& line = lines_[shown_];
    line.allowed = std::max(line.allowed, Allowed(line));
    line.ok = line.relative_l2 <= line.allowed && std::isfinite(line.relative_l2);
    if (on_line_) on_line_(line);
  }
}

void Judge::Compare(const std::string& file, const std::string& tensor, const ConstTensorView& got,
                    const ConstTensorView& want, double limit) {
  const std::string key = file + " " + tensor;
  if (pass_ == Pass::kVariation) {
    varied_[key] = ToFloat32(got);
    return;
  }
  const auto varied = varied_.extract(key);
  const ConstTensorView truth = varied.empty() ? want : ConstTensorView(varied.mapped());
  const bool same_size = got.shape.elements() == truth.shape.elements();
  const Difference difference = same_size ? Measure(got, truth) : Difference{kInfinity, kInfinity};
  const bool holds = difference.relative_l2 <= limit;
  if (pass_ == Pass::kReference) {
    if (!holds) wrong_in_float32_.insert(key);
    return;
  }
  if (pass_ == Pass::kYardstick) {
    if (wrong_in_float32_.contains(key)) return;
    Yardstick& yardstick = yardsticks_[key];
    yardstick.sum_sq += difference.relative_l2 * difference.relative_l2;
    ++yardstick.samples;
    return;
  }
  lines_.push_back({.file = file,
                    .tensor = tensor,
                    .max_abs_error = difference.max_abs,
                    .relative_l2 = difference.relative_l2,
                    .allowed = limit});
}

void Judge::CompareExact(const std::string& file, const std::string& tensor,
                         const std::vector<int32_t>& got, const ConstTensorView& want) {
  if (pass_ != Pass::kVerdict) return;
  const int64_t n = want.shape.elements();
  int64_t wrong = std::abs(n - static_cast<int64_t>(got.size()));
  for (int64_t i = 0; i < std::min<int64_t>(n, static_cast<int64_t>(got.size())); ++i)
    wrong += got[static_cast<size_t>(i)] != want.as<int32_t>()[i];
  const double share = n > 0 ? static_cast<double>(wrong) / static_cast<double>(n) : 0;
  lines_.push_back({.file = file,
                    .tensor = tensor,
                    .max_abs_error = static_cast<double>(wrong),
                    .relative_l2 = share});
}

void Judge::Skip(const std::string& file, const std::string& tensor, const std::string& reason) {
  if (pass_ != Pass::kVerdict) return;
  lines_.push_back({.file = file, .tensor = tensor, .skipped = reason});
}

}  // namespace mrt::verify

namespace monarchrt {

std::string ToJson(const std::vector<VerifyLine>& lines) {
  mrt::OrderedJson json;
  json["ok"] = std::all_of(lines.begin(), lines.end(), [](const VerifyLine& l) { return l.ok; });
  json["lines"] = mrt::OrderedJson::array();
  // JSON knows no infinity: an error that is not finite is null.
  const auto number = [](double x) -> mrt::OrderedJson {
    return std::isfinite(x) ? mrt::OrderedJson(x) : mrt::OrderedJson(nullptr);
  };
  for (const VerifyLine& line : lines) {
    json["lines"].push_back({{"file", line.file},
                             {"tensor", line.tensor},
                             {"max_abs_error", number(line.max_abs_error)},
                             {"relative_l2", number(line.relative_l2)},
                             {"allowed", line.allowed},
                             {"ok", line.ok},
                             {"skipped", line.skipped}});
  }
  return mrt::DumpJson(json, 2);
}

}  // namespace monarchrt
