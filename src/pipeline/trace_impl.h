// The inside of a public Trace.
#pragma once

#include "base/span.h"
#include "monarchrt/trace.h"

namespace monarchrt {

struct Trace::Impl {
  mrt::SpanLog log;
};

/// The log to hand to spans; null without a trace.
inline mrt::SpanLog* LogOf(const std::shared_ptr<Trace>& trace) {
  return trace == nullptr ? nullptr : &trace->impl().log;
}

}  // namespace monarchrt
