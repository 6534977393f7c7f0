// An input of libFuzzer as a file in memory, so that the readers run as they do on real files.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "tensor/mapped_file.h"

namespace mrt::testing {

/// One anonymous file, written anew for every input.
class InputFile {
 public:
  InputFile();
  ~InputFile();
  InputFile(const InputFile&) = delete;
  InputFile& operator=(const InputFile&) = delete;

  /// Replaces the content. Nobody may have the old one mapped.
  void Write(std::string_view bytes);

  /// Opens like any regular file, by this process only.
  const std::string& path() const { return path_; }

 private:
  int fd_ = -1;
  std::string path_;
};

/// A mapped file of which the rest of the last page is poisoned: AddressSanitizer reports the first
/// byte that is read past the end.
class GuardedMapping {
 public:
  explicit GuardedMapping(const std::string& path);
  /// Of a mapping that somebody else made; this must be its last owner.
  explicit GuardedMapping(std::shared_ptr<const MappedFile> file);
  ~GuardedMapping();
  GuardedMapping(const GuardedMapping&) = delete;
  GuardedMapping& operator=(const GuardedMapping&) = delete;

  const std::shared_ptr<const MappedFile>& file() const { return file_; }

 private:
  std::shared_ptr<const MappedFile> file_;
};

/// The input as text.
inline std::string_view AsText(const uint8_t* data, size_t size) {
  return {reinterpret_cast<const char*>(data), size};
}

}  // namespace mrt::testing
