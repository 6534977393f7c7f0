// The public Status in this project's own namespace, short constructors, and the two early-return
// helpers.
#pragma once

#include <string>
#include <utility>

#include "monarchrt/status.h"

namespace mrt {

using monarchrt::Result;
using monarchrt::Status;
using monarchrt::StatusCode;

inline Status InvalidArgument(std::string m) {
  return {StatusCode::kInvalidArgument, std::move(m)};
}
inline Status NotFound(std::string m) { return {StatusCode::kNotFound, std::move(m)}; }
inline Status BadData(std::string m) { return {StatusCode::kBadData, std::move(m)}; }
inline Status Unavailable(std::string m) { return {StatusCode::kUnavailable, std::move(m)}; }
inline Status OutOfMemory(std::string m) { return {StatusCode::kOutOfMemory, std::move(m)}; }
inline Status IoError(std::string m) { return {StatusCode::kIoError, std::move(m)}; }
inline Status Cancelled(std::string m) { return {StatusCode::kCancelled, std::move(m)}; }
inline Status Internal(std::string m) { return {StatusCode::kInternal, std::move(m)}; }

}  // namespace mrt

#define MRT_CONCAT_INNER(a, b) a##b
#define MRT_CONCAT(a, b) MRT_CONCAT_INNER(a, b)

/// Returns the Status of `expr` from the current function if it is not ok.
#define MRT_RETURN_IF_ERROR(expr)              \
  do {                                         \
    ::monarchrt::Status mrt_status_ = (expr);  \
    if (!mrt_status_.ok()) return mrt_status_; \
  } while (false)

/// `MRT_ASSIGN_OR_RETURN(auto x, F())`: x is the value of the Result, or its Status is returned.
#define MRT_ASSIGN_OR_RETURN(lhs, expr)                                                           \
  auto MRT_CONCAT(mrt_result_, __LINE__) = (expr);                                                \
  if (!MRT_CONCAT(mrt_result_, __LINE__).ok()) return MRT_CONCAT(mrt_result_, __LINE__).status(); \
  lhs = std::move(MRT_CONCAT(mrt_result_, __LINE__)).value()
