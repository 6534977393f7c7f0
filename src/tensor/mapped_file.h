// A file mapped read-only: its bytes cost memory only while they are looked at.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "base/status.h"

namespace mrt {

/// Bytes stay valid while this lives. Nobody may shorten the file meanwhile: the system answers a
/// read past the new end with SIGBUS.
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

  /// Tells the system that the resident pages may leave memory. They come back when read again.
  void DropPages() const;

 private:
  MappedFile(std::string path, std::string_view bytes) : path_(std::move(path)), bytes_(bytes) {}
  std::string path_;
  std::string_view bytes_;
};

}  // namespace mrt
