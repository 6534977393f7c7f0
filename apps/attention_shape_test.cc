#include "apps/attention_shape.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace mrt::apps {
namespace {

TEST(AttentionShape, ReadsNamesAndLists) {
  const auto a = ParseAttentionShape("A");
  const auto same =
      ParseAttentionShape("heads=12,head_dim=128,grid=30x52,q=3,kv=21,tiles=1,1,1,iterations=1");
  ASSERT_TRUE(a.ok() && same.ok());
  EXPECT_EQ(*AttentionFlop(a->options, a->problem), *AttentionFlop(same->options, same->problem));
  const auto c = ParseAttentionShape("C");
  ASSERT_TRUE(c.ok());
  EXPECT_EQ(c->options.f_tied, 3);
  EXPECT_EQ(c->problem.rows, 45);
  const auto other = ParseAttentionShape("tiles=3,2,4,q=6");
  ASSERT_TRUE(other.ok());
  EXPECT_EQ(other->options.f_tied, 3);
  EXPECT_EQ(other->options.w_reduce, 4);
  EXPECT_EQ(other->problem.frames_q, 6);
  EXPECT_EQ(other->problem.frames_kv, 21);
  EXPECT_EQ(other->options.density, 0.053);
  EXPECT_EQ(ParseAttentionShape("density=0.25,q=1")->options.density, 0.25);
}

TEST(AttentionShape, RefusesWhatCannotBe) {
  const auto refuse = [](const std::string& text, const std::string& needle) {
    const auto shape = ParseAttentionShape(text);
    ASSERT_FALSE(shape.ok()) << text;
    EXPECT_EQ(shape.status().code(), monarchrt::StatusCode::kInvalidArgument) << text;
    EXPECT_THAT(shape.status().message(), ::testing::HasSubstr(needle)) << text;
  };
  refuse("E", "need A, B, C, D");
  refuse("", "need A, B, C, D");
  refuse("1,2", "need A, B, C, D");
  refuse("width=3", "need heads");
  refuse("grid=30", "30x52");
  refuse("grid=30x52x2", "30x52");
  refuse("tiles=1,1", "three numbers");
  refuse("heads=1e9", "a number");
  refuse("heads=99999999999", "a number");
  refuse("heads=0", "at least 1");
  refuse("q=-1", "at least 1");
  refuse("tiles=1,7,1", "divisor");
  refuse("density=0", "more than 0");
  refuse("density=nan", "more than 0");
  refuse("density=half", "a number");
  refuse("heads=2000000000,head_dim=2000000000", "2^47");
}

}  // namespace
}  // namespace mrt::apps
