// Token ids against the golden data, and the limits of Encode.
#include "model/tokenizer/tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>

#include "tensor/checkpoint.h"

namespace mrt {
namespace {

const std::string kGolden = MRT_GOLDEN_DIR;
const std::string kUmt5Model = kGolden + "/umt5/google/umt5-xxl/spiece.model";
const std::string kToyModel =
    kGolden + "/toy_wan/wan_models/Wan2.1-T2V-1.3B/google/umt5-xxl/spiece.model";

Tokenizer LoadGolden(const std::string& path = kUmt5Model) {
  auto tokenizer = Tokenizer::Load(path);
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status().message();
  return std::move(tokenizer).value();
}

// The ids of the file's tensor `ids` (padded with 0) must be those of its text `text`.
void ExpectGoldenIds(const Tokenizer& tokenizer, const Checkpoint& file, const std::string& text,
                     const std::string& ids) {
  const ConstTensorView want = file.Find(ids);
  ASSERT_FALSE(want.empty()) << ids;
  const auto text_len = static_cast<int>(want.shape.elements());
  auto got = tokenizer.Encode(CleanPrompt(file.metadata().at(text)), text_len).value();
  EXPECT_LE(got.size(), static_cast<size_t>(text_len));
  got.resize(text_len, 0);
  EXPECT_THAT(got, ::testing::ElementsAreArray(want.as<int32_t>(), text_len)) << text;
}

TEST(Tokenizer, EncodesTheGoldenTexts) {
  const auto cases = Checkpoint::Open(kGolden + "/umt5/t5_cases.safetensors");
  ASSERT_TRUE(cases.ok()) << cases.status().message();
  const Tokenizer umt5 = LoadGolden(), toy = LoadGolden(kToyModel);
  for (const std::string n : {"0", "1", "2", "3"})
    ExpectGoldenIds(umt5, *cases, "text_" + n, "ids_" + n);
  for (const std::string n : {"0", "1", "2"}) {
    const auto run = Checkpoint::Open(kGolden + "/toy_wan/run_" + n + ".safetensors");
    ASSERT_TRUE(run.ok()) << run.status().message();
    ExpectGoldenIds(toy, *run, "prompt", "ids");
  }
}

TEST(Tokenizer, KeepsRoomForTheEnd) {
  const Tokenizer tokenizer = LoadGolden();
  EXPECT_EQ(tokenizer.vocabulary_size(), 390);
  EXPECT_THAT(tokenizer.Encode("", 8).value(), ::testing::ElementsAre(1));
  EXPECT_THAT(tokenizer.Encode("a red ball", 1).value(), ::testing::ElementsAre(1));
  const auto whole = tokenizer.Encode("a red ball", 100).value();
  ASSERT_GT(whole.size(), 3u);
  EXPECT_THAT(tokenizer.Encode("a red ball", 3).value(),
              ::testing::ElementsAre(whole[0], whole[1], 1));
}

TEST(Tokenizer, ReadsNoMoreOfAHugeTextThanItKeeps) {
  const Tokenizer tokenizer = LoadGolden();
  for (const std::string unit : {"a red ball ", "猫", "\xff", "x"}) {
    std::string text;
    while (text.size() < (1 << 20)) text += unit;
    const auto start = std::chrono::steady_clock::now();
    const auto ids = tokenizer.Encode(text, 512).value();
    const std::chrono::duration<double> taken_s = std::chrono::steady_clock::now() - start;
    EXPECT_LT(taken_s.count(), 5) << unit;  // 0.1 s on an idle machine
    ASSERT_EQ(ids.size(), 512u);
    const auto head = tokenizer.Encode(text.substr(0, 30000), 512).value();
    EXPECT_EQ(ids, head) << unit;
  }
}

}  // namespace
}  // namespace mrt
