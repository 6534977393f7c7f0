// Status and Result<T>: how every fallible call of this library reports.
//
// Nothing in the library throws across its API, aborts on a caller's mistake, or prints. A message
// reads
// "[where] got ..., need ..." and is one line, ready to be shown to a user.
#pragma once

#include <optional>
#include <string>
#include <utility>

namespace monarchrt {

enum class StatusCode {
  kOk = 0,
  kInvalidArgument,  // the caller's mistake: a size, flag or setting that cannot work
  kNotFound,         // a file, tensor or key that is not there; a chunk that is not left
  kBadData,          // a file that is there but damaged, hostile or of another kind
  kUnavailable,      // this build or this machine cannot do it
  kOutOfMemory,      // it does not fit in memory; refused before it was tried where possible
  kIoError,          // the operating system refused a read or a write
  kCancelled,        // the caller asked to stop
  kInternal,         // a defect of this library
};

class [[nodiscard]] Status {
 public:
  Status() = default;  // ok
  Status(StatusCode code, std::string message) : code_(code), message_(std::move(message)) {}

  bool ok() const { return code_ == StatusCode::kOk; }
  StatusCode code() const { return code_; }
  const std::string& message() const { return message_; }

 private:
  StatusCode code_ = StatusCode::kOk;
  std::string message_;
};

/// A value or the Status that says why there is none. Reading the value of a failed Result is a
/// defect.
template <typename T>
class [[nodiscard]] Result {
 public:
  Result(T value) : value_(std::move(value)) {}          // NOLINT: implicit on purpose
  Result(Status status) : status_(std::move(status)) {}  // NOLINT: implicit on purpose

  bool ok() const { return value_.has_value(); }
  const Status& status() const { return status_; }

  T& value() & { return *value_; }
  const T& value() const& { return *value_; }
  T&& value() && { return *std::move(value_); }
  T& operator*() & { return *value_; }
  const T& operator*() const& { return *value_; }
  T* operator->() { return &*value_; }
  const T* operator->() const { return &*value_; }

 private:
  std::optional<T> value_;
  Status status_;
};

}  // namespace monarchrt
