#include "base/memory_info.h"

#include <sys/resource.h>

#include <algorithm>
#include <fstream>
#include <limits>
#include <string>

namespace mrt {
namespace {

constexpr int64_t kUnknown = std::numeric_limits<int64_t>::max();

int64_t ReadMeminfoBytes(const std::string& key) {
  std::ifstream file("/proc/meminfo");
  std::string name, unit;
  int64_t kib = 0;
  while (file >> name >> kib) {
    std::getline(file, unit);
    if (name == key + ":") return kib * 1024;
  }
  return kUnknown;
}

// A control-group v2 file holds a number or the word "max".
int64_t ReadCgroupBytes(const char* path) {
  std::ifstream file(path);
  int64_t bytes = 0;
  return file >> bytes ? bytes : kUnknown;
}

// Pages of files that the control group would give up if asked: they count as used there.
int64_t ReclaimableCgroupBytes() {
  std::ifstream file("/sys/fs/cgroup/memory.stat");
  std::string name;
  int64_t bytes = 0, sum = 0;
  while (file >> name >> bytes)
    if (name == "active_file" || name == "inactive_file") sum += bytes;
  return sum;
}

}  // namespace

int64_t AvailableMemoryBytes() {
  const int64_t available = ReadMeminfoBytes("MemAvailable");
  const int64_t limit = ReadCgroupBytes("/sys/fs/cgroup/memory.max");
  const int64_t used = ReadCgroupBytes("/sys/fs/cgroup/memory.current");
  if (limit == kUnknown || used == kUnknown) return available;
  return std::min(available, std::max<int64_t>(0, limit - used + ReclaimableCgroupBytes()));
}

int64_t TotalMemoryBytes() { return ReadMeminfoBytes("MemTotal"); }

int64_t PeakResidentBytes() {
  rusage usage = {};
  getrusage(RUSAGE_SELF, &usage);
  return int64_t{usage.ru_maxrss} * 1024;
}

}  // namespace mrt
