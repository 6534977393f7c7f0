// --cache-dir and --no-cache: which folder is used, and what the user hears of it.
#include <sstream>

#include "base/json.h"
#include "testing/cli.h"

namespace mrt::apps {
namespace {

using mrt::Json;
using ::testing::HasSubstr;

class TextCacheCli : public Cli {
 protected:
  // What the statistics say, and the video in v.rgb.
  std::string Use(const std::vector<std::string>& more) const {
    std::vector<std::string> flags = {"--size", "80x48", "--frames", "9", "--stats", In("s.json")};
    flags.insert(flags.end(), more.begin(), more.end());
    const Outcome outcome = Generate(flags, "v.rgb");
    EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
    return mrt::ParseJson(ReadFile(In("s.json")))["text_cache"];
  }
  static size_t FilesIn(const std::string& folder) {
    return static_cast<size_t>(std::distance(fs::directory_iterator(folder), {}));
  }
};

TEST_F(TextCacheCli, KeepsAnEmbeddingBetweenRuns) {
  EXPECT_EQ(Use({"--cache-dir", In("cache")}), "miss");
  const std::string video = ReadFile(In("v.rgb"));
  EXPECT_EQ(Use({"--cache-dir", In("cache")}), "hit");
  EXPECT_EQ(ReadFile(In("v.rgb")), video);
  EXPECT_EQ(Use({"--no-cache"}), "off");
  EXPECT_EQ(ReadFile(In("v.rgb")), video);
  EXPECT_EQ(FilesIn(In("cache")), 1u);
}

TEST_F(TextCacheCli, FindsTheUsersFolder) {
  EXPECT_EQ(Use({}), "off");  // neither variable is set
  setenv("HOME", In("home").c_str(), 1);
  setenv("XDG_CACHE_HOME", "relative", 1);
  EXPECT_EQ(Use({"--no-cache"}), "off");
  EXPECT_FALSE(fs::exists(In("home")));
  EXPECT_EQ(Use({}), "miss");
  EXPECT_EQ(FilesIn(In("home/.cache/monarchrt")), 1u);
  setenv("XDG_CACHE_HOME", In("xdg").c_str(), 1);
  EXPECT_EQ(Use({}), "miss");
  EXPECT_EQ(FilesIn(In("xdg/monarchrt")), 1u);
}

TEST_F(TextCacheCli, SaysThatNothingCouldBeKept) {
  std::ofstream(In("file")) << "x";
  const Outcome outcome = Generate({"--size", "80x48", "--frames", "9", "--cache-dir", In("file")});
  EXPECT_EQ(outcome.exit_code, 0);
  EXPECT_THAT(outcome.err, HasSubstr("monarchrt: the text embedding was not kept: "));
  EXPECT_TRUE(fs::exists(In("v.mp4")));
  fs::remove_all(In("v.mp4"));
  fs::remove(In("file"));
  ExpectRefusal(Generate({"--no-cache", "--cache-dir", In("cache")}), 2, "excludes");
}

TEST_F(TextCacheCli, ServesABatchButNoBenchmarkUnasked) {
  std::ofstream(In("prompts")) << "a ball\na cube\na ball\n";
  const Outcome batch =
      Run({"generate", "--model", kTree, "--checkpoint", "checkpoints/self_forcing_dmd.pt",
           "--size", "80x48", "--frames", "9", "--prompts", In("prompts"), "--out-dir", In("clips"),
           "--format", "rgb", "--cache-dir", In("cache")});
  ASSERT_EQ(batch.exit_code, 0) << batch.err;
  std::vector<std::string> uses;
  std::istringstream lines(batch.out);
  for (std::string line; std::getline(lines, line);)
    uses.push_back(mrt::ParseJson(line)["text_cache"]);
  EXPECT_EQ(uses, (std::vector<std::string>{"miss", "miss", "hit"}));

  setenv("HOME", In("home").c_str(), 1);
  std::vector<std::string> bench = {
      "bench",    "generate", "--model",  kTree, "--checkpoint", "checkpoints/self_forcing_dmd.pt",
      "--size",   "80x48",    "--frames", "9",   "--json",       In("b.json"),
      "--prompt", "a ball"};
  const auto use = [&] {
    const Outcome outcome = Run(bench);
    EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
    return mrt::ParseJson(ReadFile(In("b.json")))["text_cache"];
  };
  EXPECT_EQ(use(), "off");
  EXPECT_FALSE(fs::exists(In("home")));
  bench.insert(bench.end(), {"--cache-dir", In("cache")});
  EXPECT_EQ(use(), "hit");
}

}  // namespace
}  // namespace mrt::apps
