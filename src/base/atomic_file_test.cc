#include "base/atomic_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "testing/temp_folder.h"

namespace mrt {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

std::vector<std::string> Names(const testing::TempFolder& folder) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder.path()))
    names.push_back(entry.path().filename());
  std::sort(names.begin(), names.end());
  return names;
}

std::string Read(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

Status Append(AtomicFile& file, const std::string& text) {
  return file.Append(reinterpret_cast<const uint8_t*>(text.data()),
                     static_cast<int64_t>(text.size()));
}

/// From here on the system answers this thread, and no other, as a file system without O_TMPFILE.
bool ForbidUnnamedFiles() {
  constexpr uint32_t kTmpfileBit = 020000000;  // O_TMPFILE less O_DIRECTORY
  constexpr uint32_t kFlags = offsetof(seccomp_data, args[2]);
  sock_filter filter[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_openat, 0, 3),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, kFlags),
      BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, kTmpfileBit, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EOPNOTSUPP),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const sock_fprog program = {std::size(filter), filter};
  return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

/// Every test runs with both kinds of partial file.
class AtomicFileTest : public ::testing::TestWithParam<bool> {
 protected:
  static bool named() { return GetParam(); }

  /// Calls `body` where O_TMPFILE works or does not work, as the parameter says.
  void Run(const std::function<void()>& body) const {
    bool possible = true;
    std::thread([&] {
      possible = !named() || ForbidUnnamedFiles();
      if (possible) body();
    }).join();
    if (!possible) GTEST_SKIP() << "no seccomp filters on this machine";
  }

  const testing::TempFolder folder_;
  const std::string path_ = folder_.path("f");
};

INSTANTIATE_TEST_SUITE_P(PartialFile, AtomicFileTest, ::testing::Bool(),
                         [](const auto& test) { return test.param ? "Named" : "Unnamed"; });

TEST_P(AtomicFileTest, AppearsOnlyWhenCommitted) {
  Run([&] {
    auto first = AtomicFile::Create(path_);
    auto second = AtomicFile::Create(path_);  // the same name at the same time
    ASSERT_TRUE(first.ok() && second.ok());
    EXPECT_TRUE(Append(*first, "123").ok());
    EXPECT_FALSE(fs::exists(path_));
    EXPECT_EQ(Names(folder_).size(), named() ? 2u : 0u);
    EXPECT_TRUE(first->Commit().ok());
    { const AtomicFile dropped = std::move(*second); }
    EXPECT_THAT(Names(folder_), ElementsAre("f"));
    EXPECT_EQ(Read(path_), "123");
  });
}

TEST_P(AtomicFileTest, ReplacesWhatHasTheName) {
  Run([&] {
    for (const std::string& name : {std::string("f"), std::string(255, 'n')}) {
      const std::string path = folder_.Write(name, "old");
      auto file = AtomicFile::Create(path);
      ASSERT_TRUE(file.ok()) << file.status().message();
      EXPECT_TRUE(Append(*file, "new").ok());
      EXPECT_EQ(Read(path), "old");
      ASSERT_TRUE(file->Commit().ok());
      EXPECT_EQ(Read(path), "new");
    }
    EXPECT_EQ(Names(folder_).size(), 2u);
  });
}

TEST_P(AtomicFileTest, CleansUpWhenTheNameCannotBeTaken) {
  Run([&] {
    {
      auto file = AtomicFile::Create(path_);
      ASSERT_TRUE(file.ok());
      fs::create_directory(path_);
      EXPECT_EQ(file->Commit().code(), StatusCode::kIoError);
    }
    EXPECT_THAT(Names(folder_), ElementsAre("f"));
  });
}

TEST_P(AtomicFileTest, CanBeOpenedByItsPartialPath) {
  Run([&] {
    auto file = AtomicFile::Create(path_);
    ASSERT_TRUE(file.ok());
    std::ofstream(file->partial_path()) << "by path";
    EXPECT_EQ(Read(file->partial_path()), "by path");
    ASSERT_TRUE(file->Commit().ok());
    EXPECT_EQ(Read(path_), "by path");
  });
}

TEST_P(AtomicFileTest, GrowsOnAfterItWasPublished) {
  Run([&] {
    {
      auto file = AtomicFile::Create(path_);
      ASSERT_TRUE(file.ok());
      ASSERT_TRUE(Append(*file, "head").ok());
      ASSERT_TRUE(file->Publish().ok());
      EXPECT_THAT(Names(folder_), ElementsAre("f"));
      EXPECT_EQ(Read(path_), "head");
      ASSERT_TRUE(file->Publish().ok());
      ASSERT_TRUE(Append(*file, " tail").ok());
      EXPECT_EQ(Read(path_), "head tail");
      EXPECT_EQ(Read(file->partial_path()), "head tail");
    }  // not committed, and stays
    EXPECT_EQ(Read(path_), "head tail");
    auto file = AtomicFile::Create(path_);
    ASSERT_TRUE(file.ok() && Append(*file, "other").ok() && file->Publish().ok());
    ASSERT_TRUE(Append(*file, "s").ok() && file->Commit().ok());
    EXPECT_THAT(Names(folder_), ElementsAre("f"));
    EXPECT_EQ(Read(path_), "others");
  });
}

TEST_P(AtomicFileTest, HasThePermissionsOfANewFile) {
  Run([&] {
    for (const auto& [permissions, mode] :
         {std::pair{AtomicFile::kReadWrite, 0640u}, {AtomicFile::kPrivate, 0600u}}) {
      const mode_t before = umask(027);
      auto file = AtomicFile::Create(path_, permissions);
      umask(before);
      struct stat info = {};
      ASSERT_TRUE(file.ok());
      ASSERT_EQ(stat(file->partial_path().c_str(), &info), 0);
      EXPECT_EQ(info.st_mode & 07777, mode);
      ASSERT_TRUE(file->Commit().ok());
      ASSERT_EQ(stat(path_.c_str(), &info), 0);
      EXPECT_EQ(info.st_mode & 07777, mode);
    }
  });
}

// The test above shows that a file without a name was made; so a killed process leaves nothing.
TEST(AtomicFile, LeavesNothingWhenItsProcessIsKilled) {
  const testing::TempFolder folder;
  const pid_t child = fork();
  if (child == 0) {
    auto file = AtomicFile::Create(folder.path("f"));
    if (!file.ok() || !Append(*file, "bytes").ok()) _exit(1);
    kill(getpid(), SIGKILL);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
  EXPECT_THAT(Names(folder), IsEmpty());
}

// A rename would put a file in the place of a device, whose name all programs share.
TEST(AtomicFile, ReplacesNothingButFiles) {
  const testing::TempFolder folder;
  const std::string pipe = folder.path("pipe"), link = folder.path("link");
  ASSERT_EQ(mkfifo(pipe.c_str(), 0600), 0);
  fs::create_symlink("/dev/null", link);
  for (const std::string& path : {pipe, link, std::string("/dev/full"), std::string("/dev/stdout"),
                                  std::string("/dev/fd/1"), folder.path()}) {
    const auto file = AtomicFile::Create(path);
    ASSERT_FALSE(file.ok()) << path;
    EXPECT_EQ(file.status().code(), StatusCode::kInvalidArgument) << path;
    EXPECT_THAT(file.status().message(), ::testing::HasSubstr("need a file name")) << path;
  }
  EXPECT_TRUE(fs::is_fifo(pipe));
  EXPECT_TRUE(fs::is_symlink(link));
}

TEST(AtomicFile, RefusesNamesThatCannotBeMade) {
  const testing::TempFolder folder;
  const auto code = [](const std::string& path) {
    return AtomicFile::Create(path).status().code();
  };
  EXPECT_EQ(code(""), StatusCode::kInvalidArgument);
  EXPECT_EQ(code(std::string("a\0b", 3)), StatusCode::kInvalidArgument);
  EXPECT_EQ(code(folder.path()), StatusCode::kInvalidArgument);
  EXPECT_EQ(code(folder.path("f/")), StatusCode::kInvalidArgument);
  EXPECT_EQ(code(folder.path("none/f")), StatusCode::kNotFound);
  EXPECT_EQ(code(folder.path(std::string(256, 'n'))), StatusCode::kIoError);
  EXPECT_EQ(code("/proc/f"), StatusCode::kIoError);
  EXPECT_THAT(Names(folder), IsEmpty());
}

}  // namespace
}  // namespace mrt
