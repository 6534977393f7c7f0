#include "base/control_group.h"

#include <gtest/gtest.h>

#include "testing/temp_folder.h"

namespace mrt {
namespace {

constexpr int64_t kNone = ControlGroupLimits::kNone;

class ControlGroups : public ::testing::Test {
 protected:
  void Write(const std::string& name, const std::string& text) { folder_.Write(name, text); }
  ControlGroupLimits Read(const std::string& membership) {
    return ReadControlGroups(membership, folder_.path());
  }

  testing::TempFolder folder_;
};

TEST_F(ControlGroups, NothingIsNoLimit) {
  for (const char* membership : {"", "0::/\n", "nonsense", "4:memory:/a/b\n0::/x/y\n", ":::\n"}) {
    const ControlGroupLimits limits = Read(membership);
    EXPECT_EQ(limits.memory_left_bytes, kNone) << membership;
    EXPECT_EQ(limits.cpus, kNone) << membership;
  }
}

TEST_F(ControlGroups, TheNarrowestOfVersion2Counts) {
  Write("a/memory.max", "8000\n");
  Write("a/memory.current", "3000\n");
  Write("a/memory.stat", "anon 2000\nactive_file 400\ninactive_file 600\n");
  Write("a/cpu.max", "150000 100000\n");
  Write("a/b/memory.max", "max\n");
  Write("a/b/memory.current", "3000\n");
  Write("a/b/cpu.max", "max 100000\n");
  for (const char* membership : {"0::/a/b\n", "0::/a\n", "0::/a/b/c\n"}) {
    const ControlGroupLimits limits = Read(membership);
    EXPECT_EQ(limits.memory_left_bytes, 6000) << membership;
    EXPECT_EQ(limits.cpus, 2) << membership;
  }
  EXPECT_EQ(Read("0::/\n").cpus, kNone);
  Write("a/b/memory.max", "2000\n");  // it is above its limit already
  EXPECT_EQ(Read("0::/a/b\n").memory_left_bytes, 0);
}

TEST_F(ControlGroups, Version1HasAFolderForEachController) {
  Write("memory/job/memory.limit_in_bytes", "5000\n");
  Write("memory/job/memory.usage_in_bytes", "1000\n");
  Write("memory/job/memory.stat", "cache 9\ntotal_active_file 1\ntotal_inactive_file 2\n");
  Write("memory/memory.limit_in_bytes", "9223372036854771712\n");
  Write("memory/memory.usage_in_bytes", "7000\n");
  Write("cpu,cpuacct/cpu.cfs_quota_us", "-1\n");
  Write("cpu,cpuacct/cpu.cfs_period_us", "100000\n");
  const ControlGroupLimits limits = Read("4:memory:/job/step\n2:cpu,cpuacct:/\n1:name=x:/job\n");
  EXPECT_EQ(limits.memory_left_bytes, 4003);
  EXPECT_EQ(limits.cpus, kNone);
}

TEST(ControlGroupsOfThisProcess, CanBeRead) {
  EXPECT_GE(ReadControlGroups().cpus, 1);
  EXPECT_GT(ReadControlGroups().memory_left_bytes, 0);
}

}  // namespace
}  // namespace mrt
