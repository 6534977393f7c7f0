#include "base/control_group.h"

#include <algorithm>
#include <fstream>
#include <initializer_list>
#include <iterator>
#include <sstream>
#include <string_view>

namespace mrt {
namespace {

constexpr int64_t kNone = ControlGroupLimits::kNone;

// A number, or a word such as "max".
int64_t ReadNumber(const std::string& path) {
  std::ifstream file(path);
  int64_t number = 0;
  return file >> number ? number : kNone;
}

int64_t SumOfEntries(const std::string& path, std::initializer_list<std::string_view> names) {
  std::ifstream file(path);
  std::string name;
  int64_t value = 0, sum = 0;
  while (file >> name >> value)
    if (std::ranges::count(names, name) > 0) sum += value;
  return sum;
}

int64_t Left(int64_t limit, int64_t used, int64_t reclaimable) {
  if (limit == kNone || used == kNone) return kNone;
  return std::max<int64_t>(0, limit - used + reclaimable);
}

int64_t Cpus(int64_t quota, int64_t period) {
  if (quota == kNone || quota <= 0 || period == kNone || period <= 0) return kNone;
  return (quota + period - 1) / period;
}

ControlGroupLimits ReadVersion2(const std::string& group) {
  ControlGroupLimits limits;
  limits.memory_left_bytes =
      Left(ReadNumber(group + "/memory.max"), ReadNumber(group + "/memory.current"),
           SumOfEntries(group + "/memory.stat", {"active_file", "inactive_file"}));
  std::ifstream cpu(group + "/cpu.max");
  int64_t quota = 0, period = 0;
  if (cpu >> quota >> period) limits.cpus = Cpus(quota, period);
  return limits;
}

ControlGroupLimits ReadVersion1(const std::string& group) {
  ControlGroupLimits limits;
  limits.memory_left_bytes = Left(
      ReadNumber(group + "/memory.limit_in_bytes"), ReadNumber(group + "/memory.usage_in_bytes"),
      SumOfEntries(group + "/memory.stat", {"total_active_file", "total_inactive_file"}));
  limits.cpus =
      Cpus(ReadNumber(group + "/cpu.cfs_quota_us"), ReadNumber(group + "/cpu.cfs_period_us"));
  return limits;
}

}  // namespace

ControlGroupLimits ReadControlGroups(const std::string& membership, const std::string& root) {
  ControlGroupLimits least;
  std::istringstream lines(membership);
  for (std::string line; std::getline(lines, line);) {  // "4:memory:/path", of version 2 "0::/path"
    const size_t name = line.find(':') + 1, colon = line.find(':', name);
    if (name == 0 || colon == line.npos) continue;
    const std::string controllers = line.substr(name, colon - name);
    std::string path = line.substr(colon + 1);
    for (;;) {
      while (!path.empty() && path.back() == '/') path.pop_back();
      const ControlGroupLimits own = controllers.empty()
                                         ? ReadVersion2(root + path)
                                         : ReadVersion1(root + "/" + controllers + path);
      least.memory_left_bytes = std::min(least.memory_left_bytes, own.memory_left_bytes);
      least.cpus = std::min(least.cpus, own.cpus);
      if (path.empty()) break;
      path.resize(path.rfind('/') == path.npos ? 0 : path.rfind('/'));
    }
  }
  return least;
}

ControlGroupLimits ReadControlGroups() {
  std::ifstream file("/proc/self/cgroup");
  return ReadControlGroups({std::istreambuf_iterator<char>(file), {}});
}

}  // namespace mrt
