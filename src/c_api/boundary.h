// What every function of the C API does at its edge: errors into a code and a message, structs of
// older and newer callers in and out, text into arrays.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstring>
#include <new>
#include <string>
#include <string_view>
#include <type_traits>

#include "base/guard.h"
#include "base/status.h"
#include "monarchrt/c_api.h"

namespace mrt::c_api {

/// A caller's struct is at most this large: a larger struct_size is no size.
inline constexpr size_t kStructBytesMax = 4096;

/// Remembers the failure for mrt_last_error() of this thread; returns its code.
mrt_status Report(const Status& status) noexcept;
/// MRT_BUFFER_TOO_SMALL, which no Status has.
mrt_status ReportTooSmall(const char* where, size_t got, size_t need) noexcept;
/// A message that lives for ever, where there may be no memory for one.
mrt_status ReportConstant(mrt_status status, const char* message) noexcept;

/// A text with its 0 into a caller's buffer; *needed is its size also when it does not fit.
mrt_status WriteText(const std::string& text, const char* where, char* buffer, size_t capacity,
                     size_t* needed) noexcept;

/// Calls `body`, which returns a Status or an mrt_status. Nothing that is thrown leaves.
template <typename F>
mrt_status Boundary(F&& body) noexcept {
  try {
    if constexpr (std::is_same_v<decltype(body()), mrt_status>)
      return body();
    else
      return Report(Guard(body));
  } catch (const std::bad_alloc&) {
    return ReportConstant(MRT_OUT_OF_MEMORY, "[memory] the system gave no more memory");
  } catch (...) {  // not even a std::exception
    return ReportConstant(MRT_INTERNAL, "[callback] got an exception, need one that throws none");
  }
}

/// InvalidArgument "[where] got no `name`, need one" for a null pointer.
Status Need(const void* pointer, const char* where, const char* name);

/// "" for null.
inline std::string Text(const char* text) { return text == nullptr ? "" : text; }

/// Cut to the array, never within a UTF-8 character; the rest is 0.
template <size_t kBytes>
void CopyText(std::string_view text, char (&array)[kBytes]) {
  size_t size = std::min(text.size(), kBytes - 1);
  if (size < text.size())
    while (size > 0 && (static_cast<unsigned char>(text[size]) & 0xC0) == 0x80) --size;
  std::fill(std::copy_n(text.data(), size, array), array + kBytes, '\0');
}

// A struct of the C API starts with its size as its caller knows it. A smaller one than ours is
// that of an older header, but none is smaller than that of the first version. A larger one is that
// of a newer header: what we do not know must be 0, and becomes 0.

/// The size that the first version of T had; it never changes.
template <typename T>
inline constexpr size_t kFirstBytes = 0;
template <>
inline constexpr size_t kFirstBytes<mrt_attention_options> = 40;
template <>
inline constexpr size_t kFirstBytes<mrt_attention_problem> = 48;
template <>
inline constexpr size_t kFirstBytes<mrt_attention_implementation> = 336;
template <>
inline constexpr size_t kFirstBytes<mrt_attention_rule> = 40;
template <>
inline constexpr size_t kFirstBytes<mrt_engine_options> = 72;
template <>
inline constexpr size_t kFirstBytes<mrt_stream_options> = 128;
template <>
inline constexpr size_t kFirstBytes<mrt_memory_estimate> = 48;
template <>
inline constexpr size_t kFirstBytes<mrt_model_info> = 424;
template <>
inline constexpr size_t kFirstBytes<mrt_chunk> = 88;
template <>
inline constexpr size_t kFirstBytes<mrt_prompt_change> = 40;
template <>
inline constexpr size_t kFirstBytes<mrt_stats> = 848;
template <>
inline constexpr size_t kFirstBytes<mrt_device_info> = 344;
template <>
inline constexpr size_t kFirstBytes<mrt_doctor_report> = 624;
template <>
inline constexpr size_t kFirstBytes<mrt_kernel_report> = 400;

/// Ok if struct_size can be one of T. Reads nothing else of the struct.
template <typename T>
Status CheckSize(const void* given, const char* where, size_t* struct_size) {
  static_assert(std::is_trivially_copyable_v<T> && offsetof(T, struct_size) == 0);
  static_assert(kFirstBytes<T> > 0 && kFirstBytes<T> <= sizeof(T) && sizeof(T) <= kStructBytesMax);
  MRT_RETURN_IF_ERROR(Need(given, where, "struct"));
  std::memcpy(struct_size, given, sizeof(*struct_size));
  if (*struct_size >= kFirstBytes<T> && *struct_size <= kStructBytesMax) return {};
  return InvalidArgument(std::string("[") + where + "] got a struct_size of " +
                         std::to_string(*struct_size) + ", need " + std::to_string(sizeof(T)));
}

/// Reads a caller's struct over *known, which holds the defaults.
template <typename T>
Status ReadStruct(const T* given, const char* where, T* known) {
  size_t bytes = 0;
  MRT_RETURN_IF_ERROR(CheckSize<T>(given, where, &bytes));
  const char* const data = reinterpret_cast<const char*>(given);
  for (size_t i = sizeof(T); i < bytes; ++i)
    if (data[i] != 0)
      return InvalidArgument(std::string("[") + where +
                             "] got fields that this version does not know, need 0 in them");
  std::memcpy(known, data, std::min(bytes, sizeof(T)));
  known->struct_size = sizeof(T);
  return {};
}

/// Writes *known into a caller's struct, whose struct_size CheckSize has seen and which it keeps.
template <typename T>
void WriteStruct(const T& known, size_t bytes, T* taken) {
  char* const data = reinterpret_cast<char*>(taken);
  constexpr size_t kSize = sizeof(size_t);
  std::memcpy(data + kSize, reinterpret_cast<const char*>(&known) + kSize,
              std::min(bytes, sizeof(T)) - kSize);
  if (bytes > sizeof(T)) std::memset(data + sizeof(T), 0, bytes - sizeof(T));
}

/// The _init functions: the caller may know another struct than we do.
template <typename T>
mrt_status InitStruct(const T& defaults, size_t bytes, T* options, const char* where) noexcept {
  return Boundary([&]() -> Status {
    MRT_RETURN_IF_ERROR(Need(options, where, "struct"));
    size_t checked = 0;
    MRT_RETURN_IF_ERROR(CheckSize<T>(&bytes, where, &checked));
    std::memcpy(static_cast<void*>(options), &bytes, sizeof(bytes));
    WriteStruct(defaults, bytes, options);
    return {};
  });
}

/// Fills a caller's struct with what `make` gives: Result<T>. Nothing is written if it fails.
template <typename T, typename F>
mrt_status FillStruct(T* taken, const char* where, F&& make) noexcept {
  return Boundary([&]() -> Status {
    size_t bytes = 0;
    MRT_RETURN_IF_ERROR(CheckSize<T>(taken, where, &bytes));
    MRT_ASSIGN_OR_RETURN(const T known, make());
    WriteStruct(known, bytes, taken);
    return {};
  });
}

/// 0 ... count - 1 are the values of an enum.
Status CheckEnum(int32_t value, int32_t count, const char* where, const char* name);

/// NotFound after the last one of a list.
Status CheckIndex(size_t index, size_t count, const char* where);

/// Reserved fields are 0, so that a later version can give them a meaning.
Status CheckReserved(int32_t value, const char* where);

}  // namespace mrt::c_api
