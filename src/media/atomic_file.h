// A file that appears under its name complete or not at all.
#pragma once

#include <cstdint>
#include <string>

#include "base/status.h"

namespace mrt::media {

/// InvalidArgument unless `path` ends in `extension` (".mp4"), in small or capital letters.
Status RequireExtension(const std::string& path, const std::string& extension);

/// Writes go to ".<name>.partial-<pid>-<n>" beside the final path; Commit() renames it. Without
/// Commit() the destructor removes it. (Only a killed process leaves a partial file behind.)
/// Move-only.
class AtomicFile {
 public:
  /// Refuses with InvalidArgument an empty path and a directory, with NotFound a missing parent
  /// directory, with IoError a place where no file can be made. Nothing exists under `path` before
  /// Commit(); what already does is left alone until then.
  static Result<AtomicFile> Create(const std::string& path);

  AtomicFile(AtomicFile&& other) noexcept;
  AtomicFile& operator=(AtomicFile&& other) noexcept;
  ~AtomicFile();

  /// Where the bytes are until Commit(); others may open it to write.
  const std::string& partial_path() const { return partial_path_; }

  /// Appends. After an error the file is of no use: let it be destroyed.
  Status Append(const uint8_t* data, int64_t bytes);

  /// Flushes to the device and renames. Call once.
  Status Commit();

 private:
  AtomicFile(int fd, std::string path, std::string partial_path);

  int fd_ = -1;  // -1: committed or moved from
  std::string path_;
  std::string partial_path_;
};

}  // namespace mrt::media
