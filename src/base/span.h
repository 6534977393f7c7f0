// Spans: what ran when, for traces. A Span costs a branch if there is no log.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace mrt {

enum class SpanKind : uint8_t {
  kStage,   // an outermost part of the work: those of one thread do not overlap
  kPart,    // inside a stage, holds others: a denoising step
  kMatrix,  // an operation that is matrix arithmetic; operations hold nothing
  kOther,   // any other operation: norms, rotations, copies
};

/// What an operation does, as far as its sizes tell.
struct SpanWork {
  double flop = 0;   // of matrix products
  double bytes = 0;  // its inputs and outputs, each counted once
};

struct SpanRecord {
  const char* name = "";  // a literal
  SpanKind kind = SpanKind::kOther;
  int lane = 0;                          // the thread, numbered as they come
  int64_t index = 0;                     // which chunk, step or block; -1: no number
  double start_us = 0, duration_us = 0;  // from the making of the log
  SpanWork work;
};

/// All spans of a name taken together.
struct SpanTotal {
  SpanKind kind = SpanKind::kOther;
  int64_t calls = 0;
  double seconds = 0;
  SpanWork work;
};

/// Collects spans. Any thread may use it.
class SpanLog {
 public:
  using Clock = std::chrono::steady_clock;

  /// Totals count every span; of single records the first kRecordsMax are kept (72 MB).
  static constexpr size_t kRecordsMax = size_t{1} << 20;

  void Add(const char* name, SpanKind kind, int64_t index, const SpanWork& work,
           Clock::time_point start);

  std::vector<SpanRecord> Records() const;
  std::map<std::string, SpanTotal> Totals() const;
  /// Spans that are in the totals only.
  int64_t dropped() const;

 private:
  const Clock::time_point epoch_ = Clock::now();
  mutable std::mutex mutex_;
  std::vector<SpanRecord> records_;  // guarded by mutex_, as all below
  std::map<std::string, SpanTotal> totals_;
  std::map<std::thread::id, int> lanes_;
  int64_t dropped_ = 0;
};

/// From its construction to its end. `log` may be null; `name` must be a literal.
class Span {
 public:
  Span(SpanLog* log, const char* name, SpanKind kind, const SpanWork& work = {}, int64_t index = -1)
      : log_(log), name_(name), kind_(kind), index_(index), work_(work) {
    if (log_ != nullptr) start_ = SpanLog::Clock::now();
  }
  ~Span() {
    if (log_ != nullptr) log_->Add(name_, kind_, index_, work_, start_);
  }
  Span(const Span&) = delete;
  Span& operator=(const Span&) = delete;

 private:
  SpanLog* const log_;
  const char* const name_;
  const SpanKind kind_;
  const int64_t index_;
  const SpanWork work_;
  SpanLog::Clock::time_point start_;
};

}  // namespace mrt
