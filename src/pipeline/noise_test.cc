#include "pipeline/noise.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "base/threads.h"

namespace mrt {
namespace {

// Known answers published with Random123 (kat_vectors, philox4x32 10).
TEST(Philox, MatchesThePublishedVectors) {
  using Words = std::array<uint32_t, 4>;
  EXPECT_EQ(Philox4x32({0, 0, 0, 0}, {0, 0}),
            (Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(Philox4x32({~0u, ~0u, ~0u, ~0u}, {~0u, ~0u}),
            (Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(Philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

// Values of Python's statistics.NormalDist().inv_cdf.
TEST(InverseNormal, MatchesKnownValues) {
  const double known[][2] = {{0.75, 0.6744897501960817}, {0.9, 1.2815515655446008},
                             {0.99, 2.3263478740408408}, {1e-3, -3.090232306167813},
                             {1e-6, -4.753424308822899}, {1e-10, -6.361340902404056}};
  for (const auto& [p, x] : known) EXPECT_NEAR(InverseNormal(p), x, 4e-15 * std::abs(x)) << p;
  EXPECT_EQ(InverseNormal(0.5), 0);
}

Tensor Noise(uint64_t seed, int64_t first_frame, int64_t frames, int step) {
  Tensor out(DType::kF32, {frames, 16, 7, 9});
  FillNoise(seed, first_frame, step, out);
  return out;
}

bool Equal(const ConstTensorView& a, const ConstTensorView& b) {
  return std::memcmp(a.data, b.data, static_cast<size_t>(a.bytes())) == 0;
}

TEST(Noise, IsTheSameForEveryThreadCount) {
  SetThreadCount(1);
  const Tensor one = Noise(7, 0, 3, 0);
  for (int threads : {2, 3, 8}) {
    SetThreadCount(threads);
    EXPECT_TRUE(Equal(one, Noise(7, 0, 3, 0))) << threads;
  }
  SetThreadCount(0);
}

// The bits themselves: another build or machine that gives others has broken every user's seeds.
TEST(Noise, HasTheseBits) {
  const Tensor noise = Noise(42, 5, 1, 2);
  uint64_t hash = 14695981039346656037u;  // FNV-1a
  const auto* bytes = static_cast<const unsigned char*>(noise.view().data);
  for (int64_t i = 0; i < noise.bytes(); ++i) hash = (hash ^ bytes[i]) * 1099511628211u;
  EXPECT_EQ(hash, 11427126427191918693u);
}

TEST(Noise, OfAFrameDoesNotDependOnTheChunk) {
  const Tensor all = Noise(7, 0, 6, 1);
  EXPECT_TRUE(Equal(all.view().Slice(3, 6), Noise(7, 3, 3, 1)));
}

TEST(Noise, DiffersBetweenSeedsFramesAndSteps) {
  const Tensor base = Noise(7, 0, 1, 0);
  EXPECT_FALSE(Equal(base, Noise(8, 0, 1, 0)));
  EXPECT_FALSE(Equal(base, Noise(7 + (uint64_t{1} << 32), 0, 1, 0)));
  EXPECT_FALSE(Equal(base, Noise(7, 1, 1, 0)));
  EXPECT_FALSE(Equal(base, Noise(7, 0, 1, 1)));
}

TEST(Noise, HasNormalMoments) {
  Tensor noise(DType::kF32, {3, 16, 60, 104});
  FillNoise(1, 0, 0, noise);
  const int64_t n = noise.shape().elements();
  double moments[5] = {};
  for (int64_t i = 0; i < n; ++i)
    for (int k = 1; k <= 4; ++k)
      moments[k] += std::pow(noise.as<float>()[i], k) / static_cast<double>(n);
  const double sigma = 1 / std::sqrt(static_cast<double>(n));  // of the mean of n values
  EXPECT_NEAR(moments[1], 0, 5 * sigma);
  EXPECT_NEAR(moments[2], 1, 5 * sigma * std::sqrt(2.0));
  EXPECT_NEAR(moments[3], 0, 5 * sigma * std::sqrt(15.0));
  EXPECT_NEAR(moments[4], 3, 5 * sigma * std::sqrt(96.0));
}

}  // namespace
}  // namespace mrt
