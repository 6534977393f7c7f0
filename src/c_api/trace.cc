#include "monarchrt/trace.h"

#include "c_api/options.h"

extern "C" {

using namespace mrt;
using namespace mrt::c_api;

mrt_status mrt_trace_create(mrt_trace** trace) {
  return Boundary([&]() -> Status {
    MRT_RETURN_IF_ERROR(Need(trace, "trace", "place for a handle"));
    *trace = nullptr;
    *trace = new mrt_trace{std::make_shared<monarchrt::Trace>()};
    return {};
  });
}

void mrt_trace_destroy(mrt_trace* trace) { delete trace; }

mrt_status mrt_trace_chrome_json(const mrt_trace* trace, char* text, size_t capacity,
                                 size_t* needed) {
  return Boundary([&]() -> mrt_status {
    if (trace == nullptr) return Report(Need(nullptr, "trace", "handle"));
    return WriteText(trace->trace->ToChromeJson(), "trace", text, capacity, needed);
  });
}

mrt_status mrt_trace_table(const mrt_trace* trace, char* text, size_t capacity, size_t* needed) {
  return Boundary([&]() -> mrt_status {
    if (trace == nullptr) return Report(Need(nullptr, "trace", "handle"));
    return WriteText(FormatTrace(trace->trace->Summary()), "trace", text, capacity, needed);
  });
}

}  // extern "C"
