#include "apps/batch.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace mrt::apps {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(ParsePrompts, TakesALineEach) {
  const auto prompts = ParsePrompts("a red ball\r\n\n  # a remark\n\t two  words \n#\nlast");
  ASSERT_TRUE(prompts.ok()) << prompts.status().message();
  EXPECT_THAT(*prompts, ElementsAre("a red ball", "two  words", "last"));
  EXPECT_THAT(*ParsePrompts("\xef\xbb\xbf# of Notepad\r\na"), ElementsAre("a"));
}

TEST(ParsePrompts, RefusesAFileWithoutOneAndPromptsThatAreTooLong) {
  for (const char* text : {"", "\n\n", "# only remarks\n", " \t\r\n"})
    EXPECT_THAT(ParsePrompts(text).status().message(), HasSubstr("[batch]")) << text;
  const auto tooLong = ParsePrompts("short\n" + std::string(2 << 20, 'a'));
  EXPECT_THAT(tooLong.status().message(), HasSubstr("(prompt 2)"));
}

}  // namespace
}  // namespace mrt::apps
