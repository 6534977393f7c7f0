// Hostile and unusual spiece.model files.
#include "model/tokenizer/spiece_model.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <random>
#include <vector>

#include "model/tokenizer/tokenizer.h"

namespace mrt {
namespace {

using ::testing::HasSubstr;

const std::string kGoldenModel = std::string(MRT_GOLDEN_DIR) + "/umt5/google/umt5-xxl/spiece.model";

std::string ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

// A file of that content in the test's own folder.
class TemporaryFile {
 public:
  explicit TemporaryFile(const std::string& content) : path_(::testing::TempDir()) {
    const auto* test = ::testing::UnitTest::GetInstance()->current_test_info();
    path_ += std::string("/") + test->name() + ".model";
    std::ofstream(path_, std::ios::binary) << content;
  }
  ~TemporaryFile() { std::filesystem::remove(path_); }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

Result<Tokenizer> LoadBytes(const std::string& content) {
  return Tokenizer::Load(TemporaryFile(content).path());
}

std::string Varint(uint64_t value) {
  std::string out;
  for (; value >= 0x80; value >>= 7) out += static_cast<char>(value | 0x80);
  return out + static_cast<char>(value);
}

std::string BytesField(uint32_t number, const std::string& bytes) {
  return Varint(number << 3 | 2) + Varint(bytes.size()) + bytes;
}

std::string VarintField(uint32_t number, uint64_t value) {
  return Varint(number << 3) + Varint(value);
}

enum PieceType : uint64_t {
  kNormal = 1,
  kUnknown = 2,
  kControl = 3,
  kUserDefined = 4,
  kUnused = 5
};

std::string Piece(const std::string& text, uint64_t type, float score = 0) {
  std::string score_bytes(sizeof(score), '\0');
  std::memcpy(score_bytes.data(), &score, sizeof(score));
  return BytesField(1,
                    BytesField(1, text) + Varint(2 << 3 | 5) + score_bytes + VarintField(3, type));
}

std::string TrainerSpec(uint64_t model_type) { return BytesField(2, VarintField(3, model_type)); }

std::string NormalizerSpec(const std::string& charsmap) {
  return BytesField(3, BytesField(2, charsmap));
}

std::string SmallModel() {
  return Piece("<pad>", kControl) + Piece("</s>", kControl) + Piece("<unk>", kUnknown) +
         Piece("\u2581", kNormal, -1) + Piece("b", kNormal, -2) + Piece("\u2581a", kNormal, -1);
}

// A double array of 768 units: the root at 0 has its children from unit 256 on.
struct Trie {
  static constexpr uint32_t kMatchesNothing = 1u << 31;
  std::vector<uint32_t> units = std::vector<uint32_t>(768, kMatchesNothing);
  std::string strings;

  static uint32_t Unit(uint32_t offset, uint8_t label, bool leaf) {
    return offset << 10 | (leaf ? 1u << 8 : 0u) | label;
  }
  std::string Charsmap() const {
    const auto bytes = static_cast<uint32_t>(units.size() * sizeof(uint32_t));
    std::string out(sizeof(bytes) + bytes, '\0');
    std::memcpy(out.data(), &bytes, sizeof(bytes));
    std::memcpy(out.data() + sizeof(bytes), units.data(), bytes);
    return out + strings;
  }
};

// The rule "a" -> "b".
Trie RuleAToB() {
  Trie trie;
  trie.units[0] = Trie::Unit(256, 0, false);
  trie.units[256 + 'a'] = Trie::Unit((256 + 'a') ^ 512, 'a', true);  // its children from 512 on
  trie.units[512] = 1u << 31 | 0;                                    // value 0
  trie.strings = std::string("b\0", 2);
  return trie;
}

TEST(SpieceModel, LoadsASmallOne) {
  const auto tokenizer = LoadBytes(SmallModel());
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status().message();
  EXPECT_EQ(tokenizer->vocabulary_size(), 6);
  EXPECT_THAT(tokenizer->Encode("a b", 8).value(), ::testing::ElementsAre(5, 3, 4, 1));
  EXPECT_THAT(tokenizer->Encode("zz", 8).value(), ::testing::ElementsAre(3, 2, 1));  // unknown
}

TEST(SpieceModel, FollowsANormalizationRule) {
  const auto tokenizer = LoadBytes(SmallModel() + NormalizerSpec(RuleAToB().Charsmap()));
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status().message();
  EXPECT_THAT(tokenizer->Encode("a", 8).value(), ::testing::ElementsAre(3, 4, 1));
}

TEST(SpieceModel, RefusesWhatTheLibraryWouldTrust) {
  const std::string small = SmallModel();
  const struct {
    std::string file, message;
  } kCases[] = {
      {"", "got 0 pieces"},
      {"no protobuf at all", "protobuf"},
      {Piece("<pad>", kControl), "got 1 pieces"},
      {Piece("</s>", kControl) + Piece("<pad>", kControl), "piece 1 is not"},
      {Piece("<pad>", kControl) + Piece("</s>", kNormal), "piece 1 is not"},
      {Piece("<pad>", kControl) + Piece("</s>", kControl) + Piece("a", kNormal), "unk is not"},
      {small + Piece("b", kNormal), "already defined"},
      {small + Piece("", kNormal), "has 0 bytes"},
      {small + Piece(std::string("x\0y", 3), kNormal), "NUL"},
      {small + Piece("c", kNormal, NAN), "not finite"},
      {small + Piece("c", 7), "unknown type"},
      {small + Piece(std::string(65, 'x'), kUserDefined), "need 1 to 64"},
      {small + Piece(std::string(1025, 'x'), kNormal), "need 1 to 1024"},
      {small + TrainerSpec(2), "got model type 2"},
      {small + TrainerSpec((uint64_t{1} << 32) | 2), "got model type"},
      {small + BytesField(2, "\x0b\x0c"), "trainer_spec is damaged"},  // a group
      {small + NormalizerSpec("x"), "map has 1 bytes"},
      {small + NormalizerSpec(std::string(64, '\xff')), "trie has"},
  };
  for (const auto& c : kCases) {
    const auto tokenizer = LoadBytes(c.file);
    ASSERT_FALSE(tokenizer.ok()) << c.message;
    EXPECT_EQ(tokenizer.status().code(), monarchrt::StatusCode::kBadData);
    EXPECT_THAT(tokenizer.status().message(), HasSubstr(c.message));
  }
}

TEST(SpieceModel, RefusesTriesThatLeadOutside) {
  EXPECT_TRUE(CheckCharsmap(RuleAToB().Charsmap()).ok());
  const auto refused = [](auto change) {
    Trie trie = RuleAToB();
    change(&trie);
    return !CheckCharsmap(trie.Charsmap()).ok();
  };
  EXPECT_TRUE(refused([](Trie* t) { t->units.clear(); }));
  EXPECT_TRUE(refused([](Trie* t) { t->units.resize(700); }));
  EXPECT_TRUE(refused([](Trie* t) { t->units[0] = Trie::Unit(768, 0, false); }));
  EXPECT_TRUE(refused([](Trie* t) { t->units[512] = 1u << 31 | 2; }));  // value behind the strings
  EXPECT_TRUE(refused([](Trie* t) { t->strings = "b"; }));              // no NUL
  EXPECT_TRUE(refused([](Trie* t) { t->strings = std::string(300, 'b') + '\0'; }));
  // The children of "a" are those of the root: rules "a", "aa", "aaa" and so on without end, of
  // which the library would write more than its array holds.
  EXPECT_TRUE(refused([](Trie* t) {
    t->units[256 + 'a'] = Trie::Unit((256 + 'a') ^ 256, 'a', true);
    t->units[256] = 1u << 31 | 0;
  }));
}

// Random cuts and changes: refused or loaded, and what is loaded encodes. Nothing is printed.
TEST(SpieceModel, SurvivesDamage) {
  const std::string good = ReadFile(kGoldenModel);
  ASSERT_FALSE(good.empty());
  ::testing::internal::CaptureStderr();
  std::mt19937 random(1);
  const auto uniform = [&](size_t n) {
    return std::uniform_int_distribution<size_t>(0, n - 1)(random);
  };
  int loaded = 0;
  for (int round = 0; round < 300; ++round) {
    std::string bad = good;
    if (round % 3 == 0) bad.resize(uniform(good.size()));
    // The pieces fill the first few kilobytes; most of the rest is the normalizer's map.
    const size_t range = round % 3 == 1 ? 6000 : bad.size();
    for (size_t changes = 1 + uniform(8); changes > 0 && !bad.empty(); --changes)
      bad[uniform(std::min(range, bad.size()))] = static_cast<char>(uniform(256));
    const auto tokenizer = LoadBytes(bad);
    if (!tokenizer.ok()) {
      EXPECT_EQ(tokenizer.status().code(), monarchrt::StatusCode::kBadData);
      EXPECT_EQ(tokenizer.status().message().find('\n'), std::string::npos);
      continue;
    }
    ++loaded;
    const auto ids = tokenizer->Encode("A cat ½ ﷺ 猫 가 é\xff 🎈 ①Ⅷ", 64);
    ASSERT_TRUE(ids.ok()) << ids.status().message();
    for (const int32_t id : *ids) {
      EXPECT_GE(id, 0);
      EXPECT_LT(id, tokenizer->vocabulary_size());
    }
  }
  EXPECT_GT(loaded, 10);  // a change of a score or a replacement is no damage
  EXPECT_EQ(::testing::internal::GetCapturedStderr(), "");
}

TEST(SpieceModel, SaysWhatIsNoFile) {
  EXPECT_EQ(Tokenizer::Load("/nonexistent/spiece.model").status().code(),
            monarchrt::StatusCode::kNotFound);
  EXPECT_EQ(Tokenizer::Load(::testing::TempDir()).status().code(), monarchrt::StatusCode::kBadData);
}

}  // namespace
}  // namespace mrt
