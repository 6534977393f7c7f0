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
  return std::shared_ptr<const MappedFile>(new MappedFile(path, bytes));
}

MappedFile::~MappedFile() {
  if (!bytes_.empty()) munmap(const_cast<char*>(bytes_.data()), bytes_.size());
}

void MappedFile::DropPages() const {
  if (!bytes_.empty()) madvise(const_cast<char*>(bytes_.data()), bytes_.size(), MADV_DONTNEED);
}

}  // namespace mrt
