#include "pipeline/sampler.h"

#include <gtest/gtest.h>

namespace mrt {
namespace {

// Shift 5 by hand: u = 1, 0.75, 0.5, 0.25 -> 5u / (1 + 4u).
TEST(Schedule, MatchesTheFormula) {
  const Result<Schedule> schedule = Schedule::Make({1000, 750, 500, 250}, 5);
  ASSERT_TRUE(schedule.ok());
  const double sigmas[] = {1.0, 3.75 / 4, 2.5 / 3, 1.25 / 2};
  for (size_t i = 0; i < 4; ++i) {
    EXPECT_FLOAT_EQ(schedule->steps()[i].sigma, static_cast<float>(sigmas[i]));
    EXPECT_FLOAT_EQ(schedule->steps()[i].timestep, static_cast<float>(1000 * sigmas[i]));
  }
}

TEST(Schedule, TakesTheNearestSigmaAtStepZero) {
  const Result<Schedule> schedule = Schedule::Make({500, 0}, 5);
  ASSERT_TRUE(schedule.ok());
  EXPECT_EQ(schedule->steps()[1].timestep, 0);
  EXPECT_FLOAT_EQ(schedule->steps()[1].sigma, static_cast<float>(0.005 / 1.004));
}

TEST(Schedule, RefusesWhatCannotWork) {
  EXPECT_FALSE(Schedule::Make({}, 5).ok());
  EXPECT_FALSE(Schedule::Make({1001}, 5).ok());
  EXPECT_FALSE(Schedule::Make({500, -1}, 5).ok());
  EXPECT_FALSE(Schedule::Make({500, 500}, 5).ok());
  EXPECT_FALSE(Schedule::Make({250, 500}, 5).ok());
  EXPECT_FALSE(Schedule::Make({500}, 0).ok());
  EXPECT_FALSE(Schedule::Make({500}, -1).ok());
}

// With the true velocity noise - clean the clean latents come back from any noise level.
TEST(Sampler, RecoversTheCleanLatents) {
  ops::Context context(ops::Precision::kF32);
  const Shape shape{2, 4};
  Tensor clean(DType::kF32, shape), noise(DType::kF32, shape), x(DType::kF32, shape),
      v(DType::kF32, shape);
  for (int i = 0; i < 8; ++i) {
    clean.as<float>()[i] = x.as<float>()[i] = static_cast<float>(i) - 3;
    noise.as<float>()[i] = static_cast<float>(i % 3) * 0.5f;
    v.as<float>()[i] = noise.as<float>()[i] - clean.as<float>()[i];
  }
  AddNoise(context, x, noise, 0.625f);
  EXPECT_FLOAT_EQ(x.as<float>()[0], 0.375f * -3 + 0.625f * 0);
  PredictClean(context, x, v, 0.625f);
  for (int i = 0; i < 8; ++i) EXPECT_NEAR(x.as<float>()[i], clean.as<float>()[i], 1e-6);
}

}  // namespace
}  // namespace mrt
