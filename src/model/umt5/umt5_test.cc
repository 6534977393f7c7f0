// The UMT5 encoder against golden data, and everything a file or a caller can do wrong.
#include "model/umt5/umt5.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <string>

#include "model/tokenizer/tokenizer.h"
#include "model/umt5/relative_bias.h"
#include "model/umt5/synthetic.h"
#include "testing/compare.h"
#include "testing/fake_device.h"

namespace mrt {
namespace {

using monarchrt::StatusCode;
using ::mrt::testing::Compare;
using ops::Precision;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

const std::string kGolden = MRT_GOLDEN_DIR;
const std::string kUmt5 = kGolden + "/umt5/";
const std::string kToy = kGolden + "/toy_wan/wan_models/Wan2.1-T2V-1.3B/";
const std::string kWeights = "models_t5_umt5-xxl-enc-bf16.pth";
const std::string kPieces = "google/umt5-xxl/spiece.model";

Umt5Encoder OpenGolden(const std::string& folder) {
  auto checkpoint = Checkpoint::Open(folder + kWeights);
  EXPECT_TRUE(checkpoint.ok()) << checkpoint.status().message();
  auto encoder = Umt5Encoder::Open(std::move(*checkpoint));
  EXPECT_TRUE(encoder.ok()) << encoder.status().message();
  return std::move(encoder).value();
}

Tensor Encode(const Umt5Encoder& encoder, Precision precision, const std::vector<int32_t>& ids,
              int text_len) {
  ops::Context context(precision);
  auto rows = encoder.Encode(context, ids, text_len);
  EXPECT_TRUE(rows.ok()) << rows.status().message();
  return std::move(rows).value();
}

// One text of the golden data.
struct GoldenText {
  std::string folder, text;
  Tensor embedding;  // [text_len, dim]
};

std::vector<GoldenText> GoldenTexts() {
  std::vector<GoldenText> all;
  const auto cases = Checkpoint::Open(kUmt5 + "t5_cases.safetensors");
  EXPECT_TRUE(cases.ok()) << cases.status().message();
  for (const std::string n : {"0", "1", "2", "3"})
    all.push_back(
        {kUmt5, cases->metadata().at("text_" + n), ToFloat32(cases->Find("embedding_" + n))});
  for (const std::string n : {"0", "1", "2"}) {
    const auto run = Checkpoint::Open(kGolden + "/toy_wan/run_" + n + ".safetensors");
    EXPECT_TRUE(run.ok()) << run.status().message();
    all.push_back({kToy, run->metadata().at("prompt"), ToFloat32(run->Find("context"))});
  }
  return all;
}

// The relative error of every golden text, from its words to its rows.
std::vector<double> GoldenErrors(Precision precision) {
  std::vector<double> errors;
  for (const GoldenText& golden : GoldenTexts()) {
    const auto tokenizer = Tokenizer::Load(golden.folder + kPieces);
    EXPECT_TRUE(tokenizer.ok()) << tokenizer.status().message();
    const auto text_len = static_cast<int>(golden.embedding.shape()[0]);
    const auto ids = tokenizer->Encode(CleanPrompt(golden.text), text_len).value();
    const Tensor rows = Encode(OpenGolden(golden.folder), precision, ids, text_len);
    errors.push_back(Compare(rows, golden.embedding).relative_l2);
  }
  return errors;
}

TEST(Umt5, EmbedsTheGoldenTexts) {
  for (const double error : GoldenErrors(Precision::kF32)) EXPECT_LE(error, 1e-4);
}

TEST(Umt5, LosesNoMoreInBf16ThanRoundingCosts) {
  if (!ops::HasNativeBF16()) GTEST_SKIP() << "this CPU has no bfloat16";
  const auto native = GoldenErrors(Precision::kBF16),
             emulated = GoldenErrors(Precision::kBF16Emulated);
  for (size_t i = 0; i < native.size(); ++i) {
    EXPECT_GT(emulated[i], 1e-4);  // or nothing was rounded
    EXPECT_LE(native[i], 2 * emulated[i]) << "text " << i;
  }
}

constexpr Umt5Config kSmall{.vocabulary = 50,
                            .dim = 24,
                            .dim_attn = 32,
                            .dim_ffn = 40,
                            .heads = 4,
                            .layers = 2,
                            .buckets = 32};

Umt5Encoder Small(const Umt5Config& config = kSmall) {
  auto encoder = Umt5Encoder::Open(SyntheticUmt5(config));
  EXPECT_TRUE(encoder.ok()) << encoder.status().message();
  return std::move(encoder).value();
}

TEST(Umt5, ReadsItsSizesFromTheShapes) {
  const Umt5Config config = OpenGolden(kUmt5).config();
  EXPECT_EQ(config.vocabulary, 390);
  EXPECT_EQ(config.dim, 64);
  EXPECT_EQ(config.dim_attn, 64);
  EXPECT_EQ(config.dim_ffn, 128);
  EXPECT_EQ(config.heads, 4);
  EXPECT_EQ(config.layers, 3);
  EXPECT_EQ(config.buckets, 32);
  EXPECT_EQ(Small().config().dim_attn, 32);
}

TEST(Umt5, PaddingChangesNothingAndIsZero) {
  const Umt5Encoder encoder = Small();
  const std::vector<int32_t> ids = {7, 0, 49, 7, 1};
  const Tensor exact = Encode(encoder, Precision::kF32, ids, 5);
  const Tensor padded = Encode(encoder, Precision::kF32, ids, 9);
  EXPECT_EQ(Compare(padded.view().Slice(0, 5), exact).max_abs, 0);
  for (int64_t i = 5 * kSmall.dim; i < 9 * kSmall.dim; ++i) EXPECT_EQ(padded.as<float>()[i], 0);
  const Tensor nothing = Encode(encoder, Precision::kF32, {}, 3);
  for (int64_t i = 0; i < 3 * kSmall.dim; ++i) EXPECT_EQ(nothing.as<float>()[i], 0);
  EXPECT_EQ(Encode(encoder, Precision::kF32, {}, 0).shape()[0], 0);
}

TEST(Umt5, RefusesIdsThatAreNoTokens) {
  const Umt5Encoder encoder = Small();
  ops::Context context(Precision::kF32);
  const auto message = [&](std::vector<int32_t> ids, int text_len) {
    const auto rows = encoder.Encode(context, ids, text_len);
    EXPECT_EQ(rows.status().code(), StatusCode::kInvalidArgument);
    return rows.status().message();
  };
  EXPECT_THAT(message({1, 50}, 4), HasSubstr("got id 50, need 0 to 49"));
  EXPECT_THAT(message({-1}, 4), HasSubstr("got id -1"));
  EXPECT_THAT(message({1, 2, 3}, 2), HasSubstr("got 3 ids, need at most 2"));
  EXPECT_THAT(message({1}, -1), HasSubstr("need at most -1"));
}

// The weights `stored` in other dtypes go other ways through memory.
Checkpoint Converted(const Checkpoint& source, DType dtype) {
  Checkpoint converted;
  for (const auto& [name, tensor] : source.tensors()) {
    auto copy = std::make_shared<Tensor>(dtype, tensor.shape);
    for (int64_t i = 0; i < tensor.shape.elements(); ++i) {
      const float value = ElementAsFloat(tensor, i);
      if (dtype == DType::kF64) {
        static_cast<double*>(copy->view().data)[i] = value;
      } else {
        copy->as<float>()[i] = value;
      }
    }
    converted.Add(name, *copy, copy);
  }
  return converted;
}

TEST(Umt5, DoesNotCareHowItsWeightsAreStored) {
  const std::vector<int32_t> ids = {7, 0, 49, 7, 1};
  for (const Precision precision : {Precision::kF32, Precision::kBF16Emulated}) {
    const Tensor want = Encode(Small(), precision, ids, 5);
    for (const DType dtype : {DType::kF32, DType::kF64}) {
      const auto encoder = Umt5Encoder::Open(Converted(SyntheticUmt5(kSmall), dtype));
      ASSERT_TRUE(encoder.ok()) << encoder.status().message();
      // The sums run in another order, which in emulated bf16 may tip a rounding.
      const double allowed = precision == Precision::kF32 ? 1e-5 : 1e-2;
      EXPECT_LE(Compare(Encode(*encoder, precision, ids, 5), want).relative_l2, allowed);
    }
  }
}

// A checkpoint with some names changed; an empty new name leaves the tensor out.
Checkpoint Renamed(const Checkpoint& source,
                   const std::function<std::string(const std::string&)>& rename) {
  Checkpoint renamed;
  auto owner = std::make_shared<Checkpoint>(source);
  for (const auto& [name, tensor] : source.tensors())
    if (const std::string to = rename(name); !to.empty()) renamed.Add(to, tensor, owner);
  return renamed;
}

Status OpenWithout(const std::vector<std::string>& names) {
  return Umt5Encoder::Open(Renamed(SyntheticUmt5(kSmall),
                                   [&](const std::string& name) {
                                     const bool drop =
                                         std::find(names.begin(), names.end(), name) != names.end();
                                     return drop ? std::string() : name;
                                   }))
      .status();
}

TEST(Umt5, ListsAllMissingTensors) {
  const Status status =
      OpenWithout({"norm.weight", "blocks.0.attn.q.weight", "blocks.1.ffn.gate.0.weight",
                   "blocks.0.pos_embedding.embedding.weight"});
  EXPECT_EQ(status.code(), StatusCode::kNotFound);
  EXPECT_THAT(status.message(),
              AllOf(HasSubstr("4 tensors are missing"), HasSubstr("blocks.0.attn.q.weight"),
                    HasSubstr("blocks.1.ffn.gate.0.weight"), HasSubstr("norm.weight"),
                    HasSubstr("blocks.0.pos_embedding.embedding.weight")));
}

TEST(Umt5, SaysWhichTensorsGiveItsSizes) {
  const Status empty = Umt5Encoder::Open(Checkpoint()).status();
  EXPECT_EQ(empty.code(), StatusCode::kBadData);
  EXPECT_THAT(empty.message(), AllOf(HasSubstr("token_embedding.weight"), HasSubstr("attn.q"),
                                     HasSubstr("ffn.fc1"), HasSubstr("pos_embedding")));
  EXPECT_THAT(OpenWithout({"token_embedding.weight"}).message(),
              AllOf(HasSubstr("token_embedding.weight"), Not(HasSubstr("attn.q"))));
}

TEST(Umt5, RefusesBlocksWithAGapAndOddNames) {
  for (const std::string to :
       {"blocks.7.", "blocks.x.", "blocks..", "blocks.99999999999999999999."})
    EXPECT_THAT(Umt5Encoder::Open(Renamed(SyntheticUmt5(kSmall),
                                          [&](const std::string& name) {
                                            return name.starts_with("blocks.1.")
                                                       ? to + name.substr(9)
                                                       : name;
                                          }))
                    .status()
                    .message(),
                HasSubstr("without a gap"))
        << to;
  EXPECT_THAT(Umt5Encoder::Open(Renamed(SyntheticUmt5(kSmall),
                                        [](const std::string& name) {
                                          return name == "blocks.1.norm1.weight" ? "blocks.\x1b\n."
                                                                                 : name;
                                        }))
                  .status()
                  .message(),
              HasSubstr("got tensor 'blocks.\\x1b\\x0a.' but"));
}

TEST(Umt5, RefusesSizesThatDoNotFit) {
  const auto message = [](const std::string& name, const Shape& shape, DType dtype) {
    Checkpoint checkpoint = SyntheticUmt5(kSmall);
    auto tensor = std::make_shared<Tensor>(dtype, shape);
    checkpoint.Add(name, *tensor, tensor);
    return Umt5Encoder::Open(std::move(checkpoint)).status().message();
  };
  const std::string bias = "blocks.0.pos_embedding.embedding.weight";
  EXPECT_THAT(message(bias, {32, 5}, DType::kF32), HasSubstr("a multiple of 5 heads"));
  EXPECT_THAT(message(bias, {31, 4}, DType::kF32), HasSubstr("got 31 buckets"));
  EXPECT_THAT(message(bias, {1 << 20, 4}, DType::kF32), HasSubstr("buckets"));
  EXPECT_THAT(message("token_embedding.weight", {0, 24}, DType::kF32), HasSubstr("no sizes"));
  EXPECT_THAT(message("blocks.1.norm1.weight", {25}, DType::kF32),
              HasSubstr("blocks.1.norm1.weight (got F32 [25], need [24])"));
  EXPECT_THAT(message("blocks.1.attn.o.weight", {24, 32}, DType::kI32), HasSubstr("got I32"));
}

TEST(Umt5, TakesOnePositionBiasForAllLayers) {
  const auto shared_name = [](const std::string& name) -> std::string {
    if (name == "blocks.1.pos_embedding.embedding.weight") return "";
    return name.starts_with("blocks.0.pos") ? name.substr(9) : name;
  };
  Checkpoint twice = SyntheticUmt5(kSmall);  // the same bias, once per layer
  auto owner = std::make_shared<Checkpoint>(twice);
  twice.Add("blocks.1.pos_embedding.embedding.weight",
            owner->Find("blocks.0.pos_embedding.embedding.weight"), owner);
  const auto one = Umt5Encoder::Open(Renamed(SyntheticUmt5(kSmall), shared_name));
  const auto own = Umt5Encoder::Open(std::move(twice));
  ASSERT_TRUE(one.ok() && own.ok()) << one.status().message();
  const std::vector<int32_t> ids = {7, 8, 9, 1};
  EXPECT_EQ(
      Compare(Encode(*one, Precision::kF32, ids, 4), Encode(*own, Precision::kF32, ids, 4)).max_abs,
      0);
}

// Where the reference (in float32) goes to the next bucket.
TEST(RelativeBias, HasTheBordersOfTheReference) {
  const auto borders = [](int64_t buckets) {
    std::vector<int64_t> at;
    for (int64_t d = 2; d < 600; ++d) {
      EXPECT_EQ(RelativeBucket(d, buckets), RelativeBucket(-d, buckets) + buckets / 2);
      if (RelativeBucket(d, buckets) != RelativeBucket(d - 1, buckets)) at.push_back(d);
    }
    return at;
  };
  EXPECT_EQ(RelativeBucket(0, 32), 0);
  EXPECT_EQ(RelativeBucket(1, 32), 17);
  EXPECT_EQ(RelativeBucket(1 << 30, 32), 31);
  EXPECT_EQ(borders(32), (std::vector<int64_t>{2, 3, 4, 5, 6, 7, 8, 12, 16, 23, 32, 46, 64, 91}));
  EXPECT_EQ(borders(16), (std::vector<int64_t>{2, 3, 4, 10, 23, 54}));
  EXPECT_EQ(borders(8), (std::vector<int64_t>{2, 16}));
}

TEST(RelativeBias, IsTheTableAtTheBucket) {
  constexpr int64_t kTokens = 40, kHeads = 3, kBuckets = 32;
  Tensor table(DType::kF32, {kBuckets, kHeads});
  for (int64_t i = 0; i < kBuckets * kHeads; ++i) table.as<float>()[i] = static_cast<float>(i);
  Tensor bias(DType::kF32, {kHeads, 2 * kTokens - 1});
  FillRelativeBias(table, bias);
  for (int64_t h = 0; h < kHeads; ++h)
    for (int64_t d = 1 - kTokens; d < kTokens; ++d)
      ASSERT_EQ(bias.as<float>()[h * (2 * kTokens - 1) + d + kTokens - 1],
                static_cast<float>(RelativeBucket(d, kBuckets) * kHeads + h));
}

TEST(Umt5, OnADeviceGivesTheSameBits) {
  mrt::testing::FakeDevice device(Precision::kF32);
  const Umt5Encoder here = Small();
  {
    Umt5Encoder there = Small();
    ASSERT_TRUE(there.RunsOn(device));
    there.MoveMatrices(device);
    EXPECT_GE(device.allocated_bytes(), there.MatrixBytes());
    ops::Context context(Precision::kF32, &device);
    for (const int n : {1, 17}) {
      const std::vector<int32_t> ids(static_cast<size_t>(n), 3);
      const auto rows = there.Encode(context, ids, 20);
      ASSERT_TRUE(rows.ok()) << rows.status().message();
      const Tensor want = Encode(here, Precision::kF32, ids, 20);
      EXPECT_EQ(std::memcmp(rows->view().data, want.view().data, static_cast<size_t>(want.bytes())),
                0);
    }
    EXPECT_GT(device.operations(), 0);
  }
  EXPECT_EQ(device.allocated_bytes(), 0);
}

// Memory is that of one matrix and the activations, however many layers there are.
TEST(Umt5, PeakMemoryDoesNotGrowWithLayers) {
  Umt5Config wide = kSmall;
  wide.dim = 512;
  wide.dim_ffn = 4096;
  int64_t capacity[2], peak[2];
  for (int i = 0; i < 2; ++i) {
    wide.layers = i == 0 ? 1 : 5;
    const Umt5Encoder encoder = Small(wide);
    ops::Context context(Precision::kF32);
    ASSERT_TRUE(encoder.Encode(context, std::vector<int32_t>(200, 3), 200).ok());
    capacity[i] = context.arena().capacity_bytes();
    peak[i] = encoder.PeakBytes(Precision::kF32);
    EXPECT_LE(capacity[i], peak[i]);
  }
  EXPECT_EQ(capacity[0], capacity[1]);
  EXPECT_EQ(peak[0], peak[1]);
}

// The released size: the source takes the memory of one matrix, and so does the work.
TEST(SyntheticUmt5, HasTheReleasedSizeInLittleMemory) {
  const auto encoder = Umt5Encoder::Open(SyntheticUmt5(Umt5Xxl()));
  ASSERT_TRUE(encoder.ok()) << encoder.status().message();
  EXPECT_EQ(encoder->config().layers, 24);
  EXPECT_EQ(encoder->config().vocabulary, 256384);
  EXPECT_LT(encoder->PeakBytes(Precision::kBF16), int64_t{300} << 20);
  EXPECT_LT(encoder->PeakBytes(Precision::kF32), int64_t{500} << 20);
}

TEST(SyntheticUmt5, KeepsActivationsFinite) {
  const Umt5Encoder encoder = Small();
  const Tensor rows = Encode(encoder, Precision::kF32, {2, 3, 4, 1}, 4);
  double sum_sq = 0;
  for (int64_t i = 0; i < 4 * kSmall.dim; ++i)
    sum_sq += double{rows.as<float>()[i]} * rows.as<float>()[i];
  EXPECT_NEAR(std::sqrt(sum_sq / (4 * kSmall.dim)), 1.0, 0.5);  // the final norm's size
}

}  // namespace
}  // namespace mrt
