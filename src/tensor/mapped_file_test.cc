// Files that change while they are mapped.
#include "tensor/mapped_file.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "tensor/checkpoint.h"
#include "testing/expect_failure.h"
#include "testing/safetensors_writer.h"
#include "testing/temp_folder.h"

namespace mrt {
namespace {

using testing::ExpectFailure;

const size_t kPage = static_cast<size_t>(sysconf(_SC_PAGESIZE));

int64_t CountOnes(std::string_view bytes) { return std::count(bytes.begin(), bytes.end(), '\1'); }

class MappedFileTest : public ::testing::Test {
 protected:
  std::string Ones(const std::string& name, size_t bytes) const {
    return folder_.Write(name, std::string(bytes, '\1'));
  }
  static std::shared_ptr<const MappedFile> Open(const std::string& path) {
    auto file = MappedFile::Open(path);
    EXPECT_TRUE(file.ok()) << file.status().message();
    return *file;
  }

  const testing::TempFolder folder_;
};

TEST_F(MappedFileTest, GivesZerosWhereTheFileWasCut) {
  const std::string path = Ones("cut", 8 * kPage), other_path = Ones("other", 8 * kPage);
  const auto file = Open(path), other = Open(other_path);
  EXPECT_TRUE(file->CheckUnchanged().ok());
  const size_t left = 3 * kPage + 100;
  std::filesystem::resize_file(path, left);
  EXPECT_EQ(CountOnes(file->bytes()), static_cast<int64_t>(left));
  ExpectFailure(file->CheckUnchanged(), StatusCode::kBadData, "cut became shorter while it was");
  EXPECT_EQ(CountOnes(other->bytes()), static_cast<int64_t>(8 * kPage));
  EXPECT_TRUE(other->CheckUnchanged().ok());
}

TEST_F(MappedFileTest, GivesZerosToSeveralThreadsAtOnce) {
  constexpr int kFiles = 4, kThreads = 4;
  constexpr size_t kPages = 256;
  std::vector<std::shared_ptr<const MappedFile>> files;
  for (int i = 0; i < kFiles; ++i) {
    const std::string path = Ones("cut" + std::to_string(i), kPages * kPage);
    files.push_back(Open(path));
    std::filesystem::resize_file(path, static_cast<size_t>(i) * kPage);
  }
  std::atomic<int64_t> ones = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t)
    threads.emplace_back([&, t] {
      // Backwards, so that every page is a fault of its own; guards come and go meanwhile.
      for (size_t page = kPages; page-- > 0;) {
        for (const auto& file : files) ones += CountOnes(file->bytes().substr(page * kPage, kPage));
        if (page % 16 == 0) Open(Ones("small" + std::to_string(t), 10));
      }
    });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(ones, kThreads * (0 + 1 + 2 + 3) * static_cast<int64_t>(kPage));
  for (const auto& file : files)
    ExpectFailure(file->CheckUnchanged(), StatusCode::kBadData, "became shorter");
}

TEST_F(MappedFileTest, RemembersACutThatWasUndone) {
  const std::string path = Ones("cut", 2 * kPage);
  const auto file = Open(path);
  const auto written = std::filesystem::last_write_time(path);
  std::filesystem::resize_file(path, kPage);
  EXPECT_EQ(CountOnes(file->bytes()), static_cast<int64_t>(kPage));
  std::ofstream(path, std::ios::app) << std::string(kPage, '\1');
  std::filesystem::last_write_time(path, written);
  ExpectFailure(file->CheckUnchanged(), StatusCode::kBadData, "could not be read");
}

TEST_F(MappedFileTest, TellsWhenTheFileWasWrittenTo) {
  const std::string path = Ones("f", kPage);
  const auto file = Open(path);
  std::this_thread::sleep_for(std::chrono::milliseconds(20));  // the clock of files is coarse
  std::fstream(path, std::ios::in | std::ios::out) << "new";
  ExpectFailure(file->CheckUnchanged(), StatusCode::kBadData, "written to");
}

TEST_F(MappedFileTest, KeepsItsFileWhenAnotherTakesTheName) {
  const std::string path = Ones("f", kPage);
  const auto file = Open(path);
  std::filesystem::rename(folder_.Write("g", "short"), path);
  EXPECT_EQ(CountOnes(file->bytes()), static_cast<int64_t>(kPage));
  EXPECT_TRUE(file->CheckUnchanged().ok());
  std::filesystem::remove(path);
  EXPECT_TRUE(file->CheckUnchanged().ok());
}

TEST_F(MappedFileTest, ACheckpointTellsToo) {
  const testing::SafetensorsEntry entry{
      "w", DType::kU8, {static_cast<int64_t>(4 * kPage)}, std::string(4 * kPage, '\1')};
  const std::string path = folder_.Write("w.safetensors", testing::SafetensorsFile({entry}));
  auto checkpoint = Checkpoint::Open(path);
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status().message();
  EXPECT_TRUE(checkpoint->CheckUnchanged().ok());
  std::filesystem::resize_file(path, kPage);
  const ConstTensorView w = checkpoint->Find("w");
  EXPECT_LT(CountOnes({static_cast<const char*>(w.data), 4 * kPage}), static_cast<int64_t>(kPage));
  ExpectFailure(checkpoint->CheckUnchanged(), StatusCode::kBadData, "w.safetensors became shorter");
}

// The rest needs a process in which no handler is installed yet: each runs in a new one.

/// A read past the end of a file of which the guard knows nothing.
void FaultElsewhere(const std::string& path) {
  FILE* file = fopen(path.c_str(), "r");
  const void* bytes = mmap(nullptr, kPage, PROT_READ, MAP_PRIVATE, fileno(file), 0);
  std::filesystem::resize_file(path, 0);
  static_cast<void>(*static_cast<const volatile char*>(bytes));
}

using MappedFileDeathTest = MappedFileTest;

TEST_F(MappedFileDeathTest, OtherFaultsStillKill) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_DEATH(
      {
        const auto guarded = Open(Ones("guarded", kPage));
        FaultElsewhere(Ones("other", kPage));
      },
      "");
  EXPECT_DEATH(
      {
        const auto guarded = Open(Ones("guarded", kPage));
        raise(SIGBUS);
      },
      "");
}

TEST_F(MappedFileDeathTest, OtherFaultsGoToTheEarlierHandler) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  constexpr int kExit = 42;
  EXPECT_EXIT(
      {
        struct sigaction action = {};
        action.sa_flags = SA_SIGINFO;
        action.sa_sigaction = [](int, siginfo_t* info, void*) {
          _exit(info->si_addr != nullptr ? kExit : 1);
        };
        sigaction(SIGBUS, &action, nullptr);
        const std::string path = Ones("guarded", kPage);
        const auto guarded = Open(path);
        std::filesystem::resize_file(path, 0);
        if (CountOnes(guarded->bytes()) != 0) _exit(2);
        FaultElsewhere(Ones("other", kPage));
      },
      ::testing::ExitedWithCode(kExit), "");
  EXPECT_EXIT(
      {
        signal(SIGBUS, [](int) { _exit(kExit); });
        const auto guarded = Open(Ones("guarded", kPage));
        raise(SIGBUS);
      },
      ::testing::ExitedWithCode(kExit), "");
}

}  // namespace
}  // namespace mrt
