#include "tensor/safetensors.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <optional>
#include <set>
#include <vector>

#include "base/file_name.h"
#include "base/json.h"
#include "tensor/printable.h"

namespace mrt {
namespace {

using json = Json;

static_assert(std::endian::native == std::endian::little, "tensors are stored little-endian");

constexpr size_t kLengthBytes = 8;   // the header's length comes first
constexpr int kDepthMax = 8;         // a valid header nests three deep
constexpr size_t kShardsMax = 4096;  // files one index may name
constexpr DType kDTypes[] = {DType::kF32, DType::kF16, DType::kBF16, DType::kF64, DType::kI8,
                             DType::kU8,  DType::kI16, DType::kI32,  DType::kI64, DType::kBool};

Status Bad(const MappedFile& file, const std::string& what) {
  return BadData("[safetensors] " + file.path() + ": " + what);
}

std::optional<DType> DTypeByName(std::string_view name) {
  for (const DType dtype : kDTypes)
    if (name == DTypeName(dtype)) return dtype;
  return std::nullopt;
}

/// A JSON object without duplicate names and of bounded depth, or what is wrong.
Result<json> ParseObject(const MappedFile& file, std::string_view text) {
  std::vector<std::set<std::string>> names;  // one set per open object
  std::string fault;
  const auto check = [&](int depth, json::parse_event_t event, json& value) {
    if (!fault.empty()) return false;
    if (depth > kDepthMax) fault = "JSON nests deeper than " + std::to_string(kDepthMax);
    if (event == json::parse_event_t::object_start) names.emplace_back();
    if (event == json::parse_event_t::object_end) names.pop_back();
    if (event == json::parse_event_t::key) {
      const auto& name = value.get_ref<const std::string&>();
      if (!names.back().insert(name).second) fault = "duplicate name " + Printable(name);
    }
    return fault.empty();
  };
  json object = ParseJson(text, check);
  if (!fault.empty()) return Bad(file, fault);
  if (object.is_discarded()) return Bad(file, "broken JSON");
  if (!object.is_object()) return Bad(file, "got another JSON value, need an object");
  return object;
}

/// The array's elements if all of them are integers in 0 .. 2^63-1.
std::optional<std::vector<int64_t>> Integers(const json& array) {
  if (!array.is_array()) return std::nullopt;
  std::vector<int64_t> values;
  for (const json& item : array) {
    if (!item.is_number_unsigned() || item.get<uint64_t>() > uint64_t{INT64_MAX})
      return std::nullopt;
    values.push_back(item.get<int64_t>());
  }
  return values;
}

struct Entry {
  std::string name;
  DType dtype = DType::kF32;
  Shape shape;
  int64_t begin = 0, end = 0;  // byte offsets into the part after the header
};

Result<Entry> ParseEntry(const MappedFile& file, const std::string& name, const json& value) {
  const std::string where = "tensor " + Printable(name) + ": ";
  if (!value.is_object() || !value.contains("dtype") || !value.contains("shape") ||
      !value.contains("data_offsets") || !value["dtype"].is_string())
    return Bad(file, where + "need an object with dtype, shape and data_offsets");
  Entry entry;
  entry.name = name;
  const auto& dtype_name = value["dtype"].get_ref<const std::string&>();
  const auto dtype = DTypeByName(dtype_name);
  if (!dtype) return Bad(file, where + "dtype " + Printable(dtype_name) + " is not supported");
  entry.dtype = *dtype;
  const auto dims = Integers(value["shape"]);
  const auto shape = dims ? Shape::Checked(*dims) : std::nullopt;
  if (!shape) return Bad(file, where + "the shape is not valid or too large");
  entry.shape = *shape;
  const auto offsets = Integers(value["data_offsets"]);
  if (!offsets || offsets->size() != 2 || (*offsets)[0] > (*offsets)[1])
    return Bad(file, where + "data_offsets are not valid");
  entry.begin = (*offsets)[0];
  entry.end = (*offsets)[1];
  const int64_t need = entry.shape.elements() * DTypeSize(entry.dtype);
  if (entry.end - entry.begin != need)
    return Bad(file, where + "got " + std::to_string(entry.end - entry.begin) + " bytes, need " +
                         std::to_string(need) + " for " + DTypeName(entry.dtype) + " " +
                         entry.shape.ToString());
  return entry;
}

Status ParseMetadata(const MappedFile& file, const json& value,
                     std::map<std::string, std::string>& metadata) {
  if (!value.is_object()) return Bad(file, "__metadata__ is not an object");
  for (const auto& [key, text] : value.items()) {
    if (!text.is_string()) return Bad(file, "__metadata__ " + Printable(key) + " is not a string");
    metadata[key] = text.get<std::string>();
  }
  return {};
}

/// Tensors in the order of their bytes, which they must fill without gap or overlap.
Status CheckLayout(const MappedFile& file, std::vector<Entry>& entries, int64_t data_bytes) {
  std::sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) {
    return a.begin != b.begin ? a.begin < b.begin : a.end < b.end;
  });
  int64_t at = 0;
  for (const Entry& entry : entries) {
    if (entry.begin != at)
      return Bad(file, "tensor " + Printable(entry.name) + " begins at byte " +
                           std::to_string(entry.begin) + ", need " + std::to_string(at));
    at = entry.end;
  }
  if (at != data_bytes)
    return Bad(file, "got " + std::to_string(data_bytes) + " bytes after the header, need " +
                         std::to_string(at) + (at > data_bytes ? " (cut short?)" : ""));
  return {};
}

}  // namespace

Result<LoadedTensors> ReadSafetensors(std::shared_ptr<const MappedFile> file) {
  const std::string_view bytes = file->bytes();
  if (bytes.size() < kLengthBytes)
    return Bad(*file, "got " + std::to_string(bytes.size()) + " bytes, need a header");
  uint64_t header_bytes = 0;
  std::memcpy(&header_bytes, bytes.data(), kLengthBytes);
  if (header_bytes > kSafetensorsHeaderBytesMax)
    return Bad(*file, "got a header of " + std::to_string(header_bytes) + " bytes, need at most " +
                          std::to_string(kSafetensorsHeaderBytesMax));
  if (header_bytes > bytes.size() - kLengthBytes)
    return Bad(*file, "got " + std::to_string(bytes.size()) + " bytes, need " +
                          std::to_string(kLengthBytes + header_bytes) +
                          " for the header (cut short?)");
  MRT_ASSIGN_OR_RETURN(const json header,
                       ParseObject(*file, bytes.substr(kLengthBytes, header_bytes)));
  const std::string_view data = bytes.substr(kLengthBytes + header_bytes);

  LoadedTensors loaded;
  std::vector<Entry> entries;
  for (const auto& [name, value] : header.items()) {
    if (name == "__metadata__") {
      MRT_RETURN_IF_ERROR(ParseMetadata(*file, value, loaded.metadata));
      continue;
    }
    MRT_ASSIGN_OR_RETURN(Entry entry, ParseEntry(*file, name, value));
    entries.push_back(std::move(entry));
  }
  MRT_RETURN_IF_ERROR(CheckLayout(*file, entries, static_cast<int64_t>(data.size())));
  CopyBudget budget(*file);
  for (const Entry& entry : entries) {
    auto view = MakeView(
        {data.data() + entry.begin, entry.dtype, entry.shape, RowMajorStrides(entry.shape)}, budget,
        loaded);
    if (!view.ok())
      return Bad(*file, "tensor " + Printable(entry.name) + ": " + view.status().message());
    loaded.tensors.emplace(entry.name, *view);
  }
  loaded.files.push_back(std::move(file));
  return loaded;
}

Result<LoadedTensors> ReadSafetensorsIndex(const MappedFile& index) {
  if (index.bytes().size() > kSafetensorsHeaderBytesMax)
    return Bad(index, "the index is too large");
  MRT_ASSIGN_OR_RETURN(const json object, ParseObject(index, index.bytes()));
  if (!object.contains("weight_map") || !object["weight_map"].is_object())
    return Bad(index, "need an object weight_map");
  std::map<std::string, std::vector<std::string>> names_by_shard;
  for (const auto& [name, shard] : object["weight_map"].items()) {
    if (!shard.is_string() || !IsBareFileName(shard.get_ref<const std::string&>()))
      return Bad(index, "tensor " + Printable(name) + ": need the name of a file beside the index");
    names_by_shard[shard.get<std::string>()].push_back(name);
  }
  if (names_by_shard.size() > kShardsMax)
    return Bad(index, "got " + std::to_string(names_by_shard.size()) + " shards, need at most " +
                          std::to_string(kShardsMax));
  const size_t slash = index.path().rfind('/');
  const std::string folder = slash == std::string::npos ? "" : index.path().substr(0, slash + 1);
  LoadedTensors all;
  for (const auto& [shard, names] : names_by_shard) {
    MRT_ASSIGN_OR_RETURN(auto file, MappedFile::Open(folder + shard));
    MRT_ASSIGN_OR_RETURN(LoadedTensors part, ReadSafetensors(std::move(file)));
    for (const std::string& name : names) {
      const auto found = part.tensors.find(name);
      if (found == part.tensors.end())
        return Bad(index, "tensor " + Printable(name) + " is not in " + Printable(shard));
      all.tensors.insert(*found);
    }
    all.metadata.merge(part.metadata);
    all.files.insert(all.files.end(), part.files.begin(), part.files.end());
    all.owners.insert(all.owners.end(), part.owners.begin(), part.owners.end());
  }
  return all;
}

}  // namespace mrt
