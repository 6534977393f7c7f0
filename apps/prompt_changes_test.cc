#include "apps/prompt_changes.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

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

}  // namespace
}  // namespace mrt::apps
