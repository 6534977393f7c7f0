// A file mapped read-only: its bytes cost memory only while they are looked at.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <ctime>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/status.h"
#include "tensor/mapping_guard.h"

namespace mrt {

/// The bytes can be read while this lives. Where somebody shortens the file meanwhile they are
/// zeros (mapping_guard.h), and where somebody writes into it they change: CheckUnchanged() tells.
/// Replacing the file by another of its name changes nothing here.
class MappedFile {
 public:
  /// NotFound if there is no such file, InvalidArgument if it is not a regular file, IoError if the
  /// system refuses.
  static Result<std::shared_ptr<const MappedFile>> Open(const std::string& path);

  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  const std::string& path() const { return path_; }
  /// The whole file. Page aligned; empty for an empty file.
  std::string_view bytes() const { return bytes_; }

  /// When it was last written to, in nanoseconds since 1970, as it was opened.
  int64_t written_ns() const {
    constexpr int64_t kNanosecondsPerSecond = 1'000'000'000;
    return identity_.written.tv_sec * kNanosecondsPerSecond + identity_.written.tv_nsec;
  }

  /// Ok if all bytes read so far were those of the file as it was opened, as far as its size and
  /// its time of writing tell. Else BadData: what was made of the bytes is of no use.
  Status CheckUnchanged() const;

  /// Tells the system that the resident pages may leave memory. They come back when read again.
  void DropPages() const;

 private:
  struct Identity {
    dev_t device = 0;
    ino_t inode = 0;
    off_t bytes = 0;
    std::timespec written = {};
  };
  MappedFile(std::string path, std::string_view bytes, const Identity& identity);

  std::string path_;
  std::string_view bytes_;
  Identity identity_;                  // when it was opened
  std::optional<MappingGuard> guard_;  // none for an empty file
};

}  // namespace mrt
