// What the control groups of this process leave it: a container, or a limit of systemd.
#pragma once

#include <cstdint>
#include <limits>
#include <string>

namespace mrt {

struct ControlGroupLimits {
  static constexpr int64_t kNone = std::numeric_limits<int64_t>::max();

  int64_t memory_left_bytes = kNone;  // limit less use, pages of files that would be given up apart
  int64_t cpus = kNone;               // of the time that may be used, rounded up; at least 1
};

/// The least over the process's groups and those around them, of version 1 and 2. `membership` is
/// the text of /proc/self/cgroup, `root` where the groups are mounted. What cannot be read is no
/// limit: a container sees its own group as the outermost one.
ControlGroupLimits ReadControlGroups(const std::string& membership,
                                     const std::string& root = "/sys/fs/cgroup");

/// Of this process, now.
ControlGroupLimits ReadControlGroups();

}  // namespace mrt
