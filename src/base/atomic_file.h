// A file that appears under its name complete or not at all.
#pragma once

#include <cstdint>
#include <string>

#include "base/status.h"

namespace mrt {

/// Until Commit() the bytes have no name (O_TMPFILE), so that not even a killed process leaves
/// anything behind. A file system without such files gets a named one beside the final path,
/// ".<name>.partial-<pid>-<n>", which the destructor removes. Move-only.
class AtomicFile {
 public:
  enum Permissions : unsigned {
    kReadWrite = 0666,  // as every new file
    kPrivate = 0600,    // for the owner only, from the first moment on
  };

  /// Whether nothing is there, or a regular file. A rename would also replace a device or a pipe.
  static bool IsReplaceable(const std::string& path);

  /// Refuses with InvalidArgument an empty path and what IsReplaceable refuses, with NotFound a
  /// missing parent directory, with IoError a place where no file can be made. Nothing exists under
  /// `path` before Commit(); what already does is left alone until then. `permissions` are less the
  /// umask.
  static Result<AtomicFile> Create(const std::string& path, Permissions permissions = kReadWrite);

  AtomicFile(AtomicFile&& other) noexcept;
  AtomicFile& operator=(AtomicFile&& other) noexcept;
  ~AtomicFile();

  /// Where this process can open the bytes once more, to read or to write, while this lives.
  const std::string& partial_path() const { return partial_path_; }

  /// Appends. After an error the file is of no use: let it be destroyed.
  Status Append(const uint8_t* data, int64_t bytes);

  /// Gives the file its name now; Append() goes on. For what is of use before it is complete, such
  /// as a fragmented MP4 that is played while it grows. From here on the file stays, Commit() or
  /// not.
  Status Publish();

  /// Flushes to the device and, if Publish() has not, gives the file its name. Call once.
  Status Commit();

 private:
  AtomicFile(int fd, std::string path, std::string partial_path, bool has_partial_name);
  Status TakeName();

  int fd_ = -1;  // -1: committed or moved from
  std::string path_;
  std::string partial_path_;
  bool has_partial_name_ = false;  // partial_path_ is a file of its own, to be renamed or removed
  bool published_ = false;
};

}  // namespace mrt
