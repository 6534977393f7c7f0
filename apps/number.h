// Numbers of flags: decimal, whole text, in range. CLI11 alone takes an empty text for 0, 010 for
// 8, -1 for 2^64-1, and what is too large for the largest.
#pragma once

#include <CLI/CLI.hpp>
#include <charconv>
#include <string>
#include <type_traits>

namespace mrt::apps {

/// Refuses a text that is no T, and writes an integer as CLI11 reads it right. For transform().
template <typename T>
CLI::Validator Number() {
  return {[](std::string& text) -> std::string {
            T value = {};
            const char* const end = text.data() + text.size();
            const auto [rest, error] = std::from_chars(text.data(), end, value);
            if (error == std::errc() && rest == end) {
              if constexpr (std::is_integral_v<T>) text = std::to_string(value);
              return "";
            }
            const bool too_large = error == std::errc::result_out_of_range && rest == end;
            return "got '" + text.substr(0, 40) + "'" + (too_large ? ", which is too large" : "") +
                   ", need a " + (std::is_integral_v<T> ? "whole " : "") + "number" +
                   (std::is_unsigned_v<T> ? " >= 0" : "");
          },
          ""};
}

}  // namespace mrt::apps
