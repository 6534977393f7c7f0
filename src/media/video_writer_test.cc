#include "media/video_writer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <malloc.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <random>

#include "media/decode_for_test.h"
#include "media/ffmpeg.h"
#include "testing/guarded_buffer.h"

namespace mrt::media {
namespace {

using mrt::testing::GuardedBuffer;
using testing::Decode;
using testing::DecodedVideo;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::MovingGradient;
using testing::Psnr;
using testing::ReadBytes;
using testing::TemporaryDirectory;

const VideoWriterOptions kSmall = {.width = 96, .height = 64};

Status WriteVideo(const std::string& path, const VideoWriterOptions& options,
                  const std::vector<uint8_t>& rgb) {
  MRT_ASSIGN_OR_RETURN(VideoWriter writer, VideoWriter::Open(path, options));
  const int64_t frame_bytes = int64_t{3} * options.width * options.height;
  MRT_RETURN_IF_ERROR(writer.Write(rgb.data(), static_cast<int64_t>(rgb.size()) / frame_bytes));
  return writer.Finish();
}

std::vector<uint8_t> Noise(int64_t bytes) {
  std::mt19937 random(7);
  std::vector<uint8_t> noise(bytes);
  for (uint8_t& x : noise) x = static_cast<uint8_t>(random());
  return noise;
}

// Makes every file of this process end at `bytes`, as a full disk would, while it lives.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) {
    handler_ = signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &before_);
    const rlimit limit = {bytes, before_.rlim_max};
    EXPECT_EQ(setrlimit(RLIMIT_FSIZE, &limit), 0);
  }
  ~FileSizeLimit() {
    setrlimit(RLIMIT_FSIZE, &before_);
    signal(SIGXFSZ, handler_);
  }

 private:
  rlimit before_ = {};
  sighandler_t handler_ = SIG_DFL;
};

TEST(VideoWriter, WritesWhatPlayersExpect) {
  const TemporaryDirectory dir;
  constexpr int kFrames = 21, kHeight = 128, kWidth = 208;
  const auto rgb = MovingGradient(kFrames, kHeight, kWidth);
  const std::string path = dir / "a:b %d.mp4";  // no protocol, no pattern: a name
  ASSERT_TRUE(WriteVideo(path, {.width = kWidth, .height = kHeight, .fps = 16}, rgb).ok());
  EXPECT_THAT(dir.Files(), ElementsAre("a:b %d.mp4"));

  const DecodedVideo video = Decode(path);
  EXPECT_EQ(video.codec, AV_CODEC_ID_H264);
  EXPECT_EQ(video.pixel_format, AV_PIX_FMT_YUV420P);
  EXPECT_EQ(video.matrix, AVCOL_SPC_BT709);
  EXPECT_EQ(video.primaries, AVCOL_PRI_BT709);
  EXPECT_EQ(video.transfer, AVCOL_TRC_BT709);
  EXPECT_EQ(video.range, AVCOL_RANGE_MPEG);
  EXPECT_EQ(video.width, kWidth);
  EXPECT_EQ(video.height, kHeight);
  EXPECT_DOUBLE_EQ(video.fps, 16);
  EXPECT_NEAR(video.duration_s, kFrames / 16.0, 1e-6);
  const auto moov = std::find(video.boxes.begin(), video.boxes.end(), "moov");
  const auto mdat = std::find(video.boxes.begin(), video.boxes.end(), "mdat");
  EXPECT_LT(moov, mdat);  // the index is in front of the data
  EXPECT_NE(mdat, video.boxes.end());

  ASSERT_EQ(video.frames.size(), size_t{kFrames});
  constexpr int64_t kFrameBytes = int64_t{3} * kHeight * kWidth;
  for (int f = 0; f < kFrames; ++f) {
    EXPECT_NEAR(video.times_s[f], f / 16.0, 1e-6);
    EXPECT_GT(Psnr(video.rgb[f].data(), &rgb[f * kFrameBytes], kFrameBytes), 36) << f;
  }
}

// A wrong matrix, range or channel order is off by tens on these colours.
TEST(VideoWriter, KeepsColours) {
  const TemporaryDirectory dir;
  const uint8_t colours[][3] = {{0, 0, 0},   {255, 255, 255}, {255, 0, 0},
                                {0, 255, 0}, {0, 0, 255},     {90, 160, 30}};
  std::vector<uint8_t> rgb;
  for (const auto& colour : colours)
    for (int i = 0; i < kSmall.width * kSmall.height; ++i)
      rgb.insert(rgb.end(), colour, colour + 3);
  ASSERT_TRUE(WriteVideo(dir / "v.mp4", {.width = 96, .height = 64, .quality = "1"}, rgb).ok());
  const DecodedVideo video = Decode(dir / "v.mp4");
  ASSERT_EQ(video.rgb.size(), std::size(colours));
  for (size_t f = 0; f < std::size(colours); ++f)
    for (size_t i = 0; i < video.rgb[f].size(); ++i)
      ASSERT_NEAR(video.rgb[f][i], colours[f][i % 3], 3) << f;
}

// A ramp from grey to blue shows where a chroma sample sits: with the left pixel of its pair, not
// half a pixel further right.
TEST(VideoWriter, PlacesChromaLeft) {
  const TemporaryDirectory dir;
  std::vector<uint8_t> rgb;
  const auto blue = [](int x) { return std::clamp(2 * x, 0, 190); };
  for (int y = 0; y < kSmall.height; ++y)
    for (int x = 0; x < kSmall.width; ++x)
      for (int c = 0; c < 3; ++c) rgb.push_back(static_cast<uint8_t>(c == 2 ? blue(x) : 0));
  ASSERT_TRUE(WriteVideo(dir / "v.mp4", {.width = 96, .height = 64, .quality = "1"}, rgb).ok());
  const DecodedVideo video = Decode(dir / "v.mp4");
  ASSERT_EQ(video.frames.size(), 1u);
  const AVFrame& frame = *video.frames[0];
  double shift = 0;  // mean of decoded minus expected, in levels
  int count = 0;
  for (int y = 8; y < 24; ++y)
    for (int x = 8; x < 40; ++x, ++count)
      shift += frame.data[1][y * frame.linesize[1] + x] - (128 + 112 * blue(2 * x) / 255.0);
  const double half_pixel = 112 * 1.0 / 255;  // what chroma in the middle of the pair would give
  EXPECT_LT(std::abs(shift / count), half_pixel / 3);
}

// Also when fresh memory holds something else: see "cpu-independent" in the writer.
TEST(VideoWriter, EqualInputGivesEqualBytes) {
  const TemporaryDirectory dir;
  const auto rgb = MovingGradient(40, kSmall.height, kSmall.width);
  mallopt(M_PERTURB, 0x55);
  ASSERT_TRUE(WriteVideo(dir / "1.mp4", kSmall, rgb).ok());
  mallopt(M_PERTURB, 0x01);
  ASSERT_TRUE(WriteVideo(dir / "2.mp4", kSmall, rgb).ok());
  mallopt(M_PERTURB, 0);
  // In pieces, through a moved writer.
  auto opened = VideoWriter::Open(dir / "3.mp4", kSmall);
  ASSERT_TRUE(opened.ok());
  VideoWriter writer = std::move(*opened);
  constexpr int64_t kFrameBytes = int64_t{3} * 96 * 64;
  for (int64_t f = 0; f < 40; f += 4) ASSERT_TRUE(writer.Write(&rgb[f * kFrameBytes], 4).ok());
  ASSERT_TRUE(writer.Finish().ok());
  EXPECT_FALSE(ReadBytes(dir / "1.mp4").empty());
  EXPECT_EQ(ReadBytes(dir / "1.mp4"), ReadBytes(dir / "2.mp4"));
  EXPECT_EQ(ReadBytes(dir / "1.mp4"), ReadBytes(dir / "3.mp4"));
}

TEST(VideoWriter, EncodesWhileFramesCome) {
  const TemporaryDirectory dir;
  constexpr int kFrames = 30;
  VideoWriterOptions options = {.width = 320, .height = 240};
  const auto noise = Noise(int64_t{3} * options.width * options.height);
  auto writer = VideoWriter::Open(dir / "v.mp4", options);
  ASSERT_TRUE(writer.ok());
  for (int f = 0; f < kFrames; ++f) ASSERT_TRUE(writer->Write(noise.data(), 1).ok());
  EXPECT_FALSE(std::filesystem::exists(dir / "v.mp4"));
  const std::string folder = std::filesystem::canonical(dir.path());
  uintmax_t bytes = 0;  // of the file that this process writes there, with or without a name
  for (const auto& fd : std::filesystem::directory_iterator("/proc/self/fd")) {
    std::error_code ignored;
    if (std::filesystem::read_symlink(fd, ignored).string().starts_with(folder))
      bytes = std::filesystem::file_size(fd);
  }
  EXPECT_GT(bytes, noise.size() / 10);
}

TEST(VideoWriter, LeavesNothingWithoutFinishAndTheOldFileAlone) {
  const TemporaryDirectory dir;
  std::ofstream(dir / "v.mp4") << "old";
  {
    auto writer = VideoWriter::Open(dir / "v.mp4", kSmall);
    ASSERT_TRUE(writer.ok());
    ASSERT_TRUE(writer->Write(MovingGradient(5, 64, 96).data(), 5).ok());
  }
  EXPECT_THAT(dir.Files(), ElementsAre("v.mp4"));
  EXPECT_EQ(ReadBytes(dir / "v.mp4").size(), 3u);
  ASSERT_TRUE(WriteVideo(dir / "v.mp4", kSmall, MovingGradient(5, 64, 96)).ok());
  EXPECT_EQ(Decode(dir / "v.mp4").frames.size(), 5u);
}

TEST(VideoWriter, FileHasOrdinaryPermissions) {
  const TemporaryDirectory dir;
  const mode_t mask = umask(022);
  EXPECT_TRUE(WriteVideo(dir / "v.mp4", kSmall, MovingGradient(1, 64, 96)).ok());
  umask(mask);
  EXPECT_EQ(static_cast<int>(std::filesystem::status(dir / "v.mp4").permissions()), 0644);
}

// The limits hit at different moments: in the first data, in the middle, at the index.
TEST(VideoWriter, AFullDiskIsAnErrorAndLeavesNothing) {
  constexpr int kFrames = 60;
  const auto noise = Noise(int64_t{3} * 320 * 240 * kFrames);
  const VideoWriterOptions options = {.width = 320, .height = 240};
  int64_t size_bytes = 0;
  {
    const TemporaryDirectory dir;
    ASSERT_TRUE(WriteVideo(dir / "v.mp4", options, noise).ok());
    size_bytes = static_cast<int64_t>(std::filesystem::file_size(dir / "v.mp4"));
  }
  for (const int64_t limit : {size_bytes / 20, size_bytes / 3, size_bytes - 100}) {
    const TemporaryDirectory dir;
    const FileSizeLimit full_disk(static_cast<rlim_t>(limit));
    auto writer = VideoWriter::Open(dir / "v.mp4", options);
    ASSERT_TRUE(writer.ok());
    Status first = writer->Write(noise.data(), kFrames);
    if (first.ok()) first = writer->Finish();
    EXPECT_EQ(first.code(), StatusCode::kIoError) << limit;
    EXPECT_THAT(first.message(), HasSubstr("File too large"));
    EXPECT_THAT(dir.Files(), IsEmpty()) << limit;  // although the writer still lives
    EXPECT_EQ(writer->Write(noise.data(), 1).message(), first.message());
    EXPECT_EQ(writer->Finish().message(), first.message());
    EXPECT_THAT(dir.Files(), IsEmpty()) << limit;
  }
  const TemporaryDirectory dir;
  const FileSizeLimit full_disk(1);  // not even the first header fits
  EXPECT_EQ(VideoWriter::Open(dir / "v.mp4", options).status().code(), StatusCode::kIoError);
  EXPECT_THAT(dir.Files(), IsEmpty());
}

TEST(VideoWriter, RefusesBadOptionsBeforeAnythingIsMade) {
  const TemporaryDirectory dir;
  const auto code = [&](const std::string& name, VideoWriterOptions options) {
    return VideoWriter::Open(dir / name, options).status().code();
  };
  const auto with = [](auto member, auto value) {
    VideoWriterOptions options = kSmall;
    options.*member = value;
    return options;
  };
  using O = VideoWriterOptions;
  for (const int bad : {-2, 0, 1, 97, kSideMax + 2, 1 << 30}) {
    EXPECT_EQ(code("v.mp4", with(&O::width, bad)), StatusCode::kInvalidArgument) << bad;
    EXPECT_EQ(code("v.mp4", with(&O::height, bad)), StatusCode::kInvalidArgument) << bad;
  }
  for (const int bad : {-1, 0, 1000})
    EXPECT_EQ(code("v.mp4", with(&O::fps, bad)), StatusCode::kInvalidArgument);
  for (const char* bad : {"-1", "0", "52", "18.5", "HIGH", "18 "})
    EXPECT_EQ(code("v.mp4", with(&O::quality, bad)), StatusCode::kInvalidArgument) << bad;
  for (const int bad : {-1, 65})
    EXPECT_EQ(code("v.mp4", with(&O::threads, bad)), StatusCode::kInvalidArgument);
  for (const char* bad : {"quick", "fast "})
    EXPECT_EQ(code("v.mp4", with(&O::preset, bad)), StatusCode::kInvalidArgument);
  for (const char* bad : {"v", "v.avi", "v.mp4.bmp", ".mp4", "v.mp4/"})
    EXPECT_EQ(code(bad, kSmall), StatusCode::kInvalidArgument) << bad;
  EXPECT_THAT(VideoWriter::Open(dir / "v.avi", kSmall).status().message(), HasSubstr(".mp4"));
  EXPECT_EQ(VideoWriter::Open("", kSmall).status().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(code("missing/v.mp4", kSmall), StatusCode::kNotFound);
  std::filesystem::create_directory(dir / "folder.mp4");
  EXPECT_EQ(code("folder.mp4", kSmall), StatusCode::kInvalidArgument);
  EXPECT_EQ(VideoWriter::Open("/proc/v.mp4", kSmall).status().code(), StatusCode::kIoError);
  EXPECT_THAT(dir.Files(), ElementsAre("folder.mp4"));
  EXPECT_EQ(code("V.MP4", kSmall), StatusCode::kOk);
}

TEST(VideoWriter, RefusesWrongCalls) {
  const TemporaryDirectory dir;
  const auto rgb = MovingGradient(1, 64, 96);
  auto empty = VideoWriter::Open(dir / "v.mp4", kSmall);
  ASSERT_TRUE(empty.ok());
  EXPECT_TRUE(empty->Write(rgb.data(), 0).ok());
  EXPECT_EQ(empty->Write(rgb.data(), -1).code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(empty->Write(nullptr, 1).code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(empty->Finish().code(), StatusCode::kInvalidArgument);
  EXPECT_THAT(dir.Files(), IsEmpty());

  auto writer = VideoWriter::Open(dir / "v.mp4", kSmall);
  ASSERT_TRUE(writer.ok());
  ASSERT_TRUE(writer->Write(rgb.data(), 1).ok());
  ASSERT_TRUE(writer->Finish().ok());
  EXPECT_EQ(writer->Write(rgb.data(), 1).code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(writer->Finish().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(Decode(dir / "v.mp4").frames.size(), 1u);
}

TEST(VideoWriter, EverySmallSizeWorks) {
  const TemporaryDirectory dir;
  for (const auto& [width, height] : {std::pair{2, 2}, {2, 64}, {18, 10}, {50, 6}, {130, 2}}) {
    const auto rgb = MovingGradient(3, height, width);
    ASSERT_TRUE(WriteVideo(dir / "v.mp4", {.width = width, .height = height}, rgb).ok());
    const DecodedVideo video = Decode(dir / "v.mp4");
    EXPECT_EQ(video.frames.size(), 3u);
    EXPECT_EQ(video.width, width);
    EXPECT_EQ(video.height, height);
  }
}

// FFmpeg's colour conversion reads behind the last pixel; the writer must not let it.
TEST(VideoWriter, ReadsNoByteTooMany) {
  const TemporaryDirectory dir;
  for (const int width : {30, 64, 202}) {
    const auto frames = MovingGradient(2, 16, width);
    const GuardedBuffer memory(static_cast<int64_t>(frames.size()));
    auto* const rgb = static_cast<uint8_t*>(memory.data());
    std::copy(frames.begin(), frames.end(), rgb);
    auto writer = VideoWriter::Open(dir / "v.mp4", {.width = width, .height = 16});
    ASSERT_TRUE(writer.ok());
    EXPECT_TRUE(writer->Write(rgb, 2).ok());
    EXPECT_TRUE(writer->Finish().ok());
  }
}

TEST(Encoders, AreListedAndAMissingOneIsUnavailable) {
  EXPECT_THAT(AvailableEncoders(), ::testing::Contains("libx264"));
  const auto missing = FindEncoder("libmissing");
  EXPECT_EQ(missing.status().code(), StatusCode::kUnavailable);
  EXPECT_THAT(missing.status().message(), HasSubstr("libmissing"));
}

TEST(Ffmpeg, PrintsNothing) {
  const TemporaryDirectory dir;
  ::testing::internal::CaptureStderr();
  ::testing::internal::CaptureStdout();
  EXPECT_TRUE(WriteVideo(dir / "v.mp4", kSmall, MovingGradient(3, 64, 96)).ok());
  {
    const FileSizeLimit full_disk(1);
    EXPECT_FALSE(WriteVideo(dir / "v.mp4", kSmall, MovingGradient(3, 64, 96)).ok());
  }
  EXPECT_EQ(::testing::internal::GetCapturedStderr(), "");
  EXPECT_EQ(::testing::internal::GetCapturedStdout(), "");
}

}  // namespace
}  // namespace mrt::media
