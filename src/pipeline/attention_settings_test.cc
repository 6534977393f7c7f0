#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "monarchrt/engine.h"

namespace monarchrt {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

TEST(AttentionSettings, AreReadFromJson) {
  const Result<AttentionSettings> settings = ParseAttentionSettings(R"({
    "default": {"mode": "monarch", "tiles": [3, 2, 1], "iterations": 2},
    "rules": [{"layers": "0-2,5", "mode": "dense", "implementation": "reference"},
              {"steps": ["0", "clean"], "layers": [1, 7], "tiles": [1, 1, 4]},
              {"steps": 3}]})");
  ASSERT_TRUE(settings.ok()) << settings.status().message();
  EXPECT_EQ(settings->attention.mode, AttentionMode::kMonarch);
  EXPECT_EQ(settings->attention.f_tied, 3);
  EXPECT_EQ(settings->attention.h_reduce, 2);
  EXPECT_EQ(settings->attention.iterations, 2);
  ASSERT_EQ(settings->rules.size(), 3u);
  const AttentionRule& first = settings->rules[0];
  EXPECT_THAT(first.layers, ElementsAre(0, 1, 2, 5));
  EXPECT_THAT(first.steps, IsEmpty());
  EXPECT_EQ(first.attention.mode, AttentionMode::kDense);
  EXPECT_EQ(first.attention.implementation, "reference");
  const AttentionRule& second = settings->rules[1];
  EXPECT_THAT(second.layers, ElementsAre(1, 7));
  EXPECT_THAT(second.steps, ElementsAre(0, AttentionRule::kCleanPass));
  EXPECT_EQ(second.attention.w_reduce, 4);
  EXPECT_EQ(second.attention.iterations, 2);  // as in "default"
  EXPECT_THAT(settings->rules[2].steps, ElementsAre(3));
  EXPECT_TRUE(ParseAttentionSettings("{}").ok());
}

TEST(AttentionSettings, TakeEveryModeAndItsDensity) {
  for (const AttentionMode mode : ListAttentionModes()) {
    const std::string name = AttentionModeName(mode);
    const Result<AttentionSettings> settings =
        ParseAttentionSettings(R"({"default": {"density": 0.5}, "rules": [{"mode": ")" + name +
                               R"("}, {"mode": "topk", "density": 1}]})");
    ASSERT_TRUE(settings.ok()) << settings.status().message();
    EXPECT_EQ(settings->rules[0].attention.mode, mode);
    EXPECT_EQ(settings->rules[0].attention.density, 0.5);
    EXPECT_EQ(settings->rules[1].attention.density, 1);
  }
}

TEST(AttentionSettings, SayWhatIsWrong) {
  const auto refusal = [](const std::string& json) {
    const Result<AttentionSettings> settings = ParseAttentionSettings(json);
    EXPECT_FALSE(settings.ok()) << json;
    EXPECT_EQ(settings.status().code(), StatusCode::kInvalidArgument);
    return settings.status().message();
  };
  EXPECT_THAT(refusal(""), HasSubstr("not JSON"));
  EXPECT_THAT(refusal("[]"), HasSubstr("not an object"));
  EXPECT_THAT(refusal("null"), HasSubstr("not an object"));
  EXPECT_THAT(refusal(R"({"rulez": []})"), HasSubstr("rulez"));
  EXPECT_THAT(refusal(R"({"default": {"tile": [1,1,1]}})"), HasSubstr("'tile'"));
  EXPECT_THAT(refusal(R"({"default": {"layers": [1]}})"), HasSubstr("layers"));
  EXPECT_THAT(refusal(R"({"default": {"mode": "sparse"}})"),
              HasSubstr(R"("monarch", "topk", "window", "radial")"));
  EXPECT_THAT(refusal(R"({"default": {"mode": 2}})"), HasSubstr("default.mode"));
  for (const char* density : {"0", "-0.5", "1.001", "1e300", "18446744073709551615"})
    EXPECT_THAT(refusal(std::string(R"({"default": {"density": )") + density + "}}"),
                HasSubstr("default.density: got"));
  for (const char* density : {"\"0.5\"", "null", "[0.5]", "true"})
    EXPECT_THAT(refusal(std::string(R"({"rules": [{"density": )") + density + "}]}"),
                HasSubstr("rules[0].density: is not a number"));
  EXPECT_THAT(refusal(R"({"default": {"tiles": [1, 1]}})"), HasSubstr("three"));
  EXPECT_THAT(refusal(R"({"default": {"tiles": [1, 0, 1]}})"), HasSubstr("tiles[1]"));
  EXPECT_THAT(refusal(R"({"default": {"iterations": 1.5}})"), HasSubstr("whole number"));
  EXPECT_THAT(refusal(R"({"default": {"iterations": 1e30}})"), HasSubstr("whole number"));
  EXPECT_THAT(refusal(R"({"default": {"iterations": 20000}})"),
              HasSubstr("got 20000, need 1 to 10000"));
  EXPECT_THAT(refusal(R"({"default": {"iterations": 18446744073709551615}})"), HasSubstr("need"));
  EXPECT_THAT(refusal(R"({"rules": {}})"), HasSubstr("list"));
  EXPECT_THAT(refusal(R"({"rules": [[]]})"), HasSubstr("rules[0]"));
  for (const char* layers : {R"("3-1")", R"("a")", R"("")", R"("1,")", R"("0-99999999")", "-1",
                             "1.5", "[]", "{}", R"(["clean"])", "[[0]]"})
    EXPECT_THAT(refusal(std::string(R"({"rules": [{"layers": )") + layers + "}]}"),
                HasSubstr("rules[0].layers"))
        << layers;
  EXPECT_THAT(refusal(std::string(100'000, '[')), HasSubstr("nested"));
  EXPECT_THAT(refusal(std::string(2 << 20, ' ')), HasSubstr("bytes"));
}

// A megabyte of ranges names each number once.
TEST(AttentionSettings, DoNotGrowWithRepetition) {
  std::string ranges = "0-1000";
  while (ranges.size() < 900'000) ranges += ",0-1000";
  const Result<AttentionSettings> settings =
      ParseAttentionSettings(R"({"rules": [{"layers": ")" + ranges + "\"}]}");
  ASSERT_TRUE(settings.ok()) << settings.status().message();
  EXPECT_EQ(settings->rules[0].layers.size(), 1001u);
}

}  // namespace
}  // namespace monarchrt
