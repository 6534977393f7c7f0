#include "apps/prompt_changes.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <string>
#include <thread>

namespace mrt::apps {
namespace {

using ::testing::HasSubstr;

TEST(PromptChanges, AreSortedByTime) {
  const auto changes = ParsePromptChanges({"2.5s:a: b", "1:first", "0s:"});
  ASSERT_TRUE(changes.ok()) << changes.status().message();
  ASSERT_EQ(changes->size(), 3u);
  EXPECT_EQ((*changes)[0].at_s, 0);
  EXPECT_EQ((*changes)[0].prompt, "");
  EXPECT_EQ((*changes)[1].prompt, "first");
  EXPECT_EQ((*changes)[2].at_s, 2.5);
  EXPECT_EQ((*changes)[2].prompt, "a: b");
}

TEST(PromptChanges, RefuseOtherForms) {
  for (const char* text : {"", "a blue cube", "2.5", "2.5s", "s:a", ":a", "2.5sec:a", "2.5 s:a",
                           "-1s:a", "nan:a", "inf:a", "1e999:a"}) {
    const auto changes = ParsePromptChanges({text});
    EXPECT_EQ(changes.status().code(), monarchrt::StatusCode::kInvalidArgument) << text;
    EXPECT_THAT(changes.status().message(), HasSubstr("[prompt-at]"));
  }
  EXPECT_FALSE(ParsePromptChanges({"1s:a", "1.0:b"}).ok());
}

// Where decoding overlaps, the last chunk is being made before the caller has the one before it.
TEST(PromptChanges, InTheLastChunkNeverShow) {
  auto engine = monarchrt::Engine::Load({.model = std::string(MRT_GOLDEN_DIR) + "/toy_wan",
                                         .checkpoint = "checkpoints/self_forcing_dmd.pt"});
  ASSERT_TRUE(engine.ok()) << engine.status().message();
  auto stream = engine->Open({.prompt = "a red ball",
                              .width = 80,
                              .height = 48,
                              .frames = 21,
                              .decode_overlap = monarchrt::DecodeOverlap::kOn});
  ASSERT_TRUE(stream.ok()) << stream.status().message();
  PromptChanger changer({{.at_s = 1, .prompt = "a blue cube"}}, /*fps=*/16, /*recache=*/false);
  ASSERT_TRUE(changer.Apply(*stream).ok());
  ASSERT_TRUE(stream->Next().ok());
  while (stream->next_prompt_frame() < 21)
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  const monarchrt::Status late = changer.Apply(*stream);
  EXPECT_TRUE(late.ok()) << late.message();
  EXPECT_TRUE(stream->Next().ok());
  EXPECT_THAT(changer.Report(), HasSubstr("prompt at 1 s never shows"));
  // Another error is one.
  auto other = engine->Open({.prompt = "a red ball", .width = 80, .height = 48, .frames = 9});
  ASSERT_TRUE(other.ok()) << other.status().message();
  other->Cancel();
  PromptChanger at_once({{.at_s = 0, .prompt = "a blue cube"}}, /*fps=*/16, /*recache=*/false);
  EXPECT_EQ(at_once.Apply(*other).code(), monarchrt::StatusCode::kCancelled);
}

}  // namespace
}  // namespace mrt::apps
