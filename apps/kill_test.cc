// kill -9 at any moment: under the final name there is a complete video or nothing, and no other
// file is left.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "media/decode_for_test.h"

extern char** environ;

namespace {

using mrt::media::testing::Decode;
using mrt::media::testing::TemporaryDirectory;
using ::testing::AnyOf;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr int kRuns = 50;
constexpr size_t kFrames = 21;

// With the name of the video.
class Kill : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    const TemporaryDirectory folder;
    const int fd = open(folder.path().c_str(), O_TMPFILE | O_WRONLY, 0600);
    if (fd < 0) GTEST_SKIP() << "this file system has no files without a name";
    close(fd);
  }

  // Starts the binary on the miniature model; it writes `video`.
  pid_t Start(const std::string& video) const {
    const std::string golden = MRT_GOLDEN_DIR;
    std::vector<std::string> arguments = {
        MRT_BINARY,  "generate", "--model",  golden + "/toy_wan",
        "--size",    "80x48",    "--frames", std::to_string(kFrames),
        "--out",     video,      "--prompt", "A red ball bounces.",
        "--no-cache"};
    std::vector<char*> argv;
    for (std::string& argument : arguments) argv.push_back(argument.data());
    argv.push_back(nullptr);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    for (const int fd : {1, 2})
      posix_spawn_file_actions_addopen(&actions, fd, "/dev/null", O_WRONLY, 0);
    pid_t pid = 0;
    const int error = posix_spawn(&pid, MRT_BINARY, &actions, nullptr, argv.data(), environ);
    posix_spawn_file_actions_destroy(&actions);
    EXPECT_EQ(error, 0);
    return pid;
  }

  // Waits for the end; was it that of SIGKILL?
  static bool WasKilled(pid_t pid) {
    int status = 0;
    EXPECT_EQ(waitpid(pid, &status, 0), pid);
    EXPECT_TRUE(WIFSIGNALED(status) || WEXITSTATUS(status) == 0);
    return WIFSIGNALED(status);
  }
};

TEST_P(Kill, LeavesAWholeVideoOrNothing) {
  using Clock = std::chrono::steady_clock;
  const TemporaryDirectory undisturbed;
  Clock::duration whole_run{};
  for (int run = 0; run < 2; ++run) {  // the second one finds its files in memory
    const auto start = Clock::now();
    ASSERT_FALSE(WasKilled(Start(undisturbed / GetParam())));
    whole_run = Clock::now() - start;
  }
  ASSERT_EQ(Decode(undisturbed / GetParam()).frames.size(), kFrames);

  std::mt19937 random(2602);
  int killed = 0;
  for (int run = 0; run < kRuns; ++run) {
    // Over the whole run, and every third time around its end, where the name appears.
    std::uniform_real_distribution<double> moment(run % 3 == 0 ? 0.8 : 0.0,
                                                  run % 3 == 0 ? 1.2 : 1.0);
    const auto wait = std::chrono::duration_cast<Clock::duration>(whole_run * moment(random));
    SCOPED_TRACE("run " + std::to_string(run) + ", killed after " +
                 std::to_string(std::chrono::duration<double>(wait).count()) + " s");
    const TemporaryDirectory folder;
    const bool replaces = run % 2 == 0;  // a video that is there already
    if (replaces) std::filesystem::copy(undisturbed / GetParam(), folder / GetParam());
    const auto start = Clock::now();
    const pid_t pid = Start(folder / GetParam());
    std::this_thread::sleep_until(start + wait);
    kill(pid, SIGKILL);
    const bool was_killed = WasKilled(pid);
    killed += was_killed ? 1 : 0;
    ASSERT_THAT(folder.Files(), AnyOf(IsEmpty(), ElementsAre(GetParam())));
    ASSERT_TRUE(!folder.Files().empty() || (was_killed && !replaces));
    if (folder.Files().empty()) continue;
    ASSERT_EQ(Decode(folder / GetParam()).frames.size(), kFrames);
  }
  EXPECT_GE(killed, kRuns / 5) << "of " << kRuns << ": the test kills too late to show anything";
}

INSTANTIATE_TEST_SUITE_P(All, Kill, ::testing::Values("v.mp4", "v.webm"),
                         [](const auto& test) { return test.param.substr(2); });

}  // namespace
