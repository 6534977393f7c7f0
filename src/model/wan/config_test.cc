#include "model/wan/config.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>

#include "model/wan/synthetic.h"
#include "testing/temp_folder.h"

namespace mrt {
namespace {

class WanConfigTest : public ::testing::Test {
 protected:
  WanConfigTest()
      : path_(std::filesystem::path(::testing::TempDir()) /
              (std::string("wan_config_") +
               ::testing::UnitTest::GetInstance()->current_test_info()->name() + ".json")) {}
  ~WanConfigTest() override { std::filesystem::remove(path_); }

  Result<WanConfig> Read(const std::string& json) {
    std::ofstream(path_, std::ios::binary) << json;
    return WanConfig::Read(path_.string(), checkpoint_);
  }
  void ExpectRefused(const std::string& json, StatusCode code, const std::string& word) {
    const Result<WanConfig> result = Read(json);
    ASSERT_FALSE(result.ok()) << json;
    EXPECT_EQ(result.status().code(), code) << result.status().message();
    EXPECT_NE(result.status().message().find(word), std::string::npos) << result.status().message();
    EXPECT_EQ(result.status().message().find('\n'), std::string::npos);
  }

  std::filesystem::path path_;
  const WanConfig small_ = {.dim = 96,
                            .ffn_dim = 160,
                            .freq_dim = 32,
                            .num_heads = 3,
                            .num_layers = 2,
                            .in_dim = 4,
                            .out_dim = 5,
                            .text_dim = 24,
                            .text_len = 7};
  Checkpoint checkpoint_ = SyntheticWan(small_);
};

TEST_F(WanConfigTest, DerivesFromTheTensorsWhatTheFileLeavesOut) {
  const Result<WanConfig> config = Read(R"({"num_heads": 3, "text_len": 7, "unknown": [1]})");
  ASSERT_TRUE(config.ok()) << config.status().message();
  EXPECT_EQ(config->dim, 96);
  EXPECT_EQ(config->ffn_dim, 160);
  EXPECT_EQ(config->freq_dim, 32);
  EXPECT_EQ(config->num_layers, 2);
  EXPECT_EQ(config->in_dim, 4);
  EXPECT_EQ(config->out_dim, 5);
  EXPECT_EQ(config->text_dim, 24);
  EXPECT_EQ(config->head_dim(), 32);
  EXPECT_EQ(config->patch_size, (std::array<int64_t, 3>{1, 2, 2}));
  EXPECT_EQ(config->eps, 1e-6f);
}

TEST_F(WanConfigTest, RefusesWhatContradictsTheTensors) {
  for (const char* field : {"dim", "ffn_dim", "freq_dim", "in_dim", "out_dim"})
    ExpectRefused(std::string(R"({"num_heads": 3, "text_len": 7, ")") + field + "\": 4711}",
                  StatusCode::kBadData, field);
  ExpectRefused(R"({"num_heads": 3, "text_len": 7, "num_layers": 1})", StatusCode::kBadData,
                "num_layers");
  ExpectRefused(R"({"num_heads": 3, "text_len": 7, "patch_size": [1, 2, 4]})", StatusCode::kBadData,
                "patch_size");
}

TEST_F(WanConfigTest, RefusesSizesThatCannotBe) {
  ExpectRefused(R"({"num_heads": 5, "text_len": 7})", StatusCode::kBadData, "divisor");
  ExpectRefused(R"({"num_heads": 96, "text_len": 7})", StatusCode::kBadData, "head_dim");
  for (const char* size : {"0", "-3", "1048577", "9223372036854775807", "18446744073709551615",
                           "18446744073709551616", "1e400", "3.0", "\"3\"", "null", "[3]", "true"})
    ExpectRefused(std::string(R"({"text_len": 7, "num_heads": )") + size + "}",
                  StatusCode::kBadData, "");
  ExpectRefused(R"({"num_heads": 3, "text_len": 7, "num_layers": 0})", StatusCode::kBadData,
                "num_layers");
  ExpectRefused(R"({"num_heads": 3, "text_len": 7, "eps": 0})", StatusCode::kBadData,
                path_.string());
  ExpectRefused(R"({"num_heads": 3, "text_len": 7, "eps": "small"})", StatusCode::kBadData, "eps");
}

TEST_F(WanConfigTest, SaysWhatItCannotDo) {
  ExpectRefused(R"({"num_heads": 3, "text_len": 7, "model_type": "i2v"})", StatusCode::kUnavailable,
                "model_type is 'i2v', need t2v");
  ExpectRefused(R"({"num_heads": 3, "text_len": 7, "model_type": "\u001b[2J\n"})",
                StatusCode::kUnavailable, "'\\x1b[2J\\x0a'");
  ExpectRefused(R"({"num_heads": 3, "text_len": 7, "model_type": 1})", StatusCode::kBadData,
                "model_type");
  ExpectRefused(R"({"num_heads": 3, "text_len": 7, "qk_norm": false})", StatusCode::kUnavailable,
                "qk_norm");
}

TEST_F(WanConfigTest, RefusesFilesThatAreNoConfig) {
  ExpectRefused("{}", StatusCode::kNotFound, "num_heads");
  ExpectRefused("", StatusCode::kBadData, "JSON");
  ExpectRefused("[1]", StatusCode::kBadData, "JSON");
  ExpectRefused("{\"num_heads\": 3", StatusCode::kBadData, "JSON");
  ExpectRefused(std::string(500'000, '['), StatusCode::kBadData, "JSON");
  ExpectRefused(std::string(2'000'000, ' '), StatusCode::kBadData, "too long");
  EXPECT_EQ(WanConfig::Read("/no/such/config.json", checkpoint_).status().code(),
            StatusCode::kNotFound);
  const testing::TempFolder folder;
  const std::string pipe = folder.path("config.json");
  ASSERT_EQ(mkfifo(pipe.c_str(), 0600), 0);
  EXPECT_EQ(WanConfig::Read(pipe, checkpoint_).status().code(), StatusCode::kInvalidArgument);
}

TEST_F(WanConfigTest, NeedsEverythingFromTheFileWhenThereAreNoTensors) {
  checkpoint_ = Checkpoint();
  ExpectRefused(R"({"num_heads": 3, "text_len": 7})", StatusCode::kNotFound, "dim");
}

TEST_F(WanConfigTest, ValidatesSizesSetInCode) {
  EXPECT_TRUE(Wan21_1_3B().Validate().ok());
  WanConfig config = small_;
  config.num_layers = 0;
  EXPECT_EQ(config.Validate().code(), StatusCode::kInvalidArgument);
  config.num_layers = 5000;
  EXPECT_EQ(config.Validate().code(), StatusCode::kInvalidArgument);
  config = small_;
  config.patch_size = {2, 2, 2};
  EXPECT_EQ(config.Validate().code(), StatusCode::kUnavailable);
}

}  // namespace
}  // namespace mrt
