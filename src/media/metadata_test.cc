#include "media/metadata.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "base/json.h"
#include "media/decode_for_test.h"
#include "media/video_writer.h"

namespace mrt::media {
namespace {

using testing::Decode;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::MovingGradient;
using testing::ReadBytes;
using testing::TemporaryDirectory;

TEST(CleanText, KeepsText) {
  for (const char* text :
       {"", "plain \"quoted\" \\ text", "two\nlines\tand a tab", "Ein Käfer 甲虫 🪲",
        "\xF4\x8F\xBF\xBF", "\xED\x9F\xBF\xEE\x80\x80"})
    EXPECT_EQ(CleanText(text), text);
}

TEST(CleanText, LeavesOutControlCharacters) {
  EXPECT_EQ(CleanText(std::string_view("a\0b\x1b[31mc\r\n\x7f\xC2\x85\xC2\xA0", 16)),
            "ab[31mc\n\xC2\xA0");
}

TEST(CleanText, ReplacesWhatIsNotUtf8) {
  const std::string r = "\xEF\xBF\xBD";
  EXPECT_EQ(CleanText("a\xFFz"), "a" + r + "z");
  EXPECT_EQ(CleanText("\xC0\x80"), r + r);                  // too long for its value
  EXPECT_EQ(CleanText("\xE0\x80\xAF"), r + r + r);          // likewise
  EXPECT_EQ(CleanText("\xED\xA0\x80"), r + r + r);          // half of a surrogate pair
  EXPECT_EQ(CleanText("\xF4\x90\x80\x80"), r + r + r + r);  // above U+10FFFF
  EXPECT_EQ(CleanText("\xE7\x94"), r + r);                  // cut
}

TEST(CleanText, CutsBetweenCharacters) {
  EXPECT_EQ(CleanText("aäz", 2), "a");
  EXPECT_EQ(CleanText("aäz", 3), "aä");
}

// The JSON library refuses to write text that is not UTF-8.
TEST(CleanText, AnyBytesBecomeUtf8) {
  std::mt19937 random(3);
  for (int i = 0; i < 2000; ++i) {
    std::string bytes(random() % 40, '\0');
    for (char& c : bytes) c = static_cast<char>(random() % 4 ? random() | 0x80 : random());
    EXPECT_NO_THROW(static_cast<void>(Json(CleanText(bytes)).dump()));
    EXPECT_EQ(CleanText(CleanText(bytes)), CleanText(bytes));
  }
}

TEST(TagsOf, NamesTheRun) {
  EXPECT_THAT(TagsOf({}), IsEmpty());
  const auto tags = TagsOf({{"prompt", "a \"ball\"\nbounces"}, {"seed", "7"}});
  ASSERT_EQ(tags.size(), 3u);
  EXPECT_EQ(tags[0].name + "=" + tags[0].text, "title=a \"ball\"");
  EXPECT_EQ(tags[1].name + "=" + tags[1].text, "description=a \"ball\"\nbounces");
  EXPECT_EQ(tags[2].name, "comment");
  EXPECT_EQ(ParseJson(tags[2].text), Json({{"prompt", "a \"ball\"\nbounces"}, {"seed", "7"}}));
}

// The tags of a file by small letters, as a demuxer sees them.
std::map<std::string, std::string> WriteAndReadTags(const std::string& path, bool fragmented,
                                                    const Metadata& metadata) {
  auto writer = VideoWriter::Open(
      path, {.width = 96, .height = 64, .fragmented = fragmented, .metadata = metadata});
  EXPECT_TRUE(writer.ok()) << writer.status().message();
  EXPECT_TRUE(writer->Write(MovingGradient(3, 64, 96).data(), 3).ok());
  EXPECT_TRUE(writer->Finish().ok());
  const auto video = Decode(path);
  EXPECT_EQ(video.frames.size(), 3u) << path;
  std::map<std::string, std::string> tags;
  for (const auto& [key, value] : video.tags) {
    std::string small = key;
    for (char& c : small) c = static_cast<char>(std::tolower(c));
    tags[small] = value;
  }
  return tags;
}

TEST(Metadata, IsInTheFile) {
  const TemporaryDirectory dir;
  const std::string prompt = "Ein \"Käfer\" \\ 甲虫\n🪲 läuft";
  std::string bad(1 << 20, 'x');  // 1 MB
  for (size_t i = 0; i < bad.size(); i += 7) bad[i] = static_cast<char>(i * 31);
  for (const std::string& text : {prompt, bad, std::string("\xff\0\x01", 3), std::string()}) {
    const Metadata metadata = {
        {"prompt", text}, {"seed", "7"}, {"model", "wan"}, {"k\x01\xff", "v"}};
    const Json all = {
        {"prompt", CleanText(text)}, {"seed", "7"}, {"model", "wan"}, {"k\xEF\xBF\xBD", "v"}};
    for (const char* name : {"v.mp4", "f.mp4", "v.webm", "v.gif"}) {
      const auto tags = WriteAndReadTags(dir / name, name == std::string("f.mp4"), metadata);
      ASSERT_TRUE(tags.count("comment")) << name;
      EXPECT_TRUE(ParseJson(tags.at("comment")) == all) << name;
      if (text != prompt || name == std::string("v.gif")) continue;
      EXPECT_EQ(tags.at("title"), "Ein \"Käfer\" \\ 甲虫");
      EXPECT_EQ(tags.at("description"), prompt);
    }
  }
}

TEST(Metadata, NothingIsWrittenWithoutIt) {
  const TemporaryDirectory dir;
  for (const char* name : {"v.mp4", "f.mp4", "v.webm", "v.gif"}) {
    const auto tags = WriteAndReadTags(dir / name, name == std::string("f.mp4"), {});
    for (const char* key : {"title", "description", "comment"})
      EXPECT_FALSE(tags.count(key)) << name;
  }
}

// Chunk name -> data, in order; checks lengths and CRCs by the definition in the PNG specification.
std::vector<std::pair<std::string, std::string>> PngChunks(const std::vector<uint8_t>& png) {
  std::vector<std::pair<std::string, std::string>> chunks;
  const auto word = [&](size_t at) {
    return uint32_t{png[at]} << 24 | png[at + 1] << 16 | png[at + 2] << 8 | png[at + 3];
  };
  size_t at = 8;
  while (at + 12 <= png.size()) {
    const size_t bytes = word(at);
    if (at + 12 + bytes > png.size()) break;
    uint32_t crc = 0xFFFFFFFF;
    for (size_t i = at + 4; i < at + 8 + bytes; ++i) {
      crc ^= png[i];
      for (int bit = 0; bit < 8; ++bit) crc = crc & 1 ? crc >> 1 ^ 0xEDB88320 : crc >> 1;
    }
    EXPECT_EQ(~crc, word(at + 8 + bytes));
    chunks.emplace_back(std::string(&png[at + 4], &png[at + 8]),
                        std::string(&png[at + 8], &png[at + 8 + bytes]));
    at += 12 + bytes;
  }
  EXPECT_EQ(at, png.size());
  return chunks;
}

TEST(Metadata, IsInEachPng) {
  const TemporaryDirectory dir;
  for (const bool with : {true, false}) {
    VideoWriterOptions options = {.width = 96, .height = 64};
    if (with) options.metadata = {{"prompt", "Käfer\xff"}};
    auto writer = VideoWriter::Open(dir / "%d.png", options);
    ASSERT_TRUE(writer.ok());
    ASSERT_TRUE(writer->Write(MovingGradient(2, 64, 96).data(), 2).ok());
    ASSERT_TRUE(writer->Finish().ok());
    for (const char* name : {"0.png", "1.png"}) {
      EXPECT_EQ(Decode(dir / name).frames.size(), 1u);
      std::map<std::string, std::string> texts;
      const auto chunks = PngChunks(ReadBytes(dir / name));
      EXPECT_EQ(chunks.front().first, "IHDR");
      EXPECT_EQ(chunks.back().first, "IEND");
      for (const auto& [chunk, data] : chunks) {
        if (chunk != "iTXt") continue;
        const size_t end = data.find('\0');
        EXPECT_EQ(data.substr(end, 5), std::string(5, '\0'));
        texts[data.substr(0, end)] = data.substr(end + 5);
      }
      EXPECT_EQ(texts.size(), with ? 3u : 0u);
      if (!with) continue;
      EXPECT_EQ(texts["Description"], "Käfer\xEF\xBF\xBD");
      EXPECT_EQ(texts["Comment"], "{\"prompt\":\"Käfer\xEF\xBF\xBD\"}");
    }
  }
}

}  // namespace
}  // namespace mrt::media
