#include "base/memory_info.h"

#include <sys/resource.h>

#include <algorithm>
#include <fstream>
#include <limits>
#include <string>

#include "base/control_group.h"

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

}  // namespace

int64_t AvailableMemoryBytes() {
  return std::min(ReadMeminfoBytes("MemAvailable"), ReadControlGroups().memory_left_bytes);
}

int64_t TotalMemoryBytes() { return ReadMeminfoBytes("MemTotal"); }

int64_t PeakResidentBytes() {
  rusage usage = {};
  getrusage(RUSAGE_SELF, &usage);
  return int64_t{usage.ru_maxrss} * 1024;
}

}  // namespace mrt
