#include "media/image_writer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <string>
#include <vector>

#include "media/decode_for_test.h"
#include "testing/guarded_buffer.h"

namespace mrt::media {
namespace {

using mrt::testing::GuardedBuffer;
using testing::Decode;
using testing::DecodedVideo;
using ::testing::IsEmpty;
using testing::MovingGradient;
using testing::ReadBytes;
using testing::TemporaryDirectory;

TEST(Png, IsLossless) {
  const TemporaryDirectory dir;
  for (const auto& [width, height] : {std::pair{1, 1}, {17, 3}, {208, 120}}) {
    const auto rgb = MovingGradient(1, height, width);
    ASSERT_TRUE(WritePng(dir / "i.png", rgb.data(), width, height).ok());
    const DecodedVideo image = Decode(dir / "i.png");
    EXPECT_EQ(image.codec, AV_CODEC_ID_PNG);
    ASSERT_EQ(image.rgb.size(), 1u);
    EXPECT_EQ(image.rgb[0], rgb);
  }
  EXPECT_EQ(dir.Files().size(), 1u);
}

TEST(Png, RefusesBadArguments) {
  const TemporaryDirectory dir;
  const uint8_t pixel[3] = {};
  EXPECT_EQ(WritePng(dir / "i.jpg", pixel, 1, 1).code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(WritePng(dir / "i.png", pixel, 0, 1).code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(WritePng(dir / "i.png", pixel, 1, 1 << 20).code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(WritePng(dir / "no/i.png", pixel, 1, 1).code(), StatusCode::kNotFound);
  EXPECT_THAT(dir.Files(), IsEmpty());
}

// Frame f has the grey level f, so a tile tells which frame it is.
std::vector<uint8_t> GreyFrame(int f, int height, int width) {
  return std::vector<uint8_t>(size_t{3} * height * width, static_cast<uint8_t>(f));
}

// The grey levels in the middle of the tiles, in reading order.
std::vector<int> TileLevels(const DecodedVideo& sheet, int columns, int tile_width, int tile_height,
                            int count) {
  constexpr int kGap = 4;
  std::vector<int> levels;
  for (int i = 0; i < count; ++i) {
    const int x = kGap + i % columns * (tile_width + kGap) + tile_width / 2;
    const int y = kGap + i / columns * (tile_height + kGap) + tile_height / 2;
    levels.push_back(sheet.rgb[0][3 * (y * sheet.width + x)]);
  }
  return levels;
}

TEST(ContactSheet, SpreadsOverAnyLength) {
  const TemporaryDirectory dir;
  constexpr int kWidth = 40, kHeight = 20;
  for (const int frames : {6, 7, 11, 12, 13, 81, 200}) {
    auto sheet = ContactSheet::Create(
        {.width = kWidth, .height = kHeight, .columns = 3, .rows = 2, .tile_width = 20});
    ASSERT_TRUE(sheet.ok());
    for (int f = 0; f < frames; ++f)
      ASSERT_TRUE(sheet->Add(GreyFrame(f, kHeight, kWidth).data(), 1).ok());
    ASSERT_TRUE(sheet->Write(dir / "s.png").ok());
    const DecodedVideo image = Decode(dir / "s.png");
    EXPECT_EQ(image.width, 4 + 3 * 24);
    EXPECT_EQ(image.height, 4 + 2 * 14);
    const auto levels = TileLevels(image, 3, 20, 10, 6);
    EXPECT_NEAR(levels.front(), 0, 1);
    EXPECT_GE(levels.back(), frames - 1 - std::max(1, frames / 6)) << frames;
    for (size_t i = 1; i < levels.size(); ++i) {
      const int step = levels[i] - levels[i - 1];
      EXPECT_GE(step, std::max(1, frames / 12)) << frames;
      EXPECT_LE(step, std::max(3, frames / 3)) << frames;
    }
  }
}

TEST(ContactSheet, ShrinksToFewFrames) {
  const TemporaryDirectory dir;
  auto sheet = ContactSheet::Create({.width = 40, .height = 20, .tile_width = 20});
  ASSERT_TRUE(sheet.ok());
  EXPECT_EQ(sheet->Write(dir / "s.png").code(), StatusCode::kInvalidArgument);
  ASSERT_TRUE(sheet->Add(GreyFrame(9, 20, 40).data(), 1).ok());
  ASSERT_TRUE(sheet->Write(dir / "s.png").ok());
  EXPECT_EQ(Decode(dir / "s.png").width, 28);
  EXPECT_EQ(Decode(dir / "s.png").height, 18);
}

TEST(ContactSheet, KeepsColours) {
  const TemporaryDirectory dir;
  auto sheet = ContactSheet::Create({.width = 64, .height = 48, .columns = 1, .tile_width = 32});
  ASSERT_TRUE(sheet.ok());
  const int colour[3] = {200, 30, 90};
  std::vector<uint8_t> rgb;
  for (int i = 0; i < 64 * 48 * 3; ++i) rgb.push_back(static_cast<uint8_t>(colour[i % 3]));
  ASSERT_TRUE(sheet->Add(rgb.data(), 1).ok());
  ASSERT_TRUE(sheet->Write(dir / "s.png").ok());
  const DecodedVideo image = Decode(dir / "s.png");
  for (int y = 4; y < 28; ++y)
    for (int x = 4; x < 36; ++x)
      for (int c = 0; c < 3; ++c)
        ASSERT_NEAR(image.rgb[0][3 * (y * image.width + x) + c], colour[c], 2);
  EXPECT_EQ(image.rgb[0][0], 32);  // the gap
}

// FFmpeg's scaler reads behind the last pixel; the sheet must not let it.
TEST(ContactSheet, ReadsNoByteTooMany) {
  for (const int width : {30, 64, 202}) {
    const auto frames = MovingGradient(2, 16, width);
    const GuardedBuffer memory(static_cast<int64_t>(frames.size()));
    auto* const rgb = static_cast<uint8_t*>(memory.data());
    std::copy(frames.begin(), frames.end(), rgb);
    auto sheet = ContactSheet::Create({.width = width, .height = 16, .tile_width = width / 2});
    ASSERT_TRUE(sheet.ok());
    EXPECT_TRUE(sheet->Add(rgb, 2).ok());
  }
}

TEST(ContactSheet, RefusesBadSizes) {
  const ContactSheetOptions good = {.width = 64, .height = 48};
  for (int ContactSheetOptions::*member :
       {&ContactSheetOptions::width, &ContactSheetOptions::height, &ContactSheetOptions::columns,
        &ContactSheetOptions::rows, &ContactSheetOptions::tile_width})
    for (const int bad : {-1, 0, 1 << 30}) {
      ContactSheetOptions options = good;
      options.*member = bad;
      EXPECT_EQ(ContactSheet::Create(options).status().code(), StatusCode::kInvalidArgument);
    }
}

}  // namespace
}  // namespace mrt::media
