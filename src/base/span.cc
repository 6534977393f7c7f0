#include "base/span.h"

namespace mrt {

void SpanLog::Add(const char* name, SpanKind kind, int64_t index, const SpanWork& work,
                  Clock::time_point start) {
  using Microseconds = std::chrono::duration<double, std::micro>;
  const double duration_us = Microseconds(Clock::now() - start).count();
  const std::lock_guard lock(mutex_);
  SpanTotal& total = totals_[name];
  total.kind = kind;
  ++total.calls;
  total.seconds += duration_us / 1e6;
  total.work.flop += work.flop;
  total.work.bytes += work.bytes;
  if (records_.size() == kRecordsMax) {
    ++dropped_;
    return;
  }
  const auto lane = lanes_.emplace(std::this_thread::get_id(), lanes_.size()).first;
  records_.push_back({.name = name,
                      .kind = kind,
                      .lane = lane->second,
                      .index = index,
                      .start_us = Microseconds(start - epoch_).count(),
                      .duration_us = duration_us,
                      .work = work});
}

std::vector<SpanRecord> SpanLog::Records() const {
  const std::lock_guard lock(mutex_);
  return records_;
}

std::map<std::string, SpanTotal> SpanLog::Totals() const {
  const std::lock_guard lock(mutex_);
  return totals_;
}

int64_t SpanLog::dropped() const {
  const std::lock_guard lock(mutex_);
  return dropped_;
}

}  // namespace mrt
