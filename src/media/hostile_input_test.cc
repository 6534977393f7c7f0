// Files that are not what they seem, for picture_reader.h.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <random>

#include "media/decode_for_test.h"
#include "media/image_writer.h"
#include "media/picture_reader.h"
#include "media/video_writer.h"

namespace mrt::media {
namespace {

using testing::EncodeFile;
using ::testing::HasSubstr;
using testing::MovingGradient;
using testing::ReadBytes;
using testing::TemporaryDirectory;
using Bytes = std::vector<uint8_t>;

void WriteBytes(const std::string& path, const Bytes& bytes) {
  std::ofstream(path, std::ios::binary)
      .write(reinterpret_cast<const char*>(bytes.data()), static_cast<int64_t>(bytes.size()));
}

// All three functions must agree that the file is bad; one line.
Status Refusal(const std::string& path) {
  const Status probe = ProbePicture(path).status();
  EXPECT_FALSE(probe.ok());
  EXPECT_EQ(ReadImage(path, 8, 8).status().code(), probe.code());
  EXPECT_EQ(ReadVideoTail(path, 8, 8, 16, 4).status().code(), probe.code());
  EXPECT_THAT(probe.message(), HasSubstr("[input]"));
  EXPECT_EQ(probe.message().find('\n'), std::string::npos);
  return probe;
}

TEST(HostileInput, WhatIsNoFileIsRefused) {
  const TemporaryDirectory dir;
  ASSERT_EQ(mkfifo((dir / "fifo").c_str(), 0666), 0);
  EXPECT_EQ(Refusal(dir / "missing.png").code(), StatusCode::kNotFound);
  EXPECT_EQ(Refusal("").code(), StatusCode::kNotFound);
  EXPECT_EQ(Refusal(dir.path()).code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(Refusal(dir / "fifo").code(), StatusCode::kInvalidArgument);  // and does not wait
  EXPECT_EQ(Refusal("/dev/zero").code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(Refusal("http://localhost/a.png").code(), StatusCode::kNotFound);
  EXPECT_EQ(Refusal("concat:a.png|b.png").code(), StatusCode::kNotFound);
}

TEST(HostileInput, WhatIsNoPictureIsRefused) {
  const TemporaryDirectory dir;
  std::ofstream(dir / "empty.png");
  std::ofstream(dir / "text.png") << "This is a text, and a rather long one.\n";
  std::ofstream(dir / "zeros.mp4") << std::string(100000, '\0');
  std::mt19937 random(5);
  Bytes noise(100000);
  for (uint8_t& x : noise) x = static_cast<uint8_t>(random());
  WriteBytes(dir / "noise.mp4", noise);
  for (const char* name : {"empty.png", "text.png", "zeros.mp4", "noise.mp4"})
    EXPECT_EQ(Refusal(dir / name).code(), StatusCode::kBadData) << name;
}

// Each of these would make FFmpeg read another file.
TEST(HostileInput, FilesThatNameOtherFilesAreRefused) {
  const TemporaryDirectory dir;
  ASSERT_TRUE(WritePng(dir / "p.png", MovingGradient(1, 8, 8).data(), 8, 8).ok());
  const std::string real = dir / "p.png";
  std::ofstream(dir / "list.m3u8") << "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n"
                                   << real << "\n#EXT-X-ENDLIST\n";
  std::ofstream(dir / "list.ffconcat") << "ffconcat version 1.0\nfile '" << real << "'\n";
  std::ofstream(dir / "list.sdp") << "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\n"
                                     "t=0 0\nm=video 5004 RTP/AVP 96\n";
  std::ofstream(dir / "list.mpd")
      << "<?xml version=\"1.0\"?><MPD xmlns=\"urn:mpeg:dash:schema:mpd:2011\" type=\"static\">"
         "<Period><AdaptationSet><Representation><BaseURL>p.png</BaseURL></Representation>"
         "</AdaptationSet></Period></MPD>";
  for (const char* name : {"list.m3u8", "list.ffconcat", "list.sdp", "list.mpd"})
    EXPECT_EQ(Refusal(dir / name).code(), StatusCode::kBadData) << name;
}

TEST(HostileInput, SoundAloneIsRefused) {
  const TemporaryDirectory dir;
  AVFormatContext* raw = nullptr;
  ASSERT_GE(avformat_alloc_output_context2(&raw, nullptr, "matroska", nullptr), 0);
  {
    const OutputPtr muxer(raw);
    AVStream* stream = avformat_new_stream(raw, nullptr);
    stream->codecpar->codec_type = AVMEDIA_TYPE_AUDIO;
    stream->codecpar->codec_id = AV_CODEC_ID_PCM_S16LE;
    stream->codecpar->sample_rate = 8000;
    av_channel_layout_default(&stream->codecpar->ch_layout, 1);
    ASSERT_GE(avio_open(&raw->pb, ("file:" + (dir / "a.mkv")).c_str(), AVIO_FLAG_WRITE), 0);
    ASSERT_GE(avformat_write_header(raw, nullptr), 0);
    const PacketPtr packet(av_packet_alloc());
    ASSERT_GE(av_new_packet(packet.get(), 1600), 0);
    packet->pts = packet->dts = 0;
    ASSERT_GE(av_write_frame(raw, packet.get()), 0);
    ASSERT_GE(av_write_trailer(raw), 0);
  }
  const Status status = Refusal(dir / "a.mkv");
  EXPECT_EQ(status.code(), StatusCode::kBadData);
  EXPECT_THAT(status.message(), HasSubstr("holds no picture or video"));
}

int64_t PeakResidentKib() {
  rusage usage = {};
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_maxrss;
}

void AppendWord(uint32_t value, Bytes* out) {
  for (int shift = 24; shift >= 0; shift -= 8) out->push_back(static_cast<uint8_t>(value >> shift));
}

// PNG specification: length, letters, data, CRC.
void AppendChunk(const std::string& letters, const Bytes& data, Bytes* png) {
  AppendWord(static_cast<uint32_t>(data.size()), png);
  Bytes body(letters.begin(), letters.end());
  body.insert(body.end(), data.begin(), data.end());
  uint32_t crc = 0xFFFFFFFF;
  for (const uint8_t byte : body) {
    crc ^= byte;
    for (int bit = 0; bit < 8; ++bit) crc = crc & 1 ? crc >> 1 ^ 0xEDB88320 : crc >> 1;
  }
  png->insert(png->end(), body.begin(), body.end());
  AppendWord(~crc, png);
}

// zlib data (RFC 1950, 1951) of one fixed-Huffman block: a zero, then `repeats` times "258 bytes as
// one byte ago" in 13 bits each.
Bytes ZlibOfZeros(int64_t repeats) {
  Bytes out = {0x78, 0x9C};
  uint8_t byte = 0;
  int used = 0;
  const auto put = [&](bool bit) {
    byte = static_cast<uint8_t>(byte | bit << used);
    if (++used == 8) {
      out.push_back(byte);
      byte = 0;
      used = 0;
    }
  };
  const auto put_all = [&](const char* bits) {
    for (; *bits; ++bits) put(*bits == '1');
  };
  put_all("110");       // last block, fixed codes
  put_all("00110000");  // the byte 0
  for (int64_t i = 0; i < repeats; ++i) put_all("1100010100000");
  put_all("0000000");  // end of block
  while (used) put(false);
  return out;  // without the checksum
}

Bytes PngHeader(uint32_t width, uint32_t height) {
  Bytes png = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1A, '\n'}, header;
  AppendWord(width, &header);
  AppendWord(height, &header);
  header.insert(header.end(), {8, 2, 0, 0, 0});  // 8 bits, RGB
  AppendChunk("IHDR", header, &png);
  return png;
}

// Sizes that would need gigabytes are refused by their number; texts that would grow to them are
// not unpacked.
TEST(HostileInput, BombsStayPacked) {
  const TemporaryDirectory dir;
  for (const auto& [width, height] : {std::pair{16385u, 16u},
                                      {16u, 16385u},
                                      {16384u, 16384u},
                                      {0x7FFFFFFFu, 0x7FFFFFFFu},
                                      {0u, 5u}}) {
    Bytes png = PngHeader(width, height);
    AppendChunk("IDAT", ZlibOfZeros(1000), &png);
    AppendChunk("IEND", {}, &png);
    WriteBytes(dir / "p.png", png);
    EXPECT_EQ(Refusal(dir / "p.png").code(), StatusCode::kBadData) << width << "x" << height;
  }
  const Bytes whole = [&] {
    EXPECT_TRUE(WritePng(dir / "p.png", MovingGradient(1, 16, 16).data(), 16, 16).ok());
    return ReadBytes(dir / "p.png");
  }();
  constexpr int64_t kRepeats = 2'000'000;  // 3 MB unpack to 516 MB
  for (const char* letters : {"zTXt", "iCCP", "iTXt"}) {
    Bytes data = {'a', 0, 0};
    if (letters[0] == 'i' && letters[1] == 'T') data = {'a', 0, 1, 0, 0, 0};
    const Bytes zeros = ZlibOfZeros(kRepeats);
    data.insert(data.end(), zeros.begin(), zeros.end());
    Bytes png(whole.begin(), whole.begin() + 33);  // the signature and IHDR
    AppendChunk(letters, data, &png);
    png.insert(png.end(), whole.begin() + 33, whole.end());
    WriteBytes(dir / "p.png", png);
    const int64_t before_kib = PeakResidentKib();
    EXPECT_TRUE(ReadImage(dir / "p.png", 16, 16).ok()) << letters;
    EXPECT_TRUE(ProbePicture(dir / "p.png").ok()) << letters;
    EXPECT_LT(PeakResidentKib() - before_kib, 100 << 10) << letters;
  }
}

// The files of the next two tests: name and content.
std::vector<std::pair<std::string, Bytes>> GoodFiles(const TemporaryDirectory& dir) {
  std::vector<std::pair<std::string, Bytes>> files;
  const Bytes rgb = MovingGradient(12, 64, 96);
  for (const char* name : {"v.mp4", "f.mp4", "v.webm", "v.gif", "v.y4m", "%d.png"}) {
    auto writer =
        VideoWriter::Open(dir / name, {.width = 96, .height = 64, .fragmented = *name == 'f'});
    EXPECT_TRUE(writer.ok());
    EXPECT_TRUE(writer->Write(rgb.data(), 12).ok());
    EXPECT_TRUE(writer->Finish().ok());
    const std::string written = *name == '%' ? "0.png" : name;
    files.emplace_back(written, ReadBytes(dir / written));
  }
  EncodeFile(dir / "p.jpg",
             {.encoder = "mjpeg",
              .format = AV_PIX_FMT_YUVJ420P,
              .width = 96,
              .height = 64,
              .range = AVCOL_RANGE_JPEG,
              .times_ms = {0}},
             [](int, AVFrame* frame) {
               for (int plane = 0; plane < 3; ++plane)
                 for (int i = 0; i < frame->linesize[plane] * (plane ? 32 : 64); ++i)
                   frame->data[plane][i] = static_cast<uint8_t>(i * 7);
             });
  files.emplace_back("p.jpg", ReadBytes(dir / "p.jpg"));
  return files;
}

TEST(HostileInput, CutFilesAreRefusedOrGiveWhatIsThere) {
  const TemporaryDirectory dir;
  for (const auto& [name, bytes] : GoodFiles(dir)) {
    EXPECT_TRUE(ReadImage(dir / name, 96, 64).ok()) << name;
    const bool is_still = name == "0.png" || name == "p.jpg";
    for (size_t part = 0; part < 16; ++part) {
      const size_t cut = bytes.size() * part / 16;
      WriteBytes(dir / "cut", Bytes(bytes.begin(), bytes.begin() + static_cast<int64_t>(cut)));
      const auto image = ReadImage(dir / "cut", 96, 64);
      const auto tail = ReadVideoTail(dir / "cut", 96, 64, 16, 12);
      if (is_still) {
        EXPECT_EQ(image.status().code(), StatusCode::kBadData) << name << " " << cut;
      }
      if (name == "v.mp4") {
        EXPECT_FALSE(image.ok() && part < 2);  // no index
      }
      if (tail.ok()) {
        EXPECT_LE(tail->frames, 12);
      }
    }
  }
}

TEST(HostileInput, DamagedFilesNeverCrash) {
  const TemporaryDirectory dir;
  std::mt19937 random(11);
  for (const auto& [name, bytes] : GoodFiles(dir))
    for (int round = 0; round < 60; ++round) {
      Bytes bad = bytes;
      for (unsigned flips = 1 + random() % 8; flips > 0; --flips) {
        // Half of them in the header.
        const size_t end = random() % 2 ? std::min<size_t>(bad.size(), 400) : bad.size();
        bad[random() % end] = static_cast<uint8_t>(random());
      }
      WriteBytes(dir / "bad", bad);
      const auto tail = ReadVideoTail(dir / "bad", 16, 16, 16, 4);
      if (!tail.ok()) {
        EXPECT_THAT(tail.status().message(), HasSubstr("[input]"));
      }
      static_cast<void>(ReadImage(dir / "bad", 16, 16));
    }
}

}  // namespace
}  // namespace mrt::media
