#include "model/tokenizer/tokenizer.h"

#include <gtest/gtest.h>

namespace mrt {
namespace {
TEST(CleanPrompt, Basic) { EXPECT_EQ(CleanPrompt("  a &amp;amp; b "), "a & b"); }
}  // namespace
}  // namespace mrt
