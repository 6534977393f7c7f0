// Every format through a real decoder: colours, times, tags, pipes, partial runs.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <malloc.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <thread>

#include "media/decode_for_test.h"
#include "media/video_writer.h"

namespace mrt::media {
namespace {

using testing::Decode;
using testing::DecodedVideo;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::MovingGradient;
using testing::Psnr;
using testing::ReadBytes;
using testing::TemporaryDirectory;

constexpr int kWidth = 96, kHeight = 64;
constexpr int64_t kFrameBytes = int64_t{3} * kWidth * kHeight;

struct FormatCase {
  const char* name;  // of the file
  const char* codec;
  bool fragmented;
  bool pipe;  // may go to one
  AVCodecID decoded_as;
  double psnr_min;  // dB, of the worst frame
};
void PrintTo(const FormatCase& c, std::ostream* out) { *out << c.name << " " << c.codec; }

const FormatCase kCases[] = {
    {"v.mp4", "h264", false, false, AV_CODEC_ID_H264, 36},
    {"v.mp4", "h264", true, true, AV_CODEC_ID_H264, 36},
    {"v.mp4", "av1", false, false, AV_CODEC_ID_AV1, 35},
    {"v.mp4", "av1", true, true, AV_CODEC_ID_AV1, 35},
    {"v.webm", "vp9", false, true, AV_CODEC_ID_VP9, 35},
    {"v.webm", "av1", false, true, AV_CODEC_ID_AV1, 35},
    {"v.gif", "", false, true, AV_CODEC_ID_GIF, 29},
    {"v.y4m", "", false, true, AV_CODEC_ID_RAWVIDEO, 40},
};

VideoWriterOptions OptionsOf(const FormatCase& c) {
  return {.width = kWidth, .height = kHeight, .codec = c.codec, .fragmented = c.fragmented};
}

// Writes in pieces of `piece` frames.
Status WriteInPieces(const std::string& path, const VideoWriterOptions& options,
                     const std::vector<uint8_t>& rgb, int64_t piece = 1 << 20) {
  MRT_ASSIGN_OR_RETURN(VideoWriter writer, VideoWriter::Open(path, options));
  const auto frames = static_cast<int64_t>(rgb.size()) / kFrameBytes;
  for (int64_t at = 0; at < frames; at += piece)
    MRT_RETURN_IF_ERROR(writer.Write(&rgb[at * kFrameBytes], std::min(piece, frames - at)));
  return writer.Finish();
}

void ExpectFrames(const DecodedVideo& video, const std::vector<uint8_t>& rgb, double psnr_min) {
  for (size_t f = 0; f < video.rgb.size(); ++f)
    EXPECT_GT(Psnr(video.rgb[f].data(), &rgb[f * kFrameBytes], kFrameBytes), psnr_min) << f;
}

class EveryFormat : public ::testing::TestWithParam<FormatCase> {};
INSTANTIATE_TEST_SUITE_P(All, EveryFormat, ::testing::ValuesIn(kCases));

std::vector<FormatCase> PipeCases() {
  std::vector<FormatCase> cases;
  for (const FormatCase& c : kCases)
    if (c.pipe) cases.push_back(c);
  return cases;
}
class OutputStream : public ::testing::TestWithParam<FormatCase> {};
INSTANTIATE_TEST_SUITE_P(All, OutputStream, ::testing::ValuesIn(PipeCases()));

TEST_P(EveryFormat, DecodesToTheSameFrames) {
  const TemporaryDirectory dir;
  const FormatCase& c = GetParam();
  constexpr int kFrames = 37;  // over 2 s, so that fragments and key frames repeat
  const auto rgb = MovingGradient(kFrames, kHeight, kWidth);
  const Status status = WriteInPieces(dir / c.name, OptionsOf(c), rgb, 12);
  ASSERT_TRUE(status.ok()) << status.message();
  EXPECT_THAT(dir.Files(), ElementsAre(c.name));
  const DecodedVideo video = Decode(dir / c.name);
  EXPECT_EQ(video.codec, c.decoded_as);
  EXPECT_EQ(video.width, kWidth);
  EXPECT_EQ(video.height, kHeight);
  ASSERT_EQ(video.frames.size(), size_t{kFrames});
  ExpectFrames(video, rgb, c.psnr_min);
  const double time_unit_s = c.decoded_as == AV_CODEC_ID_GIF ? 0.01 : 0.001;
  for (int f = 0; f < kFrames; ++f) EXPECT_NEAR(video.times_s[f], f / 16.0, time_unit_s) << f;
  EXPECT_NEAR(video.duration_s, kFrames / 16.0, 0.011);
  const bool has_tags = std::string(c.name) == "v.mp4" || std::string(c.name) == "v.webm";
  if (has_tags) {
    EXPECT_EQ(video.matrix, AVCOL_SPC_BT709);
    EXPECT_EQ(video.primaries, AVCOL_PRI_BT709);
    EXPECT_EQ(video.transfer, AVCOL_TRC_BT709);
    EXPECT_EQ(video.range, AVCOL_RANGE_MPEG);
  }
}

TEST_P(EveryFormat, KeepsColours) {
  const TemporaryDirectory dir;
  const FormatCase& c = GetParam();
  const uint8_t colours[][3] = {{255, 0, 0}, {0, 255, 0}, {0, 0, 255}, {90, 160, 30}};
  std::vector<uint8_t> rgb;
  for (const auto& colour : colours)
    for (int i = 0; i < kWidth * kHeight; ++i) rgb.insert(rgb.end(), colour, colour + 3);
  VideoWriterOptions options = OptionsOf(c);
  if (*c.codec) options.quality = "1";
  ASSERT_TRUE(WriteInPieces(dir / c.name, options, rgb).ok());
  const DecodedVideo video = Decode(dir / c.name);
  ASSERT_EQ(video.rgb.size(), std::size(colours));
  for (size_t f = 0; f < std::size(colours); ++f)
    for (size_t i = 0; i < video.rgb[f].size(); ++i)
      ASSERT_NEAR(video.rgb[f][i], colours[f][i % 3], 3) << f;
}

// What an interrupted run gives: one frame.
TEST_P(EveryFormat, OneFrameIsAVideo) {
  const TemporaryDirectory dir;
  const auto rgb = MovingGradient(1, kHeight, kWidth);
  ASSERT_TRUE(WriteInPieces(dir / GetParam().name, OptionsOf(GetParam()), rgb).ok());
  EXPECT_EQ(Decode(dir / GetParam().name).frames.size(), 1u);
}

TEST_P(EveryFormat, EqualInputGivesEqualBytes) {
  const TemporaryDirectory dir;
  const auto rgb = MovingGradient(20, kHeight, kWidth);
  const auto bytes = [&](int fill) {
    mallopt(M_PERTURB, fill);  // fresh memory holds something else
    EXPECT_TRUE(WriteInPieces(dir / GetParam().name, OptionsOf(GetParam()), rgb, 6).ok());
    mallopt(M_PERTURB, 0);
    return ReadBytes(dir / GetParam().name);
  };
  const auto first = bytes(0x55);
  EXPECT_FALSE(first.empty());
  EXPECT_TRUE(first == bytes(0x01));
}

TEST_P(EveryFormat, LeavesNothingBehindWithoutFinish) {
  const TemporaryDirectory dir;
  const auto rgb = MovingGradient(2, kHeight, kWidth);
  for (const int frames : {0, 1, 2}) {
    auto writer = VideoWriter::Open(dir / GetParam().name, OptionsOf(GetParam()));
    ASSERT_TRUE(writer.ok());
    EXPECT_THAT(dir.Files(), IsEmpty()) << frames;
    EXPECT_TRUE(writer->Write(rgb.data(), frames).ok());
    // Fragments are of use before the end, so they have their name, and stay.
    const bool stays = GetParam().fragmented && frames > 0;
    EXPECT_EQ(dir.Files().size(), stays ? 1u : 0u) << frames;
    if (!stays) continue;
    EXPECT_GT(std::filesystem::file_size(dir / GetParam().name), 0u);
    std::filesystem::remove(dir / GetParam().name);
  }
  EXPECT_THAT(dir.Files(), IsEmpty());
}

// A pipe cannot seek and may take less than is offered.
TEST_P(EveryFormat, APipeGetsAWholeVideo) {
  const FormatCase& c = GetParam();
  const TemporaryDirectory dir;
  VideoWriterOptions options = OptionsOf(c);
  options.format = std::filesystem::path(c.name).extension().string().substr(1);
  int ends[2];
  ASSERT_EQ(pipe2(ends, O_CLOEXEC | O_NONBLOCK), 0);
  auto writer = VideoWriter::OpenDescriptor(ends[1], options);
  if (!c.pipe) {
    EXPECT_EQ(writer.status().code(), StatusCode::kInvalidArgument);
    EXPECT_THAT(writer.status().message(), HasSubstr("pipe"));
    close(ends[0]), close(ends[1]);
    return;
  }
  ASSERT_TRUE(writer.ok()) << writer.status().message();
  fcntl(ends[0], F_SETFL, 0);  // only the writing end does not wait
  std::thread reader([&] {
    std::ofstream file(dir / c.name, std::ios::binary);
    char buffer[1000];
    for (ssize_t got; (got = read(ends[0], buffer, sizeof(buffer))) > 0;) file.write(buffer, got);
  });
  const auto rgb = MovingGradient(40, kHeight, kWidth);
  EXPECT_TRUE(writer->Write(rgb.data(), 25).ok());
  EXPECT_TRUE(writer->Write(&rgb[25 * kFrameBytes], 15).ok());
  EXPECT_TRUE(writer->Finish().ok());
  EXPECT_EQ(close(ends[1]), 0);  // left open by the writer
  reader.join();
  close(ends[0]);
  const DecodedVideo video = Decode(dir / c.name);
  EXPECT_EQ(video.frames.size(), 40u);
  ExpectFrames(video, rgb, c.psnr_min - 3);  // without look-ahead
}

// What Write() was given can be played when it returns.
TEST_P(OutputStream, PlaysWhileItGrows) {
  const FormatCase& c = GetParam();
  const TemporaryDirectory dir;
  VideoWriterOptions options = OptionsOf(c);
  options.format = std::filesystem::path(c.name).extension().string().substr(1);
  const int fd = open((dir / c.name).c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
  auto writer = VideoWriter::OpenDescriptor(fd, options);
  ASSERT_TRUE(writer.ok());
  EXPECT_THAT(ReadBytes(dir / c.name), IsEmpty());
  const auto rgb = MovingGradient(45, kHeight, kWidth);
  int sent = 0;
  for (const int frames : {9, 12, 1, 23}) {
    ASSERT_TRUE(writer->Write(&rgb[sent * kFrameBytes], frames).ok());
    sent += frames;
    const DecodedVideo video = Decode(dir / c.name);
    const int held_back = c.decoded_as == AV_CODEC_ID_GIF ? 1 : 0;  // its duration is not known
    EXPECT_EQ(video.frames.size(), static_cast<size_t>(sent - held_back));
    ExpectFrames(video, rgb, c.psnr_min - 3);
  }
  ASSERT_TRUE(writer->Finish().ok());
  EXPECT_EQ(Decode(dir / c.name).frames.size(), 45u);
  close(fd);
}

TEST_P(OutputStream, AReaderThatGoesAwayIsAnError) {
  const FormatCase& c = GetParam();
  VideoWriterOptions options = OptionsOf(c);
  options.format = std::filesystem::path(c.name).extension().string().substr(1);
  signal(SIGPIPE, SIG_DFL);
  int ends[2];
  ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
  auto writer = VideoWriter::OpenDescriptor(ends[1], options);
  ASSERT_TRUE(writer.ok());
  close(ends[0]);
  Status status = writer->Write(MovingGradient(30, kHeight, kWidth).data(), 30);
  if (status.ok()) status = writer->Finish();
  EXPECT_EQ(status.code(), StatusCode::kIoError);
  EXPECT_THAT(status.message(), HasSubstr("reader"));
  EXPECT_EQ(writer->Finish().message(), status.message());
  sigset_t left;
  sigpending(&left);
  EXPECT_FALSE(sigismember(&left, SIGPIPE));
  close(ends[1]);
}

TEST(RawRgb, IsTheFramesThemselves) {
  const TemporaryDirectory dir;
  const auto rgb = MovingGradient(5, kHeight, kWidth);
  ASSERT_TRUE(WriteInPieces(dir / "v.rgb", {.width = kWidth, .height = kHeight}, rgb, 2).ok());
  EXPECT_EQ(ReadBytes(dir / "v.rgb"), rgb);
  ASSERT_TRUE(
      WriteInPieces(dir / "v.bin", {.width = kWidth, .height = kHeight, .format = "rgb"}, rgb)
          .ok());
  EXPECT_EQ(ReadBytes(dir / "v.bin"), rgb);
}

TEST(PngFrames, ArePicturesInAFolderOrByAPattern) {
  const TemporaryDirectory dir;
  const auto rgb = MovingGradient(11, kHeight, kWidth);
  const VideoWriterOptions options = {.width = kWidth, .height = kHeight};
  ASSERT_TRUE(WriteInPieces(dir / "frames/", options, rgb, 4).ok());
  ASSERT_TRUE(WriteInPieces(dir / "f-%02d.png", options, rgb).ok());
  EXPECT_EQ(dir.Files().size(), 12u);
  for (int f = 0; f < 11; ++f) {
    const std::string digits = (f < 10 ? "0" : "") + std::to_string(f);
    for (const std::string& name : {"frames/000" + digits + ".png", "f-" + digits + ".png"}) {
      const DecodedVideo picture = Decode(dir / name);
      ASSERT_EQ(picture.rgb.size(), 1u) << name;
      EXPECT_TRUE(std::equal(picture.rgb[0].begin(), picture.rgb[0].end(), &rgb[f * kFrameBytes]));
    }
  }
  VideoWriterOptions named = options;
  named.format = "png";
  ASSERT_TRUE(WriteInPieces(dir / "frames", named, rgb).ok());  // there already: replaces its files
  ASSERT_TRUE(WriteInPieces(dir / "more", named, rgb).ok());
  EXPECT_EQ(dir.Files().size(), 13u);
}

TEST(PngFrames, RefuseAPlaceThatCannotBe) {
  const TemporaryDirectory dir;
  std::ofstream(dir / "file") << "x";
  const auto code = [&](const std::string& path) {
    return VideoWriter::Open(path, {.width = 8, .height = 8, .format = "png"}).status().code();
  };
  EXPECT_EQ(code(dir / "missing/frames"), StatusCode::kNotFound);
  EXPECT_EQ(code(dir / "missing/%d.png"), StatusCode::kOk);  // one folder is made
  EXPECT_EQ(code(dir / "file/%d.png"), StatusCode::kNotFound);
  EXPECT_EQ(code(dir / "file"), StatusCode::kNotFound);
  EXPECT_EQ(code("/proc/frames"), StatusCode::kIoError);
  EXPECT_THAT(dir.Files(), ElementsAre("file"));
}

TEST(Destination, MustBeAFileOrADescriptorForWriting) {
  const TemporaryDirectory dir;
  ASSERT_EQ(mkfifo((dir / "fifo.rgb").c_str(), 0666), 0);
  const VideoWriterOptions options = {.width = 8, .height = 8, .format = "rgb"};
  for (const std::string& path : {dir / "fifo.rgb", std::string("/dev/null"),
                                  std::string("/dev/stdout"), std::string("/dev/fd/1")}) {
    EXPECT_EQ(VideoWriter::Open(path, options).status().code(), StatusCode::kInvalidArgument)
        << path;
  }
  const int readable = open("/dev/null", O_RDONLY | O_CLOEXEC);
  for (const int fd : {-1, 12345, readable})
    EXPECT_EQ(VideoWriter::OpenDescriptor(fd, options).status().code(),
              StatusCode::kInvalidArgument);
  close(readable);
}

}  // namespace
}  // namespace mrt::media
