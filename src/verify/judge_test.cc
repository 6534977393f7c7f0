#include "verify/judge.h"

#include <gtest/gtest.h>

#include <cmath>

namespace mrt::verify {
namespace {

using Pass = Judge::Pass;

Tensor Of(float value) {
  Tensor tensor(DType::kF32, {1});
  tensor.as<float>()[0] = value;
  return tensor;
}

// Of 1 as the truth, one float32 and one emulated pass.
void Measure(Judge& judge, float emulated) {
  judge.set_pass(Pass::kReference);
  judge.Compare("f", "t", Of(1), Of(1), 1e-3);
  judge.set_pass(Pass::kYardstick);
  judge.Compare("f", "t", Of(emulated), Of(1), 1e-3);
  judge.set_pass(Pass::kVerdict);
}

TEST(Judge, AllowsTwiceTheYardstick) {
  for (const auto& [got, ok] : {std::pair{1.15f, true}, {1.25f, false}}) {
    Judge judge({});
    Measure(judge, 1.1f);
    judge.Compare("f", "t", Of(got), Of(1), 1e-3);
    EXPECT_EQ(judge.exceeds_yardstick(), !ok);
    judge.Flush();
    EXPECT_FALSE(judge.exceeds_yardstick());
    EXPECT_EQ(judge.lines()[0].ok, ok);
    EXPECT_NEAR(judge.lines()[0].allowed, 0.2, 1e-5);
  }
}

// A small first sample does not decide alone, nor does a large one.
TEST(Judge, TakesTheMeanSquareOfVariations) {
  int shown = 0;
  Judge judge([&](const monarchrt::VerifyLine&) { ++shown; });
  Measure(judge, 1.1f);
  judge.Compare("f", "t", Of(1.3f), Of(1), 1e-3);
  EXPECT_TRUE(judge.exceeds_yardstick());
  // The truth of a variation is its float32 pass, not the file's 1.
  judge.set_pass(Pass::kVariation);
  judge.Compare("f", "t", Of(2), Of(1), 1e-3);
  judge.set_pass(Pass::kYardstick);
  judge.Compare("f", "t", Of(2.5f), Of(1), 1e-3);
  EXPECT_EQ(shown, 0);
  judge.Flush();
  EXPECT_EQ(shown, 1);
  EXPECT_TRUE(judge.lines()[0].ok);
  EXPECT_NEAR(judge.lines()[0].allowed, 2 * std::sqrt((0.1 * 0.1 + 0.25 * 0.25) / 2), 1e-5);
}

TEST(Judge, GivesNoYardstickToWhatIsWrongInFloat32) {
  Judge judge({});
  judge.set_pass(Pass::kReference);
  judge.Compare("f", "t", Of(1.2f), Of(1), 1e-3);
  judge.set_pass(Pass::kYardstick);
  judge.Compare("f", "t", Of(1.2f), Of(1), 1e-3);
  judge.set_pass(Pass::kVerdict);
  judge.Compare("f", "t", Of(1.2f), Of(1), 1e-3);
  EXPECT_FALSE(judge.exceeds_yardstick());
  judge.Flush();
  EXPECT_FALSE(judge.lines()[0].ok);
  EXPECT_EQ(judge.lines()[0].allowed, 1e-3);
}

}  // namespace
}  // namespace mrt::verify
