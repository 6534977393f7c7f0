#include "pipeline/model_files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "model/umt5/synthetic.h"
#include "pipeline/device.h"
#include "pipeline/prompt_encoder.h"
#include "testing/expect_failure.h"
#include "testing/pt_writer.h"
#include "testing/temp_folder.h"

namespace mrt {
namespace {

using testing::BytesOf;
using testing::ExpectFailure;
using ::testing::HasSubstr;
using ::testing::Not;
using testing::PickleWriter;
using testing::PtTensor;

// One element of the storage 0, 1, 2, 3.
PtTensor Element(int64_t index) { return {"model.w", "FloatStorage", "0", 4, index, {1}, {1}}; }

class TransformerCheckpoint : public ::testing::Test {
 protected:
  // Opens a .pt file of these dictionaries, without a key.
  Result<Checkpoint> Open(const std::vector<std::pair<std::string, PtTensor>>& dictionaries) const {
    PickleWriter pickle;
    pickle.Raw("}(");
    for (const auto& [key, tensor] : dictionaries) pickle.String(key).Dict({tensor});
    const std::string path = folder_.Write(
        "w.pt", testing::PtFile(pickle.Raw("u").Finish(), {{"0", BytesOf<float>({0, 1, 2, 3})}}));
    return OpenTransformerCheckpoint(path, folder_.path(), folder_.path());
  }

  const testing::TempFolder folder_;
};

TEST_F(TransformerCheckpoint, PrefersTheAveragedWeights) {
  const auto both = Open({{"generator", Element(1)}, {"generator_ema", Element(2)}});
  ASSERT_TRUE(both.ok()) << both.status().message();
  EXPECT_EQ(ElementAsFloat(both->Find("w"), 0), 2);
  const auto one = Open({{"critic", Element(1)}, {"generator", Element(3)}});
  ASSERT_TRUE(one.ok()) << one.status().message();
  EXPECT_EQ(ElementAsFloat(one->Find("w"), 0), 3);
  ExpectFailure(Open({{"critic", Element(1)}}).status(), StatusCode::kNotFound,
                "the keys are: 'critic'");
}

// Other weights than the user's would be worse than none.
TEST_F(TransformerCheckpoint, DoesNotPassOverDamage) {
  const PtTensor outside = Element(4);
  ExpectFailure(Open({{"generator", Element(1)}, {"generator_ema", outside}}).status(),
                StatusCode::kBadData, "leave its storage");
  ExpectFailure(Open({{"generator", outside}}).status(), StatusCode::kBadData, "leave its storage");
}

TEST_F(TransformerCheckpoint, NamesEveryPlaceOnce) {
  const std::string tree = folder_.path("a/b"), model = folder_.path("a");
  const Status status = OpenTransformerCheckpoint("no.pt", model, tree).status();
  ExpectFailure(status, StatusCode::kNotFound, "no.pt is not in . or " + tree + " or " + model);
  ExpectFailure(OpenTransformerCheckpoint("no.pt", model, model).status(), StatusCode::kNotFound,
                "no.pt is not in . or " + model);
  EXPECT_THAT(OpenTransformerCheckpoint("no.pt", model, model).status().message(),
              Not(HasSubstr(model + " or " + model)));
}

TEST(PromptEncoder, NeedsARowForEveryPieceOfTheTokenizer) {
  const std::string tokenizer = std::string(MRT_GOLDEN_DIR) + "/umt5/google/umt5-xxl/spiece.model";
  const auto open = [&](int64_t rows) {
    const Umt5Config sizes = {.vocabulary = rows,
                              .dim = 32,
                              .dim_attn = 32,
                              .dim_ffn = 64,
                              .heads = 2,
                              .layers = 1,
                              .buckets = 32};
    ModelFiles files;
    files.config.text_dim = sizes.dim;
    files.config.text_len = 8;
    files.text_encoder = SyntheticUmt5(sizes);
    files.tokenizer_path = tokenizer;
    const auto device = Device::Open("cpu");
    EXPECT_TRUE(device.ok());
    return PromptEncoder::Open(files, {}, *device, 0).status();
  };
  EXPECT_TRUE(open(390).ok()) << open(390).message();
  EXPECT_TRUE(open(400).ok());
  ExpectFailure(open(389), StatusCode::kBadData, tokenizer + " has 390 pieces, ");
}

}  // namespace
}  // namespace mrt
