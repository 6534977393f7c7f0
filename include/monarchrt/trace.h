// A trace: what the engine did when, for a timeline viewer, and how much of the time each kind of
// operation took.
//
//   auto trace = std::make_shared<monarchrt::Trace>();
//   auto engine = monarchrt::Engine::Load({.model = "models/demo", .trace = trace});
//   ... run streams ...
//   WriteFile("trace.json", trace->ToChromeJson());  // for ui.perfetto.dev or chrome://tracing
//   Print(FormatTrace(trace->Summary()));
//
// Recording costs well below a microsecond for each of some hundred operations of a forward pass,
// and memory: see ToChromeJson.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "monarchrt/export.h"

namespace monarchrt {

/// All operations of one kind.
struct TraceOperation {
  std::string name;     // "linear", "monarch attention" ...
  bool matrix = false;  // it is matrix arithmetic
  int64_t calls = 0;
  double seconds = 0;
  double flop = 0;   // of matrix products; 0 if it is not matrix arithmetic
  double bytes = 0;  // inputs and outputs, each counted once: less than what memory moves
};

/// A part of the work, as a user sees it: "load", "text", "transformer", "decoder" ...
struct TraceStage {
  std::string name;
  int64_t calls = 0;
  double seconds = 0;
};

struct MRT_API TraceSummary {
  std::vector<TraceStage> stages;          // the longest first
  std::vector<TraceOperation> operations;  // the longest first
  double stages_s = 0;  // of all stages together; if they overlap, more than wall time
  /// Of stages_s not spent in any operation: packing, copies, files, waiting.
  double BetweenSeconds() const;
  /// Share of stages_s that is not matrix arithmetic. An attention kernel counts as a whole, its
  /// softmax included.
  double ShareNotMatrix() const;
};

/// Collects what engines and streams do that were made with it. Any thread may use it.
class MRT_API Trace {
 public:
  Trace();
  ~Trace();
  Trace(const Trace&) = delete;
  Trace& operator=(const Trace&) = delete;

  /// Adds a stage of the caller's own that began `seconds` ago and ends now: writing a file, say.
  /// `name` must outlive the trace, as a literal does.
  void AddStage(const char* name, double seconds);

  TraceSummary Summary() const;

  /// The trace event format of Chrome and Perfetto: complete events with stages, parts and
  /// operations nested by time, one row for each thread, `flop` and `bytes` as arguments. Holds at
  /// most the first million events (72 MB of memory); "dropped" says how many are missing.
  std::string ToChromeJson() const;

  struct MRT_HIDDEN Impl;
  MRT_HIDDEN Impl& impl() const { return *impl_; }  // for the library itself

 private:
  const std::unique_ptr<Impl> impl_;
};

/// The summary as a table for a terminal: time, share, GFLOP/s and GB/s of each operation.
MRT_API std::string FormatTrace(const TraceSummary& summary);

}  // namespace monarchrt
