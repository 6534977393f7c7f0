// The binary as somebody calls it who wants to see it fall: always one clear line, exit code 1 or
// 2, and no file.
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <chrono>
#include <cstdlib>
#include <map>
#include <thread>

#include "testing/cli.h"
#include "testing/sanitizer.h"

namespace mrt::apps {
namespace {

using ::testing::HasSubstr;

class HostileCli : public Cli {
 protected:
  Outcome Small(const std::vector<std::string>& more, const std::string& out = "v.mp4") const {
    std::vector<std::string> flags = {"--size", "80x48", "--frames", "9"};
    flags.insert(flags.end(), more.begin(), more.end());
    return Generate(flags, out);
  }

  // Removes everything that a test has put into the folder but what the binary printed.
  void Clear() const {
    for (const auto& entry : fs::directory_iterator(folder_))
      if (entry.path().filename() != ".out" && entry.path().filename() != ".err")
        fs::remove_all(entry.path());
  }

  // The miniature model with parts of it replaced; the others are links.
  std::string Model(const std::map<std::string, std::string>& replaced) const {
    const fs::path golden = fs::path(kTree) / "wan_models/Wan2.1-T2V-1.3B", copy = In("model");
    for (const auto& entry : fs::recursive_directory_iterator(golden)) {
      const fs::path name = fs::relative(entry.path(), golden);
      if (entry.is_directory()) continue;
      fs::create_directories((copy / name).parent_path());
      const auto found = replaced.find(name.string());
      if (found == replaced.end())
        fs::create_symlink(entry.path(), copy / name);
      else
        std::ofstream(copy / name, std::ios::binary) << found->second;
    }
    return copy.string();
  }

  Outcome GenerateWith(const std::string& model) const {
    return Run({"generate", "--model", model, "--checkpoint",
                kTree + "/checkpoints/self_forcing_dmd.pt", "--prompt", "a", "--size", "80x48",
                "--frames", "9", "--out", In("v.mp4")});
  }

  void ExpectLine(const Outcome& outcome, int exit_code, const std::string& needle) const {
    EXPECT_EQ(outcome.exit_code, exit_code) << outcome.err;
    EXPECT_THAT(outcome.err, HasSubstr("monarchrt: "));
    EXPECT_THAT(outcome.err, HasSubstr(needle));
    EXPECT_FALSE(fs::exists(In("v.mp4")));
  }
};

// A limit of this process that the binary inherits.
class Limit {
 public:
  Limit(int resource, rlim_t value) : resource_(resource) {
    getrlimit(static_cast<__rlimit_resource>(resource_), &before_);
    const rlimit limit = {value, before_.rlim_max};
    EXPECT_EQ(setrlimit(static_cast<__rlimit_resource>(resource_), &limit), 0);
  }
  ~Limit() { setrlimit(static_cast<__rlimit_resource>(resource_), &before_); }
  Limit(const Limit&) = delete;
  Limit& operator=(const Limit&) = delete;

 private:
  int resource_;
  rlimit before_ = {};
};

TEST_F(HostileCli, RefusesNumbersThatAreNone) {
  const std::vector<std::pair<std::string, std::string>> flags = {
      {"--seed", "-1"},
      {"--seed", "18446744073709551616"},
      {"--seed", ""},
      {"--frames", ""},
      {"--frames", "0x10"},
      {"--frames", "1e3"},
      {"--frames", "9 "},
      {"--frames", "99999999999999999999"},
      {"--seconds", ""},
      {"--seconds", "1e999"},
      {"--seconds", "inf"},
      {"--seconds", "-nan"},
      {"--threads", "2147483648"},
      {"--threads", "99999"},
      {"--fps", "0"},
      {"--fps", "\xd9\xa3"},  // an Arabic digit
      {"--steps", "nan"},
      {"--steps", "1000,-1"},
      {"--steps", "1001"},
      {"--steps", "1000,,5"},
      {"--steps", "1000,"},
      {"--steps", ","},
      {"--steps", ""},
      {"--steps", "[1000]"},
      {"--tiles", "1,,1,1"},
      {"--tiles", "1,1,1,1"},
      {"--tiles", "0,1,1"},
      {"--tiles", "2147483647,1,1"},
      {"--iterations", "1000000"},
      {"--window", "-2"},
      {"--sink", "-1"},
      {"--quality", "nan"},
      {"--size", "0x0"},
      {"--size", "-16x16"},
      {"--size", "2147483632x16"},
      {"--prompt-at", "nan:a"},
      {"--prompt-at", "1e999:a"},
  };
  for (const auto& [flag, value] : flags) {
    SCOPED_TRACE(flag + " '" + value + "'");
    ExpectRefusal(Generate({flag, value}), 2, "");
  }
}

TEST_F(HostileCli, ReadsNumbersAsDecimal) {
  const Outcome outcome = Generate({"--size", "80x48", "--frames", "010"}, "v.rgb");
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_EQ(fs::file_size(In("v.rgb")), 10u * 80 * 48 * 3);
}

TEST_F(HostileCli, TakesAnyPromptUpToAMebibyte) {
  const auto prompt = [&](const std::string& text) {
    std::ofstream(In("p.txt"), std::ios::binary) << text << "\n";
    return Run({"generate", "--model", kTree, "--checkpoint", "checkpoints/self_forcing_dmd.pt",
                "--prompts", In("p.txt"), "--out-dir", In("clips"), "--size", "80x48", "--frames",
                "1"});
  };
  for (const std::string& text :
       {std::string(1 << 20, 'a'), std::string(1 << 20, '&'), std::string(1 << 20, '\xff'),
        std::string("\xff\xfe \xc3 \xed\xa0\x80 \xf4\x90\x80\x80"), std::string("\0a\0", 3)}) {
    SCOPED_TRACE(text.substr(0, 8) + " ...");
    const Outcome outcome = prompt(text);
    EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
    fs::remove_all(In("clips"));
  }
  const Outcome too_long = prompt(std::string((1 << 20) + 1, 'a'));
  EXPECT_EQ(too_long.exit_code, 2);
  EXPECT_THAT(too_long.err, HasSubstr("[prompt] got 1048577 bytes"));
  EXPECT_FALSE(fs::exists(In("clips")));
  EXPECT_EQ(Small({"--prompt-at", "0:"}, "v.rgb").exit_code, 0);  // an empty prompt
}

TEST_F(HostileCli, RefusesCheckpointsThatAreNoFiles) {
  ASSERT_EQ(mkfifo(In("fifo").c_str(), 0600), 0);
  fs::create_directory(In("folder"));
  fs::create_symlink("nowhere", In("dangling"));
  fs::create_symlink("circle", In("circle"));
  std::ofstream(In("empty"));
  std::ofstream(In("text")) << "no tensors\n";
  for (const std::string& path :
       {In("fifo"), In("folder"), In("dangling"), In("circle"), In("empty"), In("text"),
        In("text/below"), std::string("/dev/zero"), std::string("/proc/self/mem"),
        std::string("/proc/self/status"), std::string(":"), std::string(5000, 'a')}) {
    SCOPED_TRACE(path.substr(0, 80));
    for (const Outcome& outcome : {Run({"generate", "--model", kTree, "--checkpoint", path,
                                        "--prompt", "a", "--out", In("v.mp4")}),
                                   Run({"inspect", path}), Run({"verify", path})}) {
      EXPECT_TRUE(outcome.exit_code == 1 || outcome.exit_code == 2) << outcome.exit_code;
      EXPECT_THAT(outcome.err, ::testing::StartsWith("monarchrt: "));
      EXPECT_EQ(std::count(outcome.err.begin(), outcome.err.end(), '\n'), 1) << outcome.err;
    }
  }
}

TEST_F(HostileCli, RefusesModelsWhosePartsDoNotFit) {
  const std::string tokenizer = "google/umt5-xxl/spiece.model", vae = "Wan2.1_VAE.pth",
                    text = "models_t5_umt5-xxl-enc-bf16.pth";
  const std::string deep = std::string(100000, '['), config = "config.json";
  const std::string wan = ReadFile(kTree + "/checkpoints/self_forcing_dmd.pt");
  const struct {
    std::string part, content, needle;
  } cases[] = {
      {config, "", "not a JSON object"},
      {config, deep, "not a JSON object"},
      {config, R"({"num_heads": 1e999})", "not a JSON object"},
      {config, R"({"num_heads": 1e9, "text_len": 512})", "num_heads"},
      {config, R"({"num_heads": 18446744073709551615, "text_len": 512})", "num_heads"},
      {config, R"({"num_heads": 3, "text_len": 2000000000})", "text_len"},
      {config, R"({"num_heads": 3, "text_len": 0})", "text_len"},
      {tokenizer, "", "spiece.model"},
      {tokenizer, "no protobuf", "spiece.model"},
      {tokenizer, deep, "spiece.model"},
      {vae, "", "Wan2.1_VAE.pth"},
      {vae, wan, "Wan2.1_VAE.pth"},  // tensors of another model
      {vae, wan.substr(0, wan.size() / 2), "Wan2.1_VAE.pth"},
      {text, wan, "models_t5"},
  };
  for (const auto& c : cases) {
    SCOPED_TRACE(c.part + " " + c.content.substr(0, 40));
    const Outcome outcome = GenerateWith(Model({{c.part, c.content}}));
    ExpectLine(outcome, outcome.exit_code == 2 ? 2 : 1, c.needle);
    EXPECT_EQ(std::count(outcome.err.begin(), outcome.err.end(), '\n'), 1) << outcome.err;
    Clear();
  }
  fs::create_directory(In("model"));
  fs::create_symlink(kTree + "/wan_models/Wan2.1-T2V-1.3B/config.json", In("model/config.json"));
  ExpectLine(GenerateWith(In("model")), 1, "Wan2.1_VAE.pth is not in");
}

TEST_F(HostileCli, AFullDiskIsOneLineAndNoFile) {
  ASSERT_EQ(Small({"--contact-sheet", In("c.png"), "--stats", In("s.json")}).exit_code, 0);
  const auto stats = static_cast<rlim_t>(fs::file_size(In("s.json")));
  const auto sheet = static_cast<rlim_t>(fs::file_size(In("c.png")));
  ASSERT_LT(stats, sheet);
  Clear();
  const auto small = [&](rlim_t bytes, const std::vector<std::string>& more,
                         const std::string& out) {
    const Limit size(RLIMIT_FSIZE, bytes);
    const Outcome outcome = Small(more, out);
    EXPECT_EQ(outcome.exit_code, 1) << outcome.err;
    EXPECT_THAT(outcome.err, HasSubstr("monarchrt: "));
    EXPECT_THAT(outcome.err, HasSubstr("File too large"));
  };
  // LLVM's OpenMP runtime itself writes 1024 bytes to shared memory as it starts.
  constexpr rlim_t kFull = 1024;
  for (const char* out : {"v.mp4", "v.webm", "v.gif", "v.y4m", "v.rgb", "f%d.png"}) {
    SCOPED_TRACE(out);
    small(kFull, {}, out);
    EXPECT_EQ(FilesLeft(), 0u);
    small(kFull, {"--encode-overlap", "on"}, out);
    EXPECT_EQ(FilesLeft(), 0u);
  }
  small(kFull, {"--contact-sheet", In("c.png"), "--stats", In("s.json")}, "v.mp4");
  EXPECT_EQ(FilesLeft(), 0u);
}

// What goes to standard output must arrive, too.
TEST_F(HostileCli, LostOutputIsAFailure) {
  fs::create_symlink("/dev/full", In(".out"));
  for (const std::vector<std::string>& arguments :
       std::vector<std::vector<std::string>>{{"doctor"},
                                             {"--help"},
                                             {"--version"},
                                             {"inspect", kTree},
                                             {"verify", kGolden + "/attention", "--json"}}) {
    SCOPED_TRACE(arguments[0]);
    const pid_t pid = Start(arguments);
    int status = 0;
    ASSERT_EQ(waitpid(pid, &status, 0), pid);
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 1);
    const std::string err = ReadFile(In(".err"));
    EXPECT_THAT(err, ::testing::StartsWith("monarchrt: [output] cannot print: "));
    EXPECT_EQ(std::count(err.begin(), err.end(), '\n'), 1) << err;
  }
  // At the end of the video, or long before.
  for (const auto& [overlap, frames] :
       {std::pair{"off", "9"}, {"on", "9"}, {"off", "100000"}, {"on", "100000"}}) {
    const pid_t pid =
        Start({"generate", "--model", kTree, "--checkpoint", "checkpoints/self_forcing_dmd.pt",
               "--prompt", "a", "--size", "80x48", "--frames", frames, "--encode-overlap", overlap,
               "--out", "-", "--format", "rgb"});
    int status = 0;
    ASSERT_EQ(waitpid(pid, &status, 0), pid);
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 1);
    EXPECT_THAT(ReadFile(In(".err")), HasSubstr("cannot write: No space left on device"));
  }
}

// The message of a run without standard error must not land in its video.
TEST_F(HostileCli, ClosedDescriptorsAreNotTakenForTheVideo) {
  const std::string command = std::string("exec ") + MRT_BINARY + " generate --model " + kTree +
                              " --checkpoint checkpoints/self_forcing_dmd.pt --prompt a "
                              "--size 80x48 --frames 9 --format rgb --out " +
                              In("v.rgb");
  EXPECT_NE(std::system((command + " <&- >&- 2>&-").c_str()), 0);  // the report is lost
  EXPECT_EQ(fs::file_size(In("v.rgb")), 9u * 80 * 48 * 3);
  EXPECT_EQ(std::system((command + " <&- >/dev/null 2>&-").c_str()), 0);
  EXPECT_EQ(fs::file_size(In("v.rgb")), 9u * 80 * 48 * 3);
}

TEST_F(HostileCli, RefusesPlacesWhereNoFileCanBe) {
  std::ofstream(In("file"));
  fs::create_directory(In("folder"));
  fs::create_directory(In("folder.mp4"));
  fs::create_directory(In("s.json"));
  fs::create_directory(In("c.png"));
  const auto out = [&](const std::string& path) {
    return Run({"generate", "--model", kTree, "--checkpoint", "checkpoints/self_forcing_dmd.pt",
                "--prompt", "a", "--size", "80x48", "--frames", "9", "--out", path});
  };
  const std::vector<Outcome> outcomes = {out(In("file/v.mp4")),
                                         out(In("folder.mp4")),
                                         out(In(std::string(300, 'a') + ".mp4")),
                                         out("/proc/v.mp4"),
                                         out("/dev/full.mp4/v.mp4"),
                                         out(""),
                                         out("/dev/full"),
                                         Small({"--stats", In("s.json")}),
                                         Small({"--stats", In("file/s.json")}),
                                         Small({"--contact-sheet", In("c.png")}),
                                         Small({"--contact-sheet", "/proc/c.png"}),
                                         Small({"--attention-config", In("folder")}),
                                         Small({"--image", In("folder")})};
  for (size_t i = 0; i < outcomes.size(); ++i) {
    SCOPED_TRACE(i);
    EXPECT_TRUE(outcomes[i].exit_code == 1 || outcomes[i].exit_code == 2) << outcomes[i].exit_code;
    EXPECT_EQ(std::count(outcomes[i].err.begin(), outcomes[i].err.end(), '\n'), 1)
        << outcomes[i].err;
  }
  EXPECT_EQ(FilesLeft(), 5u);
}

// Memory is planned before it is taken, also where sizes are absurd.
TEST_F(HostileCli, AbsurdSizesTakeNoMemory) {
  if (testing::kSanitized)
    GTEST_SKIP() << "the address sanitizer reserves more address space than any limit";
  const Limit address_space(RLIMIT_AS, rlim_t{2} << 30);
  ExpectLine(Generate({"--size", "8192x8192", "--frames", "10000000", "--window", "-1"}), 2,
             "[monarch] got a shape");
  ExpectLine(Generate({"--size", "8192x8192", "--frames", "10000000"}), 1, "[memory]");
  ExpectLine(Generate({"--size", "80x48", "--frames", "10000000", "--window", "-1"}), 1,
             "[memory]");
  ExpectLine(Run({"bench", "attention", "--op", "dense", "--impl", "portable", "--shape",
                  "q=1,heads=1,head_dim=16,kv=60000,grid=60x60"}),
             1, "[memory]");
}

// The video waits for a reader that is slow, or never reads at all.
class SlowReader : public HostileCli {
 protected:
  void SetUp() override {
    Cli::SetUp();
    ASSERT_EQ(mkfifo(In(".out").c_str(), 0600), 0);
    reader_ = open(In(".out").c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    ASSERT_GE(reader_, 0);
  }
  void TearDown() override {
    close(reader_);
    Cli::TearDown();
  }

  // Returns when the binary waits for its reader, some frames before the end.
  pid_t StartAndStall(const std::string& frames) const {
    const pid_t pid = Start({"generate", "--model", kTree, "--checkpoint",
                             "checkpoints/self_forcing_dmd.pt", "--prompt", "a", "--size", "96x64",
                             "--frames", frames, "--out", "-", "--format", "rgb"});
    int before = -1, waiting = 0;  // bytes in the pipe, which holds less than four frames
    for (int i = 0; i < 400 && (waiting == 0 || waiting != before); ++i) {
      before = waiting;
      std::this_thread::sleep_for(std::chrono::milliseconds(300));
      EXPECT_EQ(ioctl(reader_, FIONREAD, &waiting), 0);
    }
    EXPECT_GT(waiting, 0) << "no frame came";
    return pid;
  }

  int reader_ = -1;
};

// Only the second signal can end the wait.
TEST_F(SlowReader, ASecondInterruptStopsAtOnce) {
  const pid_t pid = StartAndStall("100000");
  kill(pid, SIGINT);
  std::this_thread::sleep_for(std::chrono::milliseconds(500));  // longer than an echo
  EXPECT_EQ(waitpid(pid, nullptr, WNOHANG), 0) << "it was to wait for its reader";
  kill(pid, SIGINT);
  int status = 0;
  EXPECT_EQ(waitpid(pid, &status, 0), pid);
  EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGINT) << status;
}

// All frames are made, nothing is left to cancel: the exit code says what came all the same.
TEST_F(SlowReader, AnInterruptDuringTheLastWriteIsNotLost) {
  const pid_t pid = StartAndStall("9");
  kill(pid, SIGINT);
  fcntl(reader_, F_SETFL, 0);  // wait for more
  size_t bytes = 0;
  char buffer[4096];
  for (ssize_t got; (got = read(reader_, buffer, sizeof(buffer))) > 0;) bytes += got;
  int status = 0;
  EXPECT_EQ(waitpid(pid, &status, 0), pid);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 130) << status;
  EXPECT_EQ(bytes, 9u * 96 * 64 * 3);
}

}  // namespace
}  // namespace mrt::apps
