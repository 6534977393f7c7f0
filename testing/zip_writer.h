// Writes zip archives of stored entries, with the faults a test asks for.
#pragma once

#include <cstdint>
#include <cstring>
#include <optional>
#include <ostream>
#include <sstream>
#include <string>
#include <vector>

namespace mrt::testing {

struct ZipEntry {
  std::string name;
  std::string data;
  int64_t hole_bytes = 0;   // zeros before `data`, skipped by a seek: the stream must be a file
  bool zip64 = false;       // sizes and offset in the extra field, even if they are small
  bool descriptor = false;  // sizes after the data instead of in the local header
  uint16_t method = 0;
  uint16_t flags = 0;
  // What the directory claims, if not the truth.
  std::optional<uint64_t> claimed_stored_bytes = std::nullopt;
  std::optional<uint64_t> claimed_bytes = std::nullopt;
  std::optional<uint64_t> claimed_offset = std::nullopt;
};

class ZipWriter {
 public:
  explicit ZipWriter(std::ostream& out) : out_(out) {}

  void Add(const ZipEntry& entry) {
    constexpr size_t kAlignment = 64;  // of the data, as torch.save has it
    const uint64_t offset = at_;
    const uint64_t bytes = entry.data.size() + static_cast<uint64_t>(entry.hole_bytes);
    const uint16_t flags = entry.flags | (entry.descriptor ? 8 : 0);
    const uint32_t local_bytes = entry.descriptor || entry.zip64 ? 0 : static_cast<uint32_t>(bytes);
    const size_t padding = kAlignment - (at_ + 30 + entry.name.size() + 4) % kAlignment;
    std::string header = Fields<uint32_t>({0x04034b50}) +
                         Fields<uint16_t>({45, flags, entry.method}) +
                         Fields<uint32_t>({0, 0, local_bytes, local_bytes}) +
                         Fields<uint16_t>({static_cast<uint16_t>(entry.name.size()),
                                           static_cast<uint16_t>(padding + 4)}) +
                         entry.name + "FB" + Fields<uint16_t>({static_cast<uint16_t>(padding)}) +
                         std::string(padding, 'Z');
    Put(header);
    if (entry.hole_bytes > 0) {
      at_ += static_cast<uint64_t>(entry.hole_bytes);
      out_.seekp(static_cast<std::streamoff>(at_));
    }
    Put(entry.data);
    if (entry.descriptor) Put(Fields<uint32_t>({0x08074b50, 0}) + Fields<uint64_t>({bytes, bytes}));
    directory_ +=
        CentralHeader(entry, flags, entry.claimed_stored_bytes.value_or(bytes),
                      entry.claimed_bytes.value_or(bytes), entry.claimed_offset.value_or(offset));
    ++entries_;
  }

  /// The central directory and the end records. `zip64`: all values in the 64-bit record.
  void Finish(bool zip64 = false, const std::string& comment = "") {
    const uint64_t begin = at_, bytes = directory_.size();
    Put(directory_);
    if (zip64) {
      const uint64_t record = at_;
      Put(Fields<uint32_t>({0x06064b50}) + Fields<uint64_t>({44}) + Fields<uint16_t>({45, 45}) +
          Fields<uint32_t>({0, 0}) + Fields<uint64_t>({entries_, entries_, bytes, begin}));
      Put(Fields<uint32_t>({0x07064b50, 0}) + Fields<uint64_t>({record}) + Fields<uint32_t>({1}));
    }
    const auto count = static_cast<uint16_t>(zip64 ? 0xffff : entries_);
    Put(Fields<uint32_t>({0x06054b50}) + Fields<uint16_t>({0, 0, count, count}) +
        Fields<uint32_t>({zip64 ? 0xffffffffu : static_cast<uint32_t>(bytes),
                          zip64 ? 0xffffffffu : static_cast<uint32_t>(begin)}) +
        Fields<uint16_t>({static_cast<uint16_t>(comment.size())}) + comment);
  }

 private:
  template <typename T>
  static std::string Fields(std::initializer_list<T> values) {
    std::string bytes;
    for (const T value : values) {
      char raw[sizeof(T)];
      std::memcpy(raw, &value, sizeof(T));
      bytes.append(raw, sizeof(T));
    }
    return bytes;
  }

  static std::string CentralHeader(const ZipEntry& entry, uint16_t flags, uint64_t stored_bytes,
                                   uint64_t bytes, uint64_t offset) {
    const auto field = [&](uint64_t value) {
      return entry.zip64 ? 0xffffffffu : static_cast<uint32_t>(value);
    };
    const std::string extra = entry.zip64 ? Fields<uint16_t>({0x0001, 24}) +
                                                Fields<uint64_t>({bytes, stored_bytes, offset})
                                          : "";
    return Fields<uint32_t>({0x02014b50}) + Fields<uint16_t>({45, 45, flags, entry.method}) +
           Fields<uint32_t>({0, 0, field(stored_bytes), field(bytes)}) +
           Fields<uint16_t>({static_cast<uint16_t>(entry.name.size()),
                             static_cast<uint16_t>(extra.size()), 0, 0, 0}) +
           Fields<uint32_t>({0, field(offset)}) + entry.name + extra;
  }

  void Put(const std::string& bytes) {
    out_.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    at_ += bytes.size();
  }

  std::ostream& out_;
  uint64_t at_ = 0;
  uint64_t entries_ = 0;
  std::string directory_;
};

/// A whole archive in memory.
inline std::string ZipFile(const std::vector<ZipEntry>& entries, bool zip64 = false,
                           const std::string& comment = "") {
  std::ostringstream out;
  ZipWriter writer(out);
  for (const ZipEntry& entry : entries) writer.Add(entry);
  writer.Finish(zip64, comment);
  return out.str();
}

}  // namespace mrt::testing
