#include "apps/initial_frames.h"

#include <gtest/gtest.h>

#include <cmath>

namespace mrt::apps {
namespace {

constexpr double kPixels = 832 * 480;

TEST(FitSize, KeepsASizeThatFits) {
  for (const auto& [width, height] : {std::pair{832, 480}, {480, 832}, {416, 240}, {16, 16}}) {
    const PictureSize size = FitSize({width, height}, 16, 16, kPixels);
    EXPECT_EQ(size.width, width);
    EXPECT_EQ(size.height, height);
  }
}

TEST(FitSize, KeepsToThePixelsOfTheModel) {
  const PictureSize size = FitSize({832, 480}, 16, 16, 416 * 240);
  EXPECT_EQ(size.width, 416);
  EXPECT_EQ(size.height, 240);
}

// Property: sides are multiples, the area is about that of 832x480 at most, the shape stays.
TEST(FitSize, KeepsTheShapeWithinTheArea) {
  for (const int unit : {16, 32, 64})
    for (const auto& [width, height] : {std::pair{1920, 1080},
                                        {1080, 1920},
                                        {4032, 3024},
                                        {1000, 1000},
                                        {833, 481},
                                        {641, 359},
                                        {16384, 16384},
                                        {100, 100},
                                        {7, 5}}) {
      const PictureSize size = FitSize({width, height}, unit, 16, kPixels);
      EXPECT_EQ(size.width % unit, 0);
      EXPECT_EQ(size.height % 16, 0);
      EXPECT_GE(size.width, unit);
      EXPECT_GE(size.height, 16);
      const double area = std::min(832.0 * 480, 1.0 * width * height);
      EXPECT_LE(std::abs(size.width - width * std::sqrt(area / width / height)),
                std::max(unit / 2.0, 1.0 * unit - width));
      EXPECT_LE(std::abs(size.height - height * std::sqrt(area / width / height)),
                std::max(8.0, 16.0 - height));
    }
}

}  // namespace
}  // namespace mrt::apps
