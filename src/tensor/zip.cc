// Field names and offsets: APPNOTE.TXT of the zip format, sections 4.3.7 to 4.3.16 and 4.5.3.
#include "tensor/zip.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <vector>

#include "tensor/printable.h"

namespace mrt {
namespace {

static_assert(std::endian::native == std::endian::little, "zip fields are little-endian");

constexpr uint32_t kLocalHeader = 0x04034b50;
constexpr uint32_t kCentralHeader = 0x02014b50;
constexpr uint32_t kEndRecord = 0x06054b50;
constexpr uint32_t kZip64EndRecord = 0x06064b50;
constexpr uint32_t kZip64Locator = 0x07064b50;
constexpr size_t kLocalHeaderBytes = 30;
constexpr size_t kCentralHeaderBytes = 46;
constexpr size_t kEndRecordBytes = 22;
constexpr size_t kZip64EndRecordBytes = 56;
constexpr size_t kZip64LocatorBytes = 20;
constexpr size_t kCommentBytesMax = 65535;
constexpr uint16_t kZip64Extra = 0x0001;
constexpr uint16_t kEncryptedFlag = 0x0001;
constexpr uint32_t kInZip64 = 0xffffffff;  // "the value is in the zip64 record"
constexpr uint16_t kInZip64Short = 0xffff;

/// The caller has checked that [at, at + sizeof(T)) is inside.
template <typename T>
T Load(std::string_view bytes, size_t at) {
  T value;
  std::memcpy(&value, bytes.data() + at, sizeof(T));
  return value;
}

/// Is [begin, begin + size) inside `total` bytes? No sum that could overflow.
bool Inside(uint64_t begin, uint64_t size, uint64_t total) {
  return begin <= total && size <= total - begin;
}

Status BadZip(const MappedFile& file, const std::string& what) {
  return BadData("[zip] " + file.path() + ": " + what);
}

struct Directory {
  uint64_t entries = 0;
  uint64_t begin = 0, bytes = 0;
};

Result<Directory> FindZip64Directory(const MappedFile& file, size_t locator) {
  const std::string_view bytes = file.bytes();
  const auto at = Load<uint64_t>(bytes, locator + 8);
  if (!Inside(at, kZip64EndRecordBytes, locator) || Load<uint32_t>(bytes, at) != kZip64EndRecord)
    return BadZip(file, "the zip64 end record is not where its locator says");
  if (Load<uint32_t>(bytes, at + 16) != 0 || Load<uint32_t>(bytes, at + 20) != 0)
    return BadZip(file, "archives of several disks are not supported");
  const Directory directory{Load<uint64_t>(bytes, at + 32), Load<uint64_t>(bytes, at + 48),
                            Load<uint64_t>(bytes, at + 40)};
  if (!Inside(directory.begin, directory.bytes, at))
    return BadZip(file, "the central directory is outside the file");
  return directory;
}

Result<Directory> FindDirectory(const MappedFile& file) {
  const std::string_view bytes = file.bytes();
  if (bytes.size() < kEndRecordBytes) return BadZip(file, "too short for a zip archive");
  const size_t last = bytes.size() - kEndRecordBytes;
  const size_t first = last - std::min(last, kCommentBytesMax);
  size_t at = last + 1;
  do {  // the comment after the record must end where the file ends
    if (at == first) return BadZip(file, "no end of central directory (cut short?)");
    --at;
  } while (Load<uint32_t>(bytes, at) != kEndRecord || Load<uint16_t>(bytes, at + 20) != last - at);
  if (at >= kZip64LocatorBytes && Load<uint32_t>(bytes, at - kZip64LocatorBytes) == kZip64Locator)
    return FindZip64Directory(file, at - kZip64LocatorBytes);
  if (Load<uint16_t>(bytes, at + 4) != 0 || Load<uint16_t>(bytes, at + 6) != 0)
    return BadZip(file, "archives of several disks are not supported");
  const Directory directory{Load<uint16_t>(bytes, at + 10), Load<uint32_t>(bytes, at + 16),
                            Load<uint32_t>(bytes, at + 12)};
  if (directory.entries == kInZip64Short || directory.begin == kInZip64 ||
      directory.bytes == kInZip64)
    return BadZip(file, "a zip64 end record is missing");
  if (!Inside(directory.begin, directory.bytes, at))
    return BadZip(file, "the central directory is outside the file");
  return directory;
}

struct CentralEntry {
  std::string_view name;
  uint64_t stored_bytes = 0;  // in the archive
  uint64_t bytes = 0;         // once unpacked
  uint64_t local_header = 0;  // offset
};

/// Replaces the fields that say "in zip64" by those of the zip64 extra field, in its fixed order.
bool ApplyZip64Extra(std::string_view extra, CentralEntry& entry) {
  uint64_t* const fields[] = {&entry.bytes, &entry.stored_bytes, &entry.local_header};
  if (std::none_of(std::begin(fields), std::end(fields),
                   [](const uint64_t* field) { return *field == kInZip64; }))
    return true;
  while (extra.size() >= 4) {
    const auto id = Load<uint16_t>(extra, 0);
    const size_t size = Load<uint16_t>(extra, 2);
    if (size > extra.size() - 4) return false;
    if (id != kZip64Extra) {
      extra.remove_prefix(4 + size);
      continue;
    }
    std::string_view values = extra.substr(4, size);
    for (uint64_t* field : fields) {
      if (*field != kInZip64) continue;
      if (values.size() < sizeof(uint64_t)) return false;
      *field = Load<uint64_t>(values, 0);
      values.remove_prefix(sizeof(uint64_t));
    }
    return true;
  }
  return false;
}

/// The entry at the front of `rest`, which is then moved past it.
Result<CentralEntry> NextEntry(const MappedFile& file, std::string_view& rest) {
  if (rest.size() < kCentralHeaderBytes || Load<uint32_t>(rest, 0) != kCentralHeader)
    return BadZip(file, "broken central directory");
  const size_t name_bytes = Load<uint16_t>(rest, 28);
  const size_t extra_bytes = Load<uint16_t>(rest, 30);
  const size_t comment_bytes = Load<uint16_t>(rest, 32);
  if (!Inside(kCentralHeaderBytes, name_bytes + extra_bytes + comment_bytes, rest.size()))
    return BadZip(file, "broken central directory");
  CentralEntry entry{rest.substr(kCentralHeaderBytes, name_bytes), Load<uint32_t>(rest, 20),
                     Load<uint32_t>(rest, 24), Load<uint32_t>(rest, 42)};
  const std::string where = "entry " + Printable(entry.name) + ": ";
  const auto method = Load<uint16_t>(rest, 10);
  if (Load<uint16_t>(rest, 8) & kEncryptedFlag) return BadZip(file, where + "is encrypted");
  if (method != 0)
    return BadZip(file, where + "is compressed (method " + std::to_string(method) +
                            "), need stored entries as torch.save writes them");
  if (!ApplyZip64Extra(rest.substr(kCentralHeaderBytes + name_bytes, extra_bytes), entry))
    return BadZip(file, where + "broken zip64 field");
  if (entry.stored_bytes != entry.bytes) return BadZip(file, where + "its two sizes differ");
  rest.remove_prefix(kCentralHeaderBytes + name_bytes + extra_bytes + comment_bytes);
  return entry;
}

/// The bytes of an entry: they come after its local header, all before the central directory.
Result<std::string_view> LocateData(const MappedFile& file, const CentralEntry& entry,
                                    uint64_t directory) {
  const std::string_view bytes = file.bytes();
  const std::string where = "entry " + Printable(entry.name) + ": ";
  if (!Inside(entry.local_header, kLocalHeaderBytes, directory) ||
      Load<uint32_t>(bytes, entry.local_header) != kLocalHeader)
    return BadZip(file, where + "no local header where the directory says");
  const size_t name_bytes = Load<uint16_t>(bytes, entry.local_header + 26);
  const size_t extra_bytes = Load<uint16_t>(bytes, entry.local_header + 28);
  const uint64_t name_at = entry.local_header + kLocalHeaderBytes;
  if (bytes.substr(name_at, name_bytes) != entry.name)
    return BadZip(file, where + "its local header has another name");
  const uint64_t data = name_at + name_bytes + extra_bytes;
  if (!Inside(data, entry.bytes, directory))
    return BadZip(file, where + "its " + std::to_string(entry.bytes) + " bytes leave the file");
  return bytes.substr(data, entry.bytes);
}

}  // namespace

Result<ZipEntries> ReadZip(const MappedFile& file) {
  MRT_ASSIGN_OR_RETURN(const Directory directory, FindDirectory(file));
  if (directory.entries > directory.bytes / kCentralHeaderBytes)
    return BadZip(file, "got a directory of " + std::to_string(directory.bytes) + " bytes for " +
                            std::to_string(directory.entries) + " entries");
  ZipEntries entries;
  std::vector<std::string_view> ranges;
  std::string_view rest = file.bytes().substr(directory.begin, directory.bytes);
  for (uint64_t n = 0; n < directory.entries; ++n) {
    MRT_ASSIGN_OR_RETURN(const CentralEntry entry, NextEntry(file, rest));
    MRT_ASSIGN_OR_RETURN(const std::string_view data, LocateData(file, entry, directory.begin));
    if (!entries.emplace(entry.name, data).second)
      return BadZip(file, "duplicate entry " + Printable(entry.name));
    ranges.push_back(data);
  }
  std::sort(ranges.begin(), ranges.end(),
            [](std::string_view a, std::string_view b) { return a.data() < b.data(); });
  for (size_t i = 1; i < ranges.size(); ++i)
    if (ranges[i - 1].data() + ranges[i - 1].size() > ranges[i].data())
      return BadZip(file, "entries overlap");
  return entries;
}

}  // namespace mrt
