#include "media/picture_reader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <fstream>

#include "media/decode_for_test.h"
#include "media/image_writer.h"
#include "media/video_writer.h"
#include "testing/sanitizer.h"

namespace mrt::media {
namespace {

using ::testing::ElementsAre;
using testing::EncodedFile;
using testing::EncodeFile;
using testing::MovingGradient;
using testing::Psnr;
using testing::ReadBytes;
using testing::TemporaryDirectory;
using Bytes = std::vector<uint8_t>;

// [height, width, 3] with a colour of its own in every quarter: red, green / blue, yellow.
constexpr uint8_t kQuarters[4][3] = {{220, 30, 30}, {30, 200, 30}, {30, 30, 220}, {230, 230, 20}};
Bytes Quarters(int width, int height) {
  Bytes rgb;
  for (int y = 0; y < height; ++y)
    for (int x = 0; x < width; ++x) {
      const uint8_t* colour = kQuarters[2 * (2 * y >= height) + (2 * x >= width)];
      rgb.insert(rgb.end(), colour, colour + 3);
    }
  return rgb;
}

// Which quarter's colour is in the middle of each quarter of the picture, row by row.
std::vector<int> QuartersSeen(const Bytes& rgb, int width, int height) {
  std::vector<int> seen;
  for (int q = 0; q < 4; ++q) {
    const int x = width / 4 + (q % 2) * (width / 2), y = height / 4 + (q / 2) * (height / 2);
    const uint8_t* pixel = &rgb[3 * (size_t{1} * y * width + x)];
    int best = -1;
    for (int k = 0; k < 4; ++k) {
      int distance = 0;
      for (int c = 0; c < 3; ++c)
        distance = std::max(distance, std::abs(pixel[c] - kQuarters[k][c]));
      if (distance <= 12) best = k;
    }
    seen.push_back(best);
  }
  return seen;
}

// ITU-R BT.601 / BT.709 luma and chroma of an RGB colour, in TV or full range.
void FillYuv(AVFrame* frame, const Bytes& rgb, double kr, double kb, bool full) {
  for (int y = 0; y < frame->height; ++y)
    for (int x = 0; x < frame->width; ++x) {
      const uint8_t* p = &rgb[3 * (size_t{1} * y * frame->width + x)];
      const double r = p[0] / 255.0, g = p[1] / 255.0, b = p[2] / 255.0;
      const double luma = kr * r + (1 - kr - kb) * g + kb * b;
      const double cb = (b - luma) / (2 * (1 - kb)), cr = (r - luma) / (2 * (1 - kr));
      const auto put = [&](int plane, int px, int py, double value) {
        frame->data[plane][py * frame->linesize[plane] + px] =
            static_cast<uint8_t>(std::lround(std::clamp(value, 0.0, 255.0)));
      };
      put(0, x, y, full ? 255 * luma : 16 + 219 * luma);
      put(1, x / 2, y / 2, 128 + (full ? 255 : 224) * cb);
      put(2, x / 2, y / 2, 128 + (full ? 255 : 224) * cr);
    }
}

void WriteJpeg(const std::string& path, int width, int height) {
  EncodeFile(
      path,
      {.encoder = "mjpeg",
       .format = AV_PIX_FMT_YUVJ420P,
       .width = width,
       .height = height,
       .range = AVCOL_RANGE_JPEG,
       .times_ms = {0}},
      [&](int, AVFrame* frame) { FillYuv(frame, Quarters(width, height), 0.299, 0.114, true); });
}

// Puts an APP1 segment with one EXIF entry, the orientation, behind the start of a JPEG.
void AddExifOrientation(const std::string& path, uint8_t orientation) {
  Bytes jpeg = ReadBytes(path);
  const uint8_t tiff[] = {'M', 'M', 0, 42, 0, 0, 0,           8, 0, 1, 0x01, 0x12, 0,
                          3,   0,   0, 0,  1, 0, orientation, 0, 0, 0, 0,    0,    0};
  Bytes segment = {0xFF, 0xE1, 0, 2 + 6 + sizeof(tiff), 'E', 'x', 'i', 'f', 0, 0};
  segment.insert(segment.end(), std::begin(tiff), std::end(tiff));
  jpeg.insert(jpeg.begin() + 2, segment.begin(), segment.end());
  std::ofstream(path, std::ios::binary).write(reinterpret_cast<char*>(jpeg.data()), jpeg.size());
}

TEST(ReadImage, APngOfTheRightSizeIsUnchanged) {
  const TemporaryDirectory dir;
  const Bytes rgb = MovingGradient(1, 47, 61);
  ASSERT_TRUE(WritePng(dir / "p.png", rgb.data(), 61, 47).ok());
  const auto read = ReadImage(dir / "p.png", 61, 47);
  ASSERT_TRUE(read.ok()) << read.status().message();
  EXPECT_EQ(*read, rgb);
  const auto info = ProbePicture(dir / "p.png");
  ASSERT_TRUE(info.ok());
  EXPECT_EQ(info->width, 61);
  EXPECT_EQ(info->height, 47);
  EXPECT_EQ(info->fps, 0);
  EXPECT_EQ(info->duration_s, 0);
}

TEST(ReadImage, CoversAndCutsTheMiddle) {
  const TemporaryDirectory dir;
  const Bytes rgb = Quarters(120, 80);
  ASSERT_TRUE(WritePng(dir / "p.png", rgb.data(), 120, 80).ok());
  for (const auto& [width, height] :
       {std::pair{120, 80}, {60, 40}, {240, 160}, {64, 64}, {40, 120}, {200, 50}, {37, 53}}) {
    const auto read = ReadImage(dir / "p.png", width, height);
    ASSERT_TRUE(read.ok()) << read.status().message();
    ASSERT_EQ(read->size(), size_t{3} * width * height);
    EXPECT_THAT(QuartersSeen(*read, width, height), ElementsAre(0, 1, 2, 3)) << width << height;
    // The border between left and right stays in the middle.
    const uint8_t* row = &(*read)[0];
    const auto red = [&](int x) { return int{row[3 * x]}; };
    EXPECT_NEAR(red(width / 2 - width / 8), 220, 8);
    EXPECT_NEAR(red(width / 2 + width / 8), 30, 8);
  }
}

TEST(ReadImage, ScalesFaithfully) {
  const TemporaryDirectory dir;
  // The same smooth picture in two sizes; sampled in the middle of pixels.
  const auto wave = [](int width, int height) {
    Bytes rgb;
    for (int y = 0; y < height; ++y)
      for (int x = 0; x < width; ++x)
        for (int c = 0; c < 3; ++c)
          rgb.push_back(static_cast<uint8_t>(std::lround(
              127 + 100 * std::sin(5 * (x + 0.5) / width + 3 * (y + 0.5) / height + 2 * c))));
    return rgb;
  };
  const Bytes source = wave(200, 120);
  ASSERT_TRUE(WritePng(dir / "p.png", source.data(), 200, 120).ok());
  for (const auto& [width, height] : {std::pair{300, 180}, {150, 90}, {100, 60}, {50, 30}}) {
    const auto read = ReadImage(dir / "p.png", width, height);
    ASSERT_TRUE(read.ok());
    EXPECT_GT(Psnr(read->data(), wave(width, height).data(), int64_t{3} * width * height), 44)
        << width;
  }
}

TEST(ReadImage, TransparentPixelsLieOnWhite) {
  const TemporaryDirectory dir;
  EncodeFile(
      dir / "p.png",
      {.encoder = "png", .format = AV_PIX_FMT_RGBA, .width = 16, .height = 16, .times_ms = {0}},
      [](int, AVFrame* frame) {
        for (int y = 0; y < 16; ++y)
          for (int x = 0; x < 16; ++x) {
            const uint8_t pixel[] = {200, 0, 100, static_cast<uint8_t>(x < 8 ? 0 : 128)};
            std::memcpy(frame->data[0] + y * frame->linesize[0] + 4 * x, pixel, 4);
          }
      });
  const auto read = ReadImage(dir / "p.png", 16, 16);
  ASSERT_TRUE(read.ok()) << read.status().message();
  EXPECT_THAT(Bytes(&(*read)[0], &(*read)[3]), ElementsAre(255, 255, 255));
  EXPECT_THAT(Bytes(&(*read)[45], &(*read)[48]), ElementsAre(227, 127, 177));
}

TEST(ReadImage, GreyAndPaletteAndDeepPictures) {
  const TemporaryDirectory dir;
  const auto read_grey = [&](AVPixelFormat format, const std::function<void(AVFrame*)>& fill) {
    EncodeFile(dir / "p.png",
               {.encoder = "png", .format = format, .width = 8, .height = 8, .times_ms = {0}},
               [&](int, AVFrame* frame) { fill(frame); });
    const auto read = ReadImage(dir / "p.png", 8, 8);
    EXPECT_TRUE(read.ok()) << read.status().message();
    return read.ok() ? Bytes(read->begin(), read->begin() + 3) : Bytes();
  };
  EXPECT_THAT(read_grey(AV_PIX_FMT_GRAY8,
                        [](AVFrame* f) { std::memset(f->data[0], 250, 8 * f->linesize[0]); }),
              ElementsAre(250, 250, 250));
  EXPECT_THAT(read_grey(AV_PIX_FMT_RGB48BE,
                        [](AVFrame* f) { std::memset(f->data[0], 100, 8 * f->linesize[0]); }),
              ElementsAre(100, 100, 100));
  EXPECT_THAT(read_grey(AV_PIX_FMT_PAL8,
                        [](AVFrame* f) {
                          std::memset(f->data[0], 1, 8 * f->linesize[0]);
                          std::memset(f->data[1], 0xFF, AVPALETTE_SIZE);
                          reinterpret_cast<uint32_t*>(f->data[1])[1] = 0xFF0A141E;  // ARGB
                        }),
              ElementsAre(10, 20, 30));
}

TEST(ReadImage, JpegIsFullRangeAndTurnedByExif) {
  const TemporaryDirectory dir;
  const std::vector<int> seen[] = {{0, 1, 2, 3}, {1, 0, 3, 2}, {3, 2, 1, 0}, {2, 3, 0, 1},
                                   {0, 2, 1, 3}, {2, 0, 3, 1}, {3, 1, 2, 0}, {1, 3, 0, 2}};
  for (int orientation = 0; orientation <= 9; ++orientation) {
    WriteJpeg(dir / "p.jpg", 96, 64);
    if (orientation > 0) AddExifOrientation(dir / "p.jpg", static_cast<uint8_t>(orientation));
    const bool turned = orientation >= 5 && orientation <= 8;
    const int width = turned ? 64 : 96, height = turned ? 96 : 64;
    const auto info = ProbePicture(dir / "p.jpg");
    ASSERT_TRUE(info.ok()) << info.status().message();
    EXPECT_EQ(info->width, width);
    EXPECT_EQ(info->height, height);
    const auto read = ReadImage(dir / "p.jpg", width, height);
    ASSERT_TRUE(read.ok());
    const int known = orientation >= 1 && orientation <= 8 ? orientation - 1 : 0;
    EXPECT_EQ(QuartersSeen(*read, width, height), seen[known]) << orientation;
  }
}

TEST(ReadImage, WebP) {
  if (!avcodec_find_encoder_by_name("libwebp")) GTEST_SKIP() << "no libwebp in FFmpeg";
  const TemporaryDirectory dir;
  EncodeFile(dir / "p.webp",
             {.encoder = "libwebp",
              .format = AV_PIX_FMT_YUV420P,
              .width = 96,
              .height = 64,
              .times_ms = {0}},
             [&](int, AVFrame* frame) { FillYuv(frame, Quarters(96, 64), 0.299, 0.114, false); });
  const auto read = ReadImage(dir / "p.webp", 96, 64);
  ASSERT_TRUE(read.ok()) << read.status().message();
  EXPECT_THAT(QuartersSeen(*read, 96, 64), ElementsAre(0, 1, 2, 3));
}

TEST(ReadImage, MatrixAndRangeByTagElseBySize) {
  const TemporaryDirectory dir;
  struct Case {
    AVColorSpace matrix;
    AVColorRange range;
    int height;
    double kr, kb;
  };
  const Case cases[] = {
      {AVCOL_SPC_BT709, AVCOL_RANGE_MPEG, 64, 0.2126, 0.0722},
      {AVCOL_SPC_SMPTE170M, AVCOL_RANGE_MPEG, 64, 0.299, 0.114},
      {AVCOL_SPC_BT2020_NCL, AVCOL_RANGE_MPEG, 64, 0.2627, 0.0593},
      {AVCOL_SPC_BT709, AVCOL_RANGE_JPEG, 64, 0.2126, 0.0722},
      {AVCOL_SPC_UNSPECIFIED, AVCOL_RANGE_UNSPECIFIED, 64, 0.299, 0.114},
      {AVCOL_SPC_UNSPECIFIED, AVCOL_RANGE_UNSPECIFIED, 720, 0.2126, 0.0722},
  };
  for (const Case& c : cases) {
    EncodeFile(dir / "v.mkv",
               {.muxer = "matroska",
                .encoder = "ffv1",
                .format = AV_PIX_FMT_YUV420P,
                .width = 32,
                .height = c.height,
                .matrix = c.matrix,
                .range = c.range,
                .times_ms = {0}},
               [&](int, AVFrame* frame) {
                 FillYuv(frame, Quarters(32, c.height), c.kr, c.kb, c.range == AVCOL_RANGE_JPEG);
               });
    const auto read = ReadImage(dir / "v.mkv", 32, c.height);
    ASSERT_TRUE(read.ok()) << read.status().message();
    for (int quarter = 0; quarter < 4; ++quarter)
      for (int k = 0; k < 3; ++k) {
        const int x = 8 + 16 * (quarter % 2), y = c.height / 4 + c.height / 2 * (quarter / 2);
        EXPECT_NEAR((*read)[3 * (y * 32 + x) + k], kQuarters[quarter][k], 3)
            << c.matrix << " " << c.range << " " << c.height;
      }
  }
}

TEST(ReadImage, WidePixelsAndDisplayMatrices) {
  const TemporaryDirectory dir;
  EncodedFile file = {.muxer = "mp4",
                      .encoder = "mpeg4",
                      .format = AV_PIX_FMT_YUV420P,
                      .width = 96,
                      .height = 64,
                      .times_ms = {0, 40}};
  const auto fill = [](int, AVFrame* frame) {
    FillYuv(frame, Quarters(96, 64), 0.299, 0.114, false);
  };
  constexpr int32_t kOne = 1 << 16;
  file.display_matrix = {0, kOne, 0, -kOne, 0, 0, 0, 0, 1 << 30};  // a quarter clockwise
  EncodeFile(dir / "v.mp4", file, fill);
  auto info = ProbePicture(dir / "v.mp4");
  ASSERT_TRUE(info.ok()) << info.status().message();
  EXPECT_EQ(info->width, 64);
  EXPECT_EQ(info->height, 96);
  EXPECT_NEAR(info->duration_s, 0.08, 0.041);
  EXPECT_GT(info->fps, 0);
  auto read = ReadImage(dir / "v.mp4", 64, 96);
  ASSERT_TRUE(read.ok());
  EXPECT_THAT(QuartersSeen(*read, 64, 96), ElementsAre(2, 0, 3, 1));

  file.display_matrix = {};
  file.pixel_aspect = {2, 1};
  EncodeFile(dir / "v.mp4", file, fill);
  info = ProbePicture(dir / "v.mp4");
  ASSERT_TRUE(info.ok());
  EXPECT_EQ(info->width, 192);
  EXPECT_EQ(info->height, 64);
}

// Frame i of the video has the grey level 4 * i + 20.
void WriteLevels(const std::string& path, const std::vector<int64_t>& times_ms) {
  EncodeFile(path,
             {.muxer = "matroska",
              .encoder = "ffv1",
              .format = AV_PIX_FMT_GRAY8,
              .width = 16,
              .height = 16,
              .range = AVCOL_RANGE_JPEG,
              .times_ms = times_ms},
             [](int f, AVFrame* frame) {
               std::memset(frame->data[0], 4 * f + 20, 16 * frame->linesize[0]);
             });
}

std::vector<int> TailLevels(const std::string& path, double fps, int64_t frames_max) {
  const auto tail = ReadVideoTail(path, 16, 16, fps, frames_max);
  EXPECT_TRUE(tail.ok()) << tail.status().message();
  std::vector<int> frames;
  if (!tail.ok()) return frames;
  EXPECT_EQ(tail->rgb.size(), tail->frames * 3u * 16 * 16);
  for (int64_t f = 0; f < tail->frames; ++f)
    frames.push_back((tail->rgb[f * 3 * 16 * 16] - 20 + 2) / 4);
  return frames;
}

TEST(ReadVideoTail, TakesTheLastFramesNearestInTime) {
  const TemporaryDirectory dir;
  std::vector<int64_t> times_ms;
  for (int f = 0; f < 50; ++f) times_ms.push_back(1000 + 40 * f);  // 25 per second, starts at 1 s
  WriteLevels(dir / "v.mkv", times_ms);
  EXPECT_THAT(TailLevels(dir / "v.mkv", 25, 4), ElementsAre(46, 47, 48, 49));
  EXPECT_THAT(TailLevels(dir / "v.mkv", 25, 1), ElementsAre(49));
  EXPECT_THAT(TailLevels(dir / "v.mkv", 12.5, 3), ElementsAre(45, 47, 49));
  EXPECT_THAT(TailLevels(dir / "v.mkv", 50, 3), ElementsAre(48, ::testing::AnyOf(48, 49), 49));
  // 16 per second: 62.5 ms before the end lies between 1.5 and 2 frames back, and so on.
  EXPECT_THAT(TailLevels(dir / "v.mkv", 16, 4), ElementsAre(44, 46, 47, 49));
  EXPECT_EQ(TailLevels(dir / "v.mkv", 25, 1000).size(), 50u);
  EXPECT_EQ(TailLevels(dir / "v.mkv", 1, 1000).size(), 3u);  // 1.96 s: at 0, 1 and 2 s before
}

TEST(ReadVideoTail, FramesOfUnequalLength) {
  const TemporaryDirectory dir;
  WriteLevels(dir / "v.mkv", {0, 10, 20, 30, 1000, 1010, 1500, 2000});
  EXPECT_THAT(TailLevels(dir / "v.mkv", 4, 9), ElementsAre(0, 3, 3, 4, 4, 5, 6, 7, 7));
  EXPECT_THAT(TailLevels(dir / "v.mkv", 100, 3), ElementsAre(7, 7, 7));
}

// Long enough to be searched by time, with few key frames; every way to find the end must agree.
TEST(ReadVideoTail, SeekingFindsTheSameFrames) {
  const TemporaryDirectory dir;
  constexpr int kFrames = 100;
  const Bytes rgb = MovingGradient(kFrames, 64, 96);
  for (const char* name : {"v.mp4", "v.webm", "f.mp4", "v.gif", "v.y4m"}) {
    // libavfilter allocates for every colour of a frame, which takes half a minute there.
    if (mrt::testing::kSanitized && std::string(name) == "v.gif") continue;
    auto writer =
        VideoWriter::Open(dir / name, {.width = 96, .height = 64, .fragmented = *name == 'f'});
    ASSERT_TRUE(writer.ok());
    ASSERT_TRUE(writer->Write(rgb.data(), kFrames).ok());
    ASSERT_TRUE(writer->Finish().ok());
    const auto tail = ReadVideoTail(dir / name, 96, 64, 16, 10);
    ASSERT_TRUE(tail.ok()) << name << tail.status().message();
    ASSERT_EQ(tail->frames, 10) << name;
    constexpr int64_t kFrameBytes = int64_t{3} * 64 * 96;
    // Y4M does not say that its colours are BT.709, and at this size BT.601 is usual.
    const double least_db = std::string(name) == "v.y4m" ? 26 : 28;
    for (int64_t f = 0; f < 10; ++f)
      EXPECT_GT(
          Psnr(&tail->rgb[f * kFrameBytes], &rgb[(kFrames - 10 + f) * kFrameBytes], kFrameBytes),
          least_db)
          << name << f;
  }
}

TEST(ReadVideoTail, APictureIsAVideoOfOneFrame) {
  const TemporaryDirectory dir;
  const Bytes rgb = MovingGradient(1, 32, 32);
  ASSERT_TRUE(WritePng(dir / "p.png", rgb.data(), 32, 32).ok());
  const auto tail = ReadVideoTail(dir / "p.png", 32, 32, 16, 5);
  ASSERT_TRUE(tail.ok()) << tail.status().message();
  EXPECT_EQ(tail->frames, 1);
  EXPECT_EQ(tail->rgb, rgb);
}

TEST(ReadVideoTail, RefusesBadNumbers) {
  const TemporaryDirectory dir;
  ASSERT_TRUE(WritePng(dir / "p.png", Bytes(12).data(), 2, 2).ok());
  const auto code = [&](int width, int height, double fps, int64_t frames) {
    return ReadVideoTail(dir / "p.png", width, height, fps, frames).status().code();
  };
  EXPECT_EQ(code(2, 2, 16, 1), StatusCode::kOk);
  EXPECT_EQ(code(0, 2, 16, 1), StatusCode::kInvalidArgument);
  EXPECT_EQ(code(2, 8193, 16, 1), StatusCode::kInvalidArgument);
  EXPECT_EQ(code(2, 2, 0, 1), StatusCode::kInvalidArgument);
  EXPECT_EQ(code(2, 2, NAN, 1), StatusCode::kInvalidArgument);
  EXPECT_EQ(code(2, 2, 1e9, 1), StatusCode::kInvalidArgument);
  EXPECT_EQ(code(2, 2, 16, 0), StatusCode::kInvalidArgument);
  EXPECT_EQ(ReadImage(dir / "p.png", -1, 2).status().code(), StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace mrt::media
