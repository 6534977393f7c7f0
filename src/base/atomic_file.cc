#include "base/atomic_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <system_error>
#include <utility>

namespace mrt {
namespace {

namespace fs = std::filesystem;

Status SystemError(const std::string& what, const std::string& path) {
  return IoError("[file] " + what + " '" + path + "': " + std::system_category().message(errno));
}

fs::path ParentOf(const std::string& path) {
  const fs::path parent = fs::path(path).parent_path();
  return parent.empty() ? fs::path(".") : parent;
}

bool IsOpenDescriptor(const fs::path& path) {  // /dev/stdout, /dev/fd/3
  std::error_code ignored;
  const std::string target = fs::read_symlink(path, ignored).string();
  return target.starts_with("/proc/self/fd/") || path.string().starts_with("/dev/fd/");
}

// Makes the rename itself durable. Some file systems cannot; the file is complete all the same.
void SyncDirectory(const fs::path& directory) {
  const int fd = open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return;
  static_cast<void>(fsync(fd));
  close(fd);
}

// A name beside `path` that no other file has, also if two of one process have the same `path`.
std::string PartialName(const std::string& path) {
  constexpr size_t kNameBytesKept = 200;  // a whole name may have 255
  static std::atomic<int> counter = 0;
  const std::string name = fs::path(path).filename().string().substr(0, kNameBytesKept);
  const std::string owner = std::to_string(getpid()) + "-" + std::to_string(counter++);
  return ParentOf(path) / fs::path("." + name + ".partial-" + owner);
}

// A file without a name, and the path under which the system shows it. -1 if this file system has
// no such files, or if /proc, through which the name is given later, is not there.
int OpenUnnamed(const fs::path& directory, mode_t permissions, std::string& path) {
  const int fd = open(directory.c_str(), O_RDWR | O_TMPFILE | O_CLOEXEC, permissions);
  if (fd < 0) return -1;
  path = "/proc/self/fd/" + std::to_string(fd);
  struct stat by_path = {}, by_fd = {};
  if (stat(path.c_str(), &by_path) == 0 && fstat(fd, &by_fd) == 0 &&
      by_path.st_dev == by_fd.st_dev && by_path.st_ino == by_fd.st_ino)
    return fd;
  close(fd);
  return -1;
}

}  // namespace

bool AtomicFile::IsReplaceable(const std::string& path) {
  std::error_code ignored;
  const fs::file_status status = fs::status(path, ignored);
  return (!fs::exists(status) || fs::is_regular_file(status)) && !IsOpenDescriptor(path);
}

Result<AtomicFile> AtomicFile::Create(const std::string& path, Permissions permissions) {
  if (path.empty() || path.find('\0') != std::string::npos)
    return InvalidArgument("[file] got an empty or broken path, need a file name");
  std::error_code ignored;
  if (fs::is_directory(path, ignored) || fs::path(path).filename().empty())
    return InvalidArgument("[file] got the directory '" + path + "', need a file name");
  if (!IsReplaceable(path))
    return InvalidArgument("[file] got '" + path +
                           "', which is not a regular file, need a file name");
  const fs::path parent = ParentOf(path);
  if (!fs::is_directory(parent, ignored))
    return NotFound("[file] the directory '" + parent.string() + "' does not exist, need it for '" +
                    path + "'");
  struct stat info = {};  // of a name that is too long one must not hear only at the end
  if (lstat(path.c_str(), &info) != 0 && errno != ENOENT) return SystemError("cannot write", path);
  std::string partial;
  if (const int fd = OpenUnnamed(parent, permissions, partial); fd >= 0)
    return AtomicFile(fd, path, partial, /*has_partial_name=*/false);
  partial = PartialName(path);
  const int fd = open(partial.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, permissions);
  if (fd < 0) return SystemError("cannot write in the directory of", path);
  return AtomicFile(fd, path, partial, /*has_partial_name=*/true);
}

AtomicFile::AtomicFile(int fd, std::string path, std::string partial_path, bool has_partial_name)
    : fd_(fd),
      path_(std::move(path)),
      partial_path_(std::move(partial_path)),
      has_partial_name_(has_partial_name) {}

AtomicFile::AtomicFile(AtomicFile&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)),
      path_(std::move(other.path_)),
      partial_path_(std::move(other.partial_path_)),
      has_partial_name_(other.has_partial_name_),
      published_(other.published_) {}

AtomicFile& AtomicFile::operator=(AtomicFile&& other) noexcept {
  std::swap(fd_, other.fd_);
  std::swap(path_, other.path_);
  std::swap(partial_path_, other.partial_path_);
  std::swap(has_partial_name_, other.has_partial_name_);
  std::swap(published_, other.published_);
  return *this;
}

AtomicFile::~AtomicFile() {
  if (fd_ < 0) return;
  close(fd_);
  if (has_partial_name_) unlink(partial_path_.c_str());
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

// A link cannot replace a file, but a rename can: so a file without a name gets one of its own
// first, if the final one is taken.
Status AtomicFile::TakeName() {
  if (!has_partial_name_) {
    const auto link_to = [&](const std::string& name) {
      return linkat(AT_FDCWD, partial_path_.c_str(), AT_FDCWD, name.c_str(), AT_SYMLINK_FOLLOW);
    };
    if (link_to(path_) == 0) return {};
    if (errno != EEXIST) return SystemError("cannot name the finished file", path_);
    const std::string name = PartialName(path_);
    if (link_to(name) != 0) return SystemError("cannot write in the directory of", path_);
    partial_path_ = name;
    has_partial_name_ = true;
  }
  if (rename(partial_path_.c_str(), path_.c_str()) != 0)
    return SystemError("cannot rename the finished file to", path_);
  partial_path_ = path_;
  has_partial_name_ = false;
  return {};
}

Status AtomicFile::Publish() {
  if (fsync(fd_) != 0) return SystemError("cannot flush", path_);
  if (published_) return {};
  MRT_RETURN_IF_ERROR(TakeName());
  published_ = true;
  SyncDirectory(ParentOf(path_));
  return {};
}

Status AtomicFile::Commit() {
  MRT_RETURN_IF_ERROR(Publish());
  close(std::exchange(fd_, -1));
  return {};
}

}  // namespace mrt
