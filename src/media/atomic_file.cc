#include "media/atomic_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <atomic>
#include <cctype>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <system_error>
#include <utility>

namespace mrt::media {
namespace {

namespace fs = std::filesystem;

Status SystemError(const std::string& what, const std::string& path) {
  return IoError("[file] " + what + " '" + path + "': " + std::system_category().message(errno));
}

fs::path ParentOf(const std::string& path) {
  const fs::path parent = fs::path(path).parent_path();
  return parent.empty() ? fs::path(".") : parent;
}

// Makes the rename itself durable. Some file systems cannot; the file is complete all the same.
void SyncDirectory(const fs::path& directory) {
  const int fd = open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return;
  static_cast<void>(fsync(fd));
  close(fd);
}

}  // namespace

Status RequireExtension(const std::string& path, const std::string& extension) {
  std::string got = fs::path(path).extension().string();
  for (char& c : got) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  if (got == extension) return {};
  return InvalidArgument("[file] got the name '" + path + "', need one that ends in " + extension);
}

Result<AtomicFile> AtomicFile::Create(const std::string& path) {
  if (path.empty() || path.find('\0') != std::string::npos)
    return InvalidArgument("[file] got an empty or broken path, need a file name");
  std::error_code ignored;
  if (fs::is_directory(path, ignored) || fs::path(path).filename().empty())
    return InvalidArgument("[file] got the directory '" + path + "', need a file name");
  const fs::path parent = ParentOf(path);
  if (!fs::is_directory(parent, ignored))
    return NotFound("[file] the directory '" + parent.string() + "' does not exist, need it for '" +
                    path + "'");
  static std::atomic<int> counter = 0;  // two files of one process may have the same final name
  const std::string name = fs::path(path).filename().string();
  const std::string owner = std::to_string(getpid()) + "-" + std::to_string(counter++);
  const std::string partial = parent / fs::path("." + name + ".partial-" + owner);
  constexpr mode_t kReadWriteLessUmask = 0666;
  const int fd = open(partial.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, kReadWriteLessUmask);
  if (fd < 0) return SystemError("cannot write in the directory of", path);
  return AtomicFile(fd, path, partial);
}

AtomicFile::AtomicFile(int fd, std::string path, std::string partial_path)
    : fd_(fd), path_(std::move(path)), partial_path_(std::move(partial_path)) {}

AtomicFile::AtomicFile(AtomicFile&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)),
      path_(std::move(other.path_)),
      partial_path_(std::move(other.partial_path_)) {}

AtomicFile& AtomicFile::operator=(AtomicFile&& other) noexcept {
  std::swap(fd_, other.fd_);
  std::swap(path_, other.path_);
  std::swap(partial_path_, other.partial_path_);
  return *this;
}

AtomicFile::~AtomicFile() {
  if (fd_ < 0) return;
  close(fd_);
  unlink(partial_path_.c_str());
}

Status AtomicFile::Append(const uint8_t* data, int64_t bytes) {
  while (bytes > 0) {
    const ssize_t written = write(fd_, data, static_cast<size_t>(bytes));
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return SystemError("cannot write", path_);
    data += written;
    bytes -= written;
  }
  return {};
}

Status AtomicFile::Commit() {
  if (fsync(fd_) != 0) return SystemError("cannot flush", path_);
  if (rename(partial_path_.c_str(), path_.c_str()) != 0)
    return SystemError("cannot rename the finished file to", path_);
  close(std::exchange(fd_, -1));
  SyncDirectory(ParentOf(path_));
  return {};
}

}  // namespace mrt::media
