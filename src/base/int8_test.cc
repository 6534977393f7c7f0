#include "base/int8.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>
#include <vector>

namespace mrt {
namespace {

TEST(QuantizeRow, IsOffByHalfAScaleAtMost) {
  std::mt19937 random(1);
  for (const float size : {1e-30f, 1.0f, 1e30f})
    for (const int64_t count : {1, 2, 17, 1000}) {
      std::normal_distribution<float> normal(0, size);
      std::vector<float> x(static_cast<size_t>(count));
      for (float& v : x) v = normal(random);
      std::vector<int8_t> q(x.size());
      const float scale = QuantizeRow(x.data(), count, q.data());
      float max = 0;
      for (size_t i = 0; i < x.size(); ++i) {
        max = std::max(max, std::abs(x[i]));
        // 1e-4: x / scale is rounded to float32 before it is rounded to an integer.
        EXPECT_LE(std::abs(double{x[i]} - double{scale} * q[i]), 0.5001 * scale);
        EXPECT_GE(q[i], -127);
      }
      EXPECT_FLOAT_EQ(scale, max / 127);
    }
}

TEST(QuantizeRow, IntegersAreExact) {
  std::vector<float> x;
  for (int i = -127; i <= 127; ++i) x.push_back(static_cast<float>(i) * 0.25f);
  std::vector<int8_t> q(x.size());
  EXPECT_EQ(QuantizeRow(x.data(), static_cast<int64_t>(x.size()), q.data()), 0.25f);
  for (int i = -127; i <= 127; ++i) EXPECT_EQ(q[static_cast<size_t>(i + 127)], i);
}

TEST(QuantizeRow, TiesGoToEven) {
  const float x[] = {127, 0.5f, 1.5f, -2.5f, -3.5f};
  int8_t q[5];
  EXPECT_EQ(QuantizeRow(x, 5, q), 1);
  EXPECT_EQ(std::vector<int>(q, q + 5), (std::vector<int>{127, 0, 2, -2, -4}));
}

TEST(QuantizeRow, TheScaleIsAlwaysFiniteAndPositive) {
  const float tiny = std::numeric_limits<float>::denorm_min();
  const float smallest = std::numeric_limits<float>::min();
  const float largest = std::numeric_limits<float>::max();
  int8_t q[2] = {1, 1};
  for (const float x : {0.0f, -0.0f, tiny, -tiny, smallest, largest}) {
    const float row[2] = {x, -x};
    const float scale = QuantizeRow(row, 2, q);
    EXPECT_GE(scale, smallest) << x;
    EXPECT_TRUE(std::isfinite(scale)) << x;
    EXPECT_LE(std::abs(double{x} - double{scale} * q[0]), 0.5001 * scale) << x;
    EXPECT_EQ(q[1], -q[0]);
  }
}

TEST(QuantizeRow, NaNAndInfinityMakeTheScaleNaN) {
  for (const float bad :
       {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
        -std::numeric_limits<float>::infinity()})
    for (const int at : {0, 2}) {
      float x[3] = {1, 2, 3};
      x[at] = bad;
      int8_t q[3] = {1, 1, 1};
      EXPECT_TRUE(std::isnan(QuantizeRow(x, 3, q)));
      EXPECT_EQ(std::vector<int>(q, q + 3), std::vector<int>(3, 0));
    }
}

}  // namespace
}  // namespace mrt
