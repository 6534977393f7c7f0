// The span of one operation; only for the files of this folder.
#pragma once

#include <exception>

#include "base/span.h"
#include "ops/backend.h"

namespace mrt::ops {

/// A Span that on a device lasts until the work is done. Without a log nothing is waited for.
class OperationSpan {
 public:
  OperationSpan(const Context& context, const char* name, SpanKind kind, const SpanWork& work)
      : waits_for_(context.span_log() == nullptr ? nullptr : context.backend()),
        span_(context.span_log(), name, kind, work) {}
  ~OperationSpan() {
    if (waits_for_ == nullptr) return;
    try {
      waits_for_->Synchronize();
    } catch (const std::exception&) {
      // The next operation will meet the error again.
    }
  }
  OperationSpan(const OperationSpan&) = delete;
  OperationSpan& operator=(const OperationSpan&) = delete;

 private:
  Backend* const waits_for_;
  const Span span_;
};

}  // namespace mrt::ops
