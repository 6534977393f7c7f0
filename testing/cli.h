// Tests only: the binary as a user calls it, in a folder of its own.
#pragma once

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

extern char** environ;

namespace mrt::apps {

namespace fs = std::filesystem;

inline const std::string kGolden = MRT_GOLDEN_DIR;
inline const std::string kTree = kGolden + "/toy_wan";

inline std::string ReadFile(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

struct Outcome {
  int exit_code = -1;  // -1: killed by a signal
  std::string out, err;
};

class Cli : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::path(::testing::TempDir()) /
              ("cli-" + std::to_string(getpid()) + "-" +
               ::testing::UnitTest::GetInstance()->current_test_info()->name());
    fs::create_directories(folder_);
    // Also where the tests themselves run in the background, the binary is to be interrupted.
    signal(SIGINT, SIG_DFL);
    // No test may find what another has left in the user's cache.
    for (const char* name : {"XDG_CACHE_HOME", "HOME"}) setenv(name, "", 1);
  }
  void TearDown() override { fs::remove_all(folder_); }

  std::string In(const std::string& name) const { return (folder_ / name).string(); }

  // Starts the binary; 0 if that fails.
  pid_t Start(std::vector<std::string> arguments) const {
    arguments.insert(arguments.begin(), MRT_BINARY);
    std::vector<char*> argv;
    for (std::string& argument : arguments) argv.push_back(argument.data());
    argv.push_back(nullptr);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    for (const auto& [fd, name] : {std::pair{1, ".out"}, {2, ".err"}})
      posix_spawn_file_actions_addopen(&actions, fd, In(name).c_str(), O_WRONLY | O_CREAT | O_TRUNC,
                                       0600);
    pid_t pid = 0;
    const int error = posix_spawn(&pid, MRT_BINARY, &actions, nullptr, argv.data(), environ);
    posix_spawn_file_actions_destroy(&actions);
    return error == 0 ? pid : 0;
  }

  Outcome Wait(pid_t pid) const {
    Outcome outcome;
    if (pid == 0) return outcome;
    int status = 0;
    waitpid(pid, &status, 0);
    if (WIFEXITED(status)) outcome.exit_code = WEXITSTATUS(status);
    outcome.out = ReadFile(In(".out"));
    outcome.err = ReadFile(In(".err"));
    return outcome;
  }

  Outcome Run(const std::vector<std::string>& arguments) const { return Wait(Start(arguments)); }

  // generate on the miniature model, with other or more flags.
  Outcome Generate(const std::vector<std::string>& more, const std::string& out = "v.mp4") const {
    std::vector<std::string> arguments = {"generate",
                                          "--model",
                                          kTree,
                                          "--checkpoint",
                                          "checkpoints/self_forcing_dmd.pt:generator_ema",
                                          "--prompt",
                                          "A red ball bounces.",
                                          "--out",
                                          In(out)};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return Run(arguments);
  }

  // Nothing but the captured output is in the folder.
  size_t FilesLeft() const {
    return static_cast<size_t>(std::distance(fs::directory_iterator(folder_), {})) - 2;
  }

  // One clear line, the exit code, no file.
  void ExpectRefusal(const Outcome& outcome, int exit_code, const std::string& needle) const {
    EXPECT_EQ(outcome.exit_code, exit_code) << outcome.err;
    EXPECT_THAT(outcome.err, ::testing::AllOf(::testing::StartsWith("monarchrt: "),
                                              ::testing::HasSubstr(needle)));
    EXPECT_EQ(std::count(outcome.err.begin(), outcome.err.end(), '\n'), 1) << outcome.err;
    EXPECT_EQ(outcome.out, "");
    EXPECT_EQ(FilesLeft(), 0u);
  }

  fs::path folder_;
};

}  // namespace mrt::apps
