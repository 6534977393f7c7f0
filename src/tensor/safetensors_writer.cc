#include "tensor/safetensors_writer.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <optional>
#include <tuple>
#include <utility>

#include "base/check.h"
#include "base/json.h"
#include "tensor/printable.h"
#include "tensor/safetensors.h"

namespace mrt {
namespace {

static_assert(std::endian::native == std::endian::little, "tensors are stored little-endian");

constexpr size_t kHeaderAlignment = 8;  // bytes of the largest dtype
constexpr const char* kMetadata = "__metadata__";

Status Refuse(const std::string& path, const std::string& what) {
  return InvalidArgument("[safetensors] cannot write '" + path + "': " + what);
}

// As the published writer lists them, most aligned first: not by size alone.
constexpr DType kFileOrder[] = {DType::kI64, DType::kF64, DType::kF32, DType::kI32, DType::kBF16,
                                DType::kF16, DType::kI16, DType::kI8,  DType::kU8,  DType::kBool};

void SortAsThePublishedWriter(std::vector<SafetensorsEntry>& entries) {
  std::sort(entries.begin(), entries.end(),
            [](const SafetensorsEntry& a, const SafetensorsEntry& b) {
              const auto* a_at = std::ranges::find(kFileOrder, a.dtype);
              const auto* b_at = std::ranges::find(kFileOrder, b.dtype);
              return std::tie(a_at, a.name) < std::tie(b_at, b.name);
            });
}

Result<std::string> HeaderText(const std::string& path,
                               const std::vector<SafetensorsEntry>& entries,
                               const std::map<std::string, std::string>& metadata) {
  OrderedJson header = OrderedJson::object();
  if (!metadata.empty()) header[kMetadata] = metadata;
  const auto start = DumpJsonExactly(header);
  if (!start) return Refuse(path, "got metadata that is not UTF-8, need UTF-8");
  std::string text = *start;
  text.pop_back();  // the closing brace comes last
  int64_t at = 0;
  for (const SafetensorsEntry& entry : entries) {
    const int64_t end = at + entry.bytes();
    OrderedJson shape = OrderedJson::array();
    for (int axis = 0; axis < entry.shape.rank(); ++axis) shape.push_back(entry.shape[axis]);
    const auto item = DumpJsonExactly(
        {{entry.name,
          {{"dtype", DTypeName(entry.dtype)}, {"shape", shape}, {"data_offsets", {at, end}}}}});
    if (!item) return Refuse(path, "got the name " + Printable(entry.name) + ", need UTF-8");
    text += (text.size() > 1 ? "," : "") + item->substr(1, item->size() - 2);
    at = end;
  }
  text += "}";
  text.append((kHeaderAlignment - text.size() % kHeaderAlignment) % kHeaderAlignment, ' ');
  if (text.size() > kSafetensorsHeaderBytesMax)
    return Refuse(path, "got a header of " + std::to_string(text.size()) + " bytes, need at most " +
                            std::to_string(kSafetensorsHeaderBytesMax));
  return text;
}

Status CheckNames(const std::string& path, const std::vector<SafetensorsEntry>& entries) {
  std::vector<std::string> names;
  names.reserve(entries.size());
  for (const SafetensorsEntry& entry : entries) names.push_back(entry.name);
  std::sort(names.begin(), names.end());
  const auto twice = std::adjacent_find(names.begin(), names.end());
  if (twice != names.end()) return Refuse(path, "got the name " + Printable(*twice) + " twice");
  if (std::binary_search(names.begin(), names.end(), kMetadata))
    return Refuse(path, std::string("got a tensor with the name ") + kMetadata);
  return {};
}

}  // namespace

Result<SafetensorsWriter> SafetensorsWriter::Create(
    const std::string& path, std::vector<SafetensorsEntry> entries,
    const std::map<std::string, std::string>& metadata, AtomicFile::Permissions permissions) {
  MRT_RETURN_IF_ERROR(CheckNames(path, entries));
  SortAsThePublishedWriter(entries);
  MRT_ASSIGN_OR_RETURN(const std::string header, HeaderText(path, entries, metadata));
  MRT_ASSIGN_OR_RETURN(AtomicFile file, AtomicFile::Create(path, permissions));
  SafetensorsWriter writer(std::move(file), std::move(entries));
  const uint64_t header_bytes = header.size();
  writer.missing_bytes_ = static_cast<int64_t>(sizeof(header_bytes) + header_bytes);
  MRT_RETURN_IF_ERROR(writer.Append(&header_bytes, sizeof(header_bytes)));
  MRT_RETURN_IF_ERROR(writer.Append(header.data(), static_cast<int64_t>(header.size())));
  for (const SafetensorsEntry& entry : writer.entries_) writer.missing_bytes_ += entry.bytes();
  return writer;
}

Status SafetensorsWriter::Append(const void* data, int64_t bytes) {
  MRT_CHECK(bytes <= missing_bytes_);
  missing_bytes_ -= bytes;
  return file_.Append(static_cast<const uint8_t*>(data), bytes);
}

Status SafetensorsWriter::Commit() {
  MRT_CHECK(missing_bytes_ == 0);
  return file_.Commit();
}

}  // namespace mrt
