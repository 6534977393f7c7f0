#include "model/umt5/umt5.h"

#include <gtest/gtest.h>

#include "model/tokenizer/tokenizer.h"
#include "model/umt5/relative_bias.h"
#include "model/umt5/synthetic.h"
#include "testing/compare.h"

namespace mrt {
namespace {

using ops::Precision;
using testing::Compare;

const std::string kGolden = MRT_GOLDEN_DIR;
const std::string kUmt5 = kGolden + "/umt5/";
const std::string kToy = kGolden + "/toy_wan/wan_models/Wan2.1-T2V-1.3B/";
const std::string kWeights = "models_t5_umt5-xxl-enc-bf16.pth";
const std::string kPieces = "google/umt5-xxl/spiece.model";

// One text of the golden data: from its words to its rows.
struct GoldenText {
  std::string folder, text;
  std::vector<int32_t> ids;
  Tensor embedding;  // [text_len, dim]
};

std::vector<GoldenText> GoldenTexts() {
  std::vector<GoldenText> all;
  const auto add = [&](const std::string& folder, const Checkpoint& file, const std::string& text,
                       const std::string& ids, const std::string& embedding) {
    const ConstTensorView t = file.Find(ids);
    all.push_back({folder,
                   file.metadata().at(text),
                   {t.as<int32_t>(), t.as<int32_t>() + t.shape.elements()},
                   ToFloat32(file.Find(embedding))});
  };
  const auto cases = Checkpoint::Open(kUmt5 + "t5_cases.safetensors");
  EXPECT_TRUE(cases.ok()) << cases.status().message();
  for (const char* n : {"0", "1", "2", "3"})
    add(kUmt5, *cases, std::string("text_") + n, std::string("ids_") + n,
        std::string("embedding_") + n);
  for (const char* n : {"0", "1", "2"}) {
    const auto run = Checkpoint::Open(kGolden + "/toy_wan/run_" + n + ".safetensors");
    EXPECT_TRUE(run.ok()) << run.status().message();
    add(kToy, *run, "prompt", "ids", "context");
  }
  return all;
}

Tensor Encode(Precision precision, const GoldenText& golden) {
  auto checkpoint = Checkpoint::Open(golden.folder + kWeights);
  EXPECT_TRUE(checkpoint.ok()) << checkpoint.status().message();
  const auto encoder = Umt5Encoder::Open(std::move(*checkpoint));
  EXPECT_TRUE(encoder.ok()) << encoder.status().message();
  const auto tokenizer = Tokenizer::Load(golden.folder + kPieces);
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status().message();
  const int text_len = static_cast<int>(golden.ids.size());
  const std::vector<int32_t> ids = tokenizer->Encode(CleanPrompt(golden.text), text_len);
  ops::Context context(precision);
  auto rows = encoder->Encode(context, ids, text_len);
  EXPECT_TRUE(rows.ok()) << rows.status().message();
  return std::move(rows).value();
}

TEST(Umt5, EmbedsTheGoldenTexts) {
  for (const GoldenText& golden : GoldenTexts())
    EXPECT_LE(Compare(Encode(Precision::kF32, golden), golden.embedding).relative_l2, 1e-4)
        << golden.text;
}

}  // namespace
}  // namespace mrt
