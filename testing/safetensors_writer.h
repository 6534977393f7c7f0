// Writes safetensors files, valid ones and others.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "tensor/tensor.h"

namespace mrt::testing {

/// The bytes of plain values, as they lie in a file.
template <typename T>
std::string BytesOf(const std::vector<T>& values) {
  static_assert(std::is_trivially_copyable_v<T>);
  std::string bytes(values.size() * sizeof(T), '\0');
  std::memcpy(bytes.data(), values.data(), bytes.size());
  return bytes;
}

/// Length, header, data: nothing is checked.
inline std::string SafetensorsBytes(std::string_view header, std::string_view data) {
  return BytesOf(std::vector<uint64_t>{header.size()}) + std::string(header) + std::string(data);
}

struct SafetensorsEntry {
  std::string name;
  DType dtype;
  std::vector<int64_t> shape;
  std::string bytes;
};

/// A valid file. `metadata` is a JSON object or empty. `pad_header` makes the data 8-byte aligned.
inline std::string SafetensorsFile(const std::vector<SafetensorsEntry>& entries,
                                   const std::string& metadata = "", bool pad_header = true) {
  std::string header = "{", data;
  if (!metadata.empty()) header += "\"__metadata__\":" + metadata + ",";
  for (const SafetensorsEntry& entry : entries) {
    std::string dims;
    for (const int64_t dim : entry.shape) dims += (dims.empty() ? "" : ",") + std::to_string(dim);
    header += "\"" + entry.name + "\":{\"dtype\":\"" + DTypeName(entry.dtype) + "\",\"shape\":[" +
              dims + "],\"data_offsets\":[" + std::to_string(data.size()) + "," +
              std::to_string(data.size() + entry.bytes.size()) + "]},";
    data += entry.bytes;
  }
  if (header.back() == ',') header.pop_back();
  header += "}";
  while (pad_header && header.size() % 8 != 0) header += ' ';
  return SafetensorsBytes(header, data);
}

}  // namespace mrt::testing
