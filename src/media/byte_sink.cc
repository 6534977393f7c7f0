#include "media/byte_sink.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <system_error>

namespace mrt::media {
namespace {

namespace fs = std::filesystem;

// A write to a pipe without a reader sends SIGPIPE, which ends a process that did not prepare for
// it. While this lives the signal waits; one that came meanwhile is taken away at the end.
class HoldSigpipe {
 public:
  HoldSigpipe() {
    sigemptyset(&sigpipe_);
    sigaddset(&sigpipe_, SIGPIPE);
    sigset_t pending;
    sigpending(&pending);
    was_pending_ = sigismember(&pending, SIGPIPE) == 1;
    pthread_sigmask(SIG_BLOCK, &sigpipe_, &before_);
  }
  ~HoldSigpipe() {
    constexpr timespec kNoWait = {};
    if (!was_pending_)
      while (sigtimedwait(&sigpipe_, nullptr, &kNoWait) < 0 && errno == EINTR) continue;
    pthread_sigmask(SIG_SETMASK, &before_, nullptr);
  }
  HoldSigpipe(const HoldSigpipe&) = delete;
  HoldSigpipe& operator=(const HoldSigpipe&) = delete;

 private:
  sigset_t sigpipe_, before_;
  bool was_pending_ = false;
};

Status WriteError(int error) {
  if (error == EPIPE) return IoError("[output] got a reader that went away, need one to the end");
  return IoError("[output] cannot write: " + std::system_category().message(error));
}

}  // namespace

Result<ByteSink> ByteSink::ToFile(const std::string& path) {
  std::error_code ignored;
  if (!AtomicFile::IsReplaceable(path) && !fs::is_directory(path, ignored))
    return InvalidArgument("[output] got '" + path +
                           "', which is not a regular file, need a file name or - for stdout");
  ByteSink sink;
  MRT_ASSIGN_OR_RETURN(sink.file_, AtomicFile::Create(path));
  return sink;
}

Result<ByteSink> ByteSink::ToDescriptor(int fd) {
  const int flags = fcntl(fd, F_GETFL);
  if (flags < 0 || (flags & O_ACCMODE) == O_RDONLY)
    return InvalidArgument("[output] got the descriptor " + std::to_string(fd) +
                           ", need one that is open for writing");
  ByteSink sink;
  sink.fd_ = fd;
  return sink;
}

Status ByteSink::Append(const uint8_t* data, int64_t bytes) {
  if (file_) return file_->Append(data, bytes);
  const HoldSigpipe hold;
  while (bytes > 0) {
    const ssize_t written = write(fd_, data, static_cast<size_t>(bytes));
    if (written >= 0) {
      data += written;
      bytes -= written;
    } else if (errno == EAGAIN) {
      pollfd writable = {fd_, POLLOUT, 0};
      constexpr int kForever = -1;
      if (poll(&writable, 1, kForever) < 0 && errno != EINTR) return WriteError(errno);
    } else if (errno != EINTR) {
      return WriteError(errno);
    }
  }
  return {};
}

Status ByteSink::Publish() { return file_ ? file_->Publish() : Status(); }
Status ByteSink::Commit() { return file_ ? file_->Commit() : Status(); }

}  // namespace mrt::media
