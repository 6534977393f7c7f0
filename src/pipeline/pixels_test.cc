#include "pipeline/pixels.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "base/threads.h"
#include "ops/rowwise.h"

namespace mrt {
namespace {

std::vector<uint8_t> Convert(const std::vector<float>& values, PixelRange range) {
  std::vector<uint8_t> rgb(values.size());
  const Shape shape{static_cast<int64_t>(values.size())};
  ops::Context context(ops::Precision::kF32);
  ops::ToBytes(context, {values.data(), DType::kF32, shape}, range.low, range.high,
               {rgb.data(), DType::kU8, shape});
  return rgb;
}

TEST(Pixels, EveryByteSurvives) {
  for (const PixelRange range : {PixelRange{-1, 1}, PixelRange{0, 1}, PixelRange{0, 255}}) {
    std::vector<float> values;
    for (int i = 0; i < 256; ++i)
      for (int c = 0; c < 3; ++c)
        values.push_back(range.low + (range.high - range.low) * static_cast<float>(i) / 255.0f);
    const auto rgb = Convert(values, range);
    for (int i = 0; i < 3 * 256; ++i) EXPECT_EQ(rgb[i], i / 3);
  }
}

TEST(Pixels, BytesComeBackAsTheyWere) {
  std::vector<uint8_t> rgb(256);
  for (int i = 0; i < 256; ++i) rgb[i] = static_cast<uint8_t>(i);
  for (const PixelRange range : {PixelRange{-1, 1}, PixelRange{0, 1}}) {
    std::vector<float> values(256);
    FromRgb8(rgb.data(), range, {values.data(), DType::kF32, {256}});
    EXPECT_FLOAT_EQ(values[0], range.low);
    EXPECT_FLOAT_EQ(values[255], range.high);
    EXPECT_EQ(Convert(values, range), rgb);
  }
}

TEST(Pixels, RoundsToTheNearest) {
  EXPECT_EQ(
      Convert({0.49f, 0.51f, 1.49f, 1.51f, 253.4f, 254.6f, 0.49999997f, 2.5f, 3.5f}, {0, 255}),
      (std::vector<uint8_t>{0, 1, 1, 2, 253, 255, 0, 2, 4}));
}

TEST(Pixels, ClampsAndMapsNanToZero) {
  constexpr float kInf = std::numeric_limits<float>::infinity();
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
  constexpr float kHuge = std::numeric_limits<float>::max();
  EXPECT_EQ(Convert({-1.01f, 1.01f, kInf, -kInf, kNan, -kNan, kHuge, -kHuge, 0.0f}, {-1, 1}),
            (std::vector<uint8_t>{0, 255, 255, 0, 0, 0, 255, 0, 128}));
}

TEST(Pixels, ThreadsCoverEveryPixel) {
  constexpr int kFrames = 3, kHeight = 97, kWidth = 211;
  std::mt19937 random(3);
  std::uniform_real_distribution<float> uniform(-1.2f, 1.2f);
  std::vector<float> frames(kFrames * kHeight * kWidth * 3);
  for (float& x : frames) x = uniform(random);
  for (const int threads : {1, 2, 3}) {
    SetThreadCount(threads);
    std::vector<uint8_t> rgb(frames.size() + 1, 77);
    const Shape shape{kFrames, kHeight, kWidth, 3};
    ops::Context context(ops::Precision::kF32);
    ops::ToBytes(context, {frames.data(), DType::kF32, shape}, -1, 1,
                 {rgb.data(), DType::kU8, shape});
    for (size_t i = 0; i < frames.size(); ++i) {
      const double x = std::min(std::max((frames[i] + 1.0) * 127.5, 0.0), 255.0);
      ASSERT_NEAR(rgb[i], x, 0.5001);
    }
    EXPECT_EQ(rgb.back(), 77);
  }
  SetThreadCount(0);
}

}  // namespace
}  // namespace mrt
