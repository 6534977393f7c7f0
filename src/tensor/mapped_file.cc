#include "tensor/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace mrt {
namespace {

struct FileDescriptor {
  explicit FileDescriptor(int opened) : fd(opened) {}
  ~FileDescriptor() {
    if (fd >= 0) close(fd);
  }
  FileDescriptor(const FileDescriptor&) = delete;
  FileDescriptor& operator=(const FileDescriptor&) = delete;
  int fd;
};

Status SystemError(const std::string& path, const char* call) {
  const int error = errno;
  const std::string text = "[file] " + path + ": " + call + ": " + std::strerror(error);
  return error == ENOENT || error == ENOTDIR ? NotFound(text) : IoError(text);
}

}  // namespace

Result<std::shared_ptr<const MappedFile>> MappedFile::Open(const std::string& path) {
  // O_NONBLOCK: opening a pipe must not wait for a writer.
  const FileDescriptor file(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (file.fd < 0) return SystemError(path, "open");
  struct stat info = {};
  if (fstat(file.fd, &info) != 0) return SystemError(path, "fstat");
  if (!S_ISREG(info.st_mode))
    return InvalidArgument("[file] " + path + ": got " +
                           (S_ISDIR(info.st_mode) ? "a directory" : "a special file") +
                           ", need a regular file");
  std::string_view bytes;
  if (info.st_size > 0) {
    const size_t size = static_cast<size_t>(info.st_size);
    void* data = mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file.fd, 0);
    if (data == MAP_FAILED) return SystemError(path, "mmap");
    bytes = {static_cast<const char*>(data), size};
  }
  const Identity identity = {info.st_dev, info.st_ino, info.st_size, info.st_mtim};
  return std::shared_ptr<const MappedFile>(new MappedFile(path, bytes, identity));
}

MappedFile::MappedFile(std::string path, std::string_view bytes, const Identity& identity)
    : path_(std::move(path)), bytes_(bytes), identity_(identity) {
  if (!bytes_.empty()) guard_.emplace(bytes_.data(), bytes_.size());
}

MappedFile::~MappedFile() {
  guard_.reset();
  if (!bytes_.empty()) munmap(const_cast<char*>(bytes_.data()), bytes_.size());
}

Status MappedFile::CheckUnchanged() const {
  struct stat now = {};
  const bool is_there = stat(path_.c_str(), &now) == 0 && now.st_dev == identity_.device &&
                        now.st_ino == identity_.inode;  // else another file has the name
  if (is_there && now.st_size < identity_.bytes)
    return BadData("[file] " + path_ + " became shorter while it was read");
  if (guard_ && guard_->damaged())
    return BadData("[file] " + path_ +
                   ": a part of it could not be read (it became shorter, or the disk failed)");
  if (is_there &&
      (now.st_size != identity_.bytes || now.st_mtim.tv_sec != identity_.written.tv_sec ||
       now.st_mtim.tv_nsec != identity_.written.tv_nsec))
    return BadData("[file] " + path_ + " was written to while it was read");
  return {};
}

void MappedFile::DropPages() const {
  if (!bytes_.empty()) madvise(const_cast<char*>(bytes_.data()), bytes_.size(), MADV_DONTNEED);
}

}  // namespace mrt
