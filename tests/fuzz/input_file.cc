#include "tests/fuzz/input_file.h"

#include <sanitizer/asan_interface.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/check.h"

namespace mrt::testing {
namespace {

/// The bytes between the end of a file and the end of its last page.
std::string_view Tail(std::string_view bytes) {
  const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  const size_t used = bytes.size() % page;
  return {bytes.data() + bytes.size(), used == 0 ? 0 : page - used};
}

}  // namespace

InputFile::InputFile() : fd_(memfd_create("fuzz input", MFD_CLOEXEC)) {
  MRT_CHECK(fd_ >= 0);
  path_ = "/proc/self/fd/" + std::to_string(fd_);
}

InputFile::~InputFile() { close(fd_); }

void InputFile::Write(std::string_view bytes) {
  MRT_CHECK(ftruncate(fd_, 0) == 0);
  MRT_CHECK(pwrite(fd_, bytes.data(), bytes.size(), 0) == static_cast<ssize_t>(bytes.size()));
}

GuardedMapping::GuardedMapping(const std::string& path)
    : GuardedMapping(MappedFile::Open(path).value()) {}

GuardedMapping::GuardedMapping(std::shared_ptr<const MappedFile> file) : file_(std::move(file)) {
  const std::string_view tail = Tail(file_->bytes());
  ASAN_POISON_MEMORY_REGION(tail.data(), tail.size());
}

GuardedMapping::~GuardedMapping() {
  MRT_CHECK(file_.use_count() == 1);  // else the mapping outlives the end of the poison
  const std::string_view tail = Tail(file_->bytes());
  ASAN_UNPOISON_MEMORY_REGION(tail.data(), tail.size());
}

}  // namespace mrt::testing
