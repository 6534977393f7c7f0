#include "monarchrt/trace.h"

#include <algorithm>
#include <cstdio>

#include "base/json.h"
#include "pipeline/trace_impl.h"

namespace monarchrt {
namespace {

using mrt::SpanKind;

const char* Category(SpanKind kind) {
  switch (kind) {
    case SpanKind::kStage: return "stage";
    case SpanKind::kPart: return "part";
    case SpanKind::kMatrix: return "matrix";
    case SpanKind::kOther: break;
  }
  return "other";
}

constexpr double kLeastSeconds = 1e-9;  // so that nothing is divided by 0

std::string Fixed(double value, int digits) {
  char buffer[64];
  std::snprintf(buffer, sizeof buffer, "%.*f", digits, value);
  return buffer;
}

std::string Percent(double share) { return Fixed(100 * share, 1) + " %"; }

// The lines of a table: the first column to the left and as wide as it must be.
class Table {
 public:
  void Add(std::string name, const std::string& calls, const std::string& seconds,
           const std::string& share, const std::string& gflop_per_s = "",
           const std::string& gb_per_s = "") {
    char numbers[96];
    std::snprintf(numbers, sizeof numbers, " %9s %10s %8s %9s %8s", calls.c_str(), seconds.c_str(),
                  share.c_str(), gflop_per_s.c_str(), gb_per_s.c_str());
    std::string right = numbers;
    right.erase(right.find_last_not_of(' ') + 1);
    width_ = std::max(width_, name.size());
    rows_.emplace_back(std::move(name), std::move(right));
  }
  std::string Text() const {
    std::string text;
    for (const auto& [name, numbers] : rows_)
      text += name + std::string(width_ - name.size(), ' ') + numbers + "\n";
    return text;
  }

 private:
  std::vector<std::pair<std::string, std::string>> rows_;
  size_t width_ = 0;
};

template <typename T>
void LongestFirst(std::vector<T>& rows) {
  std::ranges::stable_sort(rows, [](const T& a, const T& b) { return a.seconds > b.seconds; });
}

}  // namespace

Trace::Trace() : impl_(std::make_unique<Impl>()) {}
Trace::~Trace() = default;

void Trace::AddStage(const char* name, double seconds) {
  const auto ago = std::chrono::duration_cast<mrt::SpanLog::Clock::duration>(
      std::chrono::duration<double>(seconds));
  impl_->log.Add(name, SpanKind::kStage, -1, {}, mrt::SpanLog::Clock::now() - ago);
}

TraceSummary Trace::Summary() const {
  TraceSummary summary;
  for (const auto& [name, total] : impl_->log.Totals()) {
    if (total.kind == SpanKind::kStage) {
      summary.stages.push_back({name, total.calls, total.seconds});
      summary.stages_s += total.seconds;
    } else if (total.kind != SpanKind::kPart) {
      summary.operations.push_back({.name = name,
                                    .matrix = total.kind == SpanKind::kMatrix,
                                    .calls = total.calls,
                                    .seconds = total.seconds,
                                    .flop = total.work.flop,
                                    .bytes = total.work.bytes});
    }
  }
  LongestFirst(summary.stages);
  LongestFirst(summary.operations);
  return summary;
}

double TraceSummary::BetweenSeconds() const {
  double rest = stages_s;
  for (const TraceOperation& operation : operations) rest -= operation.seconds;
  return std::max(0.0, rest);
}

double TraceSummary::ShareNotMatrix() const {
  if (stages_s <= 0) return 0;
  double matrix_s = 0;
  for (const TraceOperation& operation : operations)
    if (operation.matrix) matrix_s += operation.seconds;
  return std::clamp(1 - matrix_s / stages_s, 0.0, 1.0);
}

std::string Trace::ToChromeJson() const {
  // Event by event: a tree of a million of them would take many times the text.
  const mrt::OrderedJson dropped = {{"dropped", impl_->log.dropped()}};
  std::string text =
      R"({"displayTimeUnit":"ms","otherData":)" + mrt::DumpJson(dropped) + R"(,"traceEvents":[)";
  const char* separator = "";
  for (const mrt::SpanRecord& r : impl_->log.Records()) {
    mrt::OrderedJson event = {{"name", r.name},   {"cat", Category(r.kind)}, {"ph", "X"},
                              {"ts", r.start_us}, {"dur", r.duration_us},    {"pid", 1},
                              {"tid", r.lane}};
    if (r.index >= 0) event["args"]["index"] = r.index;
    if (r.work.flop > 0) event["args"]["flop"] = r.work.flop;
    if (r.work.bytes > 0) event["args"]["bytes"] = r.work.bytes;
    text += separator + mrt::DumpJson(event);
    separator = ",\n";
  }
  return text + "]}\n";
}

std::string FormatTrace(const TraceSummary& summary) {
  const double whole_s = std::max(summary.stages_s, kLeastSeconds);
  Table table;
  table.Add("stage", "calls", "seconds", "share");
  for (const TraceStage& s : summary.stages)
    table.Add(s.name, std::to_string(s.calls), Fixed(s.seconds, 3), Percent(s.seconds / whole_s));
  table.Add("operation", "calls", "seconds", "share", "GFLOP/s", "GB/s");
  for (const TraceOperation& o : summary.operations) {
    const double giga_per_s = 1e-9 / std::max(o.seconds, kLeastSeconds);
    table.Add(o.name, std::to_string(o.calls), Fixed(o.seconds, 3), Percent(o.seconds / whole_s),
              o.matrix ? Fixed(o.flop * giga_per_s, 1) : "", Fixed(o.bytes * giga_per_s, 2));
  }
  const double between_s = summary.BetweenSeconds();
  table.Add("between operations", "", Fixed(between_s, 3), Percent(between_s / whole_s));
  return table.Text() + "not matrix arithmetic: " + Percent(summary.ShareNotMatrix()) + "\n";
}

}  // namespace monarchrt
