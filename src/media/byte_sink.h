// Where the bytes of an output go: a file that appears complete, or a descriptor of the caller.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "base/atomic_file.h"
#include "base/status.h"

namespace mrt::media {

/// Move-only; appends only, so it serves files and pipes alike.
class ByteSink {
 public:
  /// Errors as AtomicFile::Create; InvalidArgument also for what is there and is no regular file
  /// (a named pipe, a device, /dev/stdout): it would be replaced by a file.
  static Result<ByteSink> ToFile(const std::string& path);

  /// `fd` stays the caller's and must outlive the sink. InvalidArgument unless it can be written.
  static Result<ByteSink> ToDescriptor(int fd);

  /// The file's bytes until Commit(), for a writer that must seek. Only after ToFile().
  const std::string& partial_path() const { return file_->partial_path(); }

  /// Everything by one write() where the system takes it whole. Waits for a slow reader, also
  /// behind a non-blocking descriptor. IoError, never SIGPIPE, if the reader of a pipe is gone:
  /// the signal is held back in this thread during the write, so nobody has to ignore it.
  Status Append(const uint8_t* data, int64_t bytes);

  /// A file gets its name now and grows on under it.
  Status Publish();

  /// A file gets its name, durably. A descriptor has had everything already.
  Status Commit();

 private:
  std::optional<AtomicFile> file_;
  int fd_ = -1;  // used when there is no file_
};

}  // namespace mrt::media
