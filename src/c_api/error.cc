#include "c_api/boundary.h"
#include "monarchrt/stats.h"

namespace mrt::c_api {
namespace {

static_assert(MRT_OK == static_cast<int>(StatusCode::kOk));
static_assert(MRT_INVALID_ARGUMENT == static_cast<int>(StatusCode::kInvalidArgument));
static_assert(MRT_NOT_FOUND == static_cast<int>(StatusCode::kNotFound));
static_assert(MRT_BAD_DATA == static_cast<int>(StatusCode::kBadData));
static_assert(MRT_UNAVAILABLE == static_cast<int>(StatusCode::kUnavailable));
static_assert(MRT_OUT_OF_MEMORY == static_cast<int>(StatusCode::kOutOfMemory));
static_assert(MRT_IO_ERROR == static_cast<int>(StatusCode::kIoError));
static_assert(MRT_CANCELLED == static_cast<int>(StatusCode::kCancelled));
static_assert(MRT_INTERNAL == static_cast<int>(StatusCode::kInternal));

/// A thread's last message: in `text`, or a constant where even that found no memory.
struct LastError {
  std::string text;
  const char* constant = nullptr;
};
thread_local LastError last_error;

}  // namespace

mrt_status ReportConstant(mrt_status status, const char* message) noexcept {
  last_error.constant = message;
  return status;
}

mrt_status Report(const Status& status) noexcept {
  if (status.ok()) return MRT_OK;
  const auto code = static_cast<mrt_status>(status.code());
  try {
    last_error.text = status.message();
    last_error.constant = nullptr;
    return code;
  } catch (const std::bad_alloc&) {
    return ReportConstant(code, "[memory] there is no memory for the message");
  }
}

mrt_status ReportTooSmall(const char* where, size_t got, size_t need) noexcept {
  return Boundary([&] {
    last_error.text = std::string("[") + where + "] got room for " + std::to_string(got) +
                      ", need " + std::to_string(need);
    last_error.constant = nullptr;
    return mrt_status{MRT_BUFFER_TOO_SMALL};
  });
}

mrt_status WriteText(const std::string& text, const char* where, char* buffer, size_t capacity,
                     size_t* needed) noexcept {
  if (needed == nullptr) return Report(Need(nullptr, where, "place for the size"));
  *needed = text.size() + 1;
  if (*needed > capacity) return ReportTooSmall(where, capacity, *needed);
  if (buffer == nullptr) return Report(Need(nullptr, where, "buffer"));
  std::copy_n(text.c_str(), *needed, buffer);
  return MRT_OK;
}

Status Need(const void* pointer, const char* where, const char* name) {
  if (pointer != nullptr) return {};
  return InvalidArgument(std::string("[") + where + "] got NULL, need a " + name);
}

Status CheckEnum(int32_t value, int32_t count, const char* where, const char* name) {
  if (value >= 0 && value < count) return {};
  return InvalidArgument(std::string("[") + where + "] got " + name + " " + std::to_string(value) +
                         ", need 0.." + std::to_string(count - 1));
}

Status CheckIndex(size_t index, size_t count, const char* where) {
  if (index < count) return {};
  return NotFound(std::string("[") + where + "] got index " + std::to_string(index) +
                  ", need less than " + std::to_string(count));
}

Status CheckReserved(int32_t value, const char* where) {
  if (value == 0) return {};
  return InvalidArgument(std::string("[") + where + "] got " + std::to_string(value) +
                         " in a reserved field, need 0");
}

}  // namespace mrt::c_api

extern "C" {

const char* mrt_last_error(void) {
  const auto& last = mrt::c_api::last_error;
  return last.constant != nullptr ? last.constant : last.text.c_str();
}

const char* mrt_status_name(mrt_status status) {
  switch (status) {
    case MRT_OK: return "ok";
    case MRT_INVALID_ARGUMENT: return "invalid argument";
    case MRT_NOT_FOUND: return "not found";
    case MRT_BAD_DATA: return "bad data";
    case MRT_UNAVAILABLE: return "unavailable";
    case MRT_OUT_OF_MEMORY: return "out of memory";
    case MRT_IO_ERROR: return "input or output failed";
    case MRT_CANCELLED: return "cancelled";
    case MRT_INTERNAL: return "internal error";
    case MRT_BUFFER_TOO_SMALL: return "buffer too small";
    default: return "unknown status";
  }
}

const char* mrt_version(void) { return monarchrt::Version(); }

}  // extern "C"
