// Numbers of flags: decimal, whole text, in range. CLI11 alone takes an empty text for 0, 010 for
// 8, -1 for 2^64-1, and what is too large for the largest.
#pragma once

#include <CLI/CLI.hpp>
#include <algorithm>
#include <charconv>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

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

/// Adds an option that takes whole numbers separated by commas, exactly `count` of them if that is
/// not 0. CLI11's own lists leave out what is empty, so that 1000,,5 would be two numbers. `to` is
/// a vector or an optional one.
template <typename Numbers>
CLI::Option* AddNumbers(CLI::App& command, const std::string& flag, Numbers& to, size_t count,
                        const std::string& description) {
  const auto read = [flag, &to, count](const std::string& text) {
    std::vector<int> numbers;
    bool right = true;
    for (size_t begin = 0; begin <= text.size();) {
      const size_t end = std::min(text.find(',', begin), text.size());
      int& number = numbers.emplace_back();
      const char* const stop = text.data() + end;
      const auto [rest, error] = std::from_chars(text.data() + begin, stop, number);
      right = right && error == std::errc() && rest == stop;
      begin = end + 1;
    }
    if (!right || (count != 0 && numbers.size() != count))
      throw CLI::ValidationError(flag, "got '" + text.substr(0, 40) + "', need " +
                                           (count != 0 ? std::to_string(count) + " " : "") +
                                           "whole numbers separated by commas");
    to = std::move(numbers);
  };
  return command.add_option_function<std::string>(flag, read, description);
}

}  // namespace mrt::apps
