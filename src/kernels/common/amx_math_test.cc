// The polynomials of the AMX kernels against the standard library, on CPUs that have AVX-512.
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "base/cpu_features.h"
#include "kernels/common/cpu/amx_math_probe.h"

namespace mrt {
namespace {

class AmxMath : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!GetCpuFeatures().avx512_bf16) GTEST_SKIP() << "the CPU has no AVX-512 with bf16";
  }
};

TEST_F(AmxMath, PowersOfTwoHaveTheStatedError) {
  std::vector<float> x, y(16 * 4096);
  for (size_t n = 0; n < y.size(); ++n) x.push_back(-120.0f + 130.0f * n / y.size());
  AmxExp2(x.data(), static_cast<int64_t>(x.size()), y.data());
  for (size_t n = 0; n < x.size(); ++n) {
    const double want = std::exp2(static_cast<double>(x[n]));
    ASSERT_NEAR(y[n], want, 7.6e-5 * want) << x[n];
  }
}

TEST_F(AmxMath, PowersOfTwoEndInZeroAndKeepNotANumber) {
  std::vector<float> x(16, -INFINITY), y(16);
  x[1] = NAN, x[2] = -3e38f, x[3] = 0;
  AmxExp2(x.data(), 16, y.data());
  EXPECT_EQ(y[0], 0);
  EXPECT_TRUE(std::isnan(y[1]));
  EXPECT_EQ(y[2], 0);
  EXPECT_NEAR(y[3], 1, 7.6e-5);
}

TEST_F(AmxMath, LogarithmsHaveTheStatedError) {
  std::vector<float> x, y(16 * 4096);
  for (size_t n = 0; n < y.size(); ++n) x.push_back(std::exp2(-2.0f + 16.0f * n / y.size()));
  AmxLog2(x.data(), static_cast<int64_t>(x.size()), y.data());
  for (size_t n = 0; n < x.size(); ++n)
    ASSERT_NEAR(y[n], std::log2(static_cast<double>(x[n])), 1.6e-5) << x[n];
}

}  // namespace
}  // namespace mrt
