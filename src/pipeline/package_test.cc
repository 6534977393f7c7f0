#include "pipeline/package.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "monarchrt/engine.h"
#include "pipeline/model_files.h"

namespace mrt {
namespace {

namespace fs = std::filesystem;
using monarchrt::VaeKind;
using ::testing::HasSubstr;

const std::string kGoldenPackage = std::string(MRT_GOLDEN_DIR) + "/package";

nlohmann::json GoldenJson() {
  return nlohmann::json::parse(std::ifstream(kGoldenPackage + "/model.json"));
}

class PackageTest : public ::testing::Test {
 protected:
  void SetUp() override {
    directory_ =
        (fs::temp_directory_path() / ("package_test_" + std::to_string(getpid()))).string();
    fs::create_directories(directory_);
  }
  void TearDown() override { fs::remove_all(directory_); }

  Result<Package> ReadWith(const std::string& text) const {
    std::ofstream(directory_ + "/model.json") << text;
    return ReadPackage(directory_ + "/model.json");
  }

  std::string directory_;
};

TEST_F(PackageTest, GivesThePathsInItsFolder) {
  nlohmann::json json = GoldenJson();
  json["autoencoder"] = "wan";
  json["files"]["transformer"] = "t.safetensors.index.json";
  const Result<Package> package = ReadWith(json.dump());
  ASSERT_TRUE(package.ok()) << package.status().message();
  EXPECT_EQ(package->config, directory_ + "/model.json");
  EXPECT_EQ(package->transformer, directory_ + "/t.safetensors.index.json");
  EXPECT_EQ(package->tokenizer, directory_ + "/spiece.model");
  EXPECT_EQ(package->vae, VaeKind::kWan);
}

TEST_F(PackageTest, RefusesWhatIsNotAPackage) {
  EXPECT_EQ(ReadPackage(directory_ + "/model.json").status().code(), StatusCode::kNotFound);
  const auto refusal = [&](const nlohmann::json& json) {
    return ReadWith(json.dump()).status().message();
  };
  EXPECT_THAT(ReadWith("{").status().message(), HasSubstr("is not a JSON object"));
  EXPECT_THAT(ReadWith(std::string(2 << 20, ' ')).status().message(), HasSubstr("need at most"));
  nlohmann::json json = GoldenJson();
  json["format"] = "monarchrt model 2";
  EXPECT_THAT(refusal(json), HasSubstr("got format 'monarchrt model 2', need 'monarchrt model 1'"));
  json = GoldenJson();
  json["autoencoder"] = 1;
  EXPECT_THAT(refusal(json), HasSubstr("autoencoder"));
  json = GoldenJson();
  json["files"] = nlohmann::json::array();
  EXPECT_THAT(refusal(json), HasSubstr("files is not an object"));
  for (const char* name : {"../t.safetensors", "/etc/passwd", "", ".", ".."}) {
    json = GoldenJson();
    json["files"]["tokenizer"] = name;
    EXPECT_THAT(refusal(json), HasSubstr("files.tokenizer")) << name;
  }
  json["files"].erase("tokenizer");
  EXPECT_THAT(refusal(json), HasSubstr("files.tokenizer"));
}

TEST_F(PackageTest, NamesAMissingFile) {
  fs::copy(kGoldenPackage, directory_, fs::copy_options::recursive);
  const Status whole = OpenModelFiles({.model = directory_}).status();
  ASSERT_TRUE(whole.ok()) << whole.message();
  fs::remove(directory_ + "/autoencoder.safetensors");
  EXPECT_THAT(OpenModelFiles({.model = directory_}).status().message(),
              HasSubstr("autoencoder.safetensors"));
}

// A token of one latent pixel, and the package's autoencoder without being asked for.
TEST_F(PackageTest, MakesAVideo) {
  auto engine = monarchrt::Engine::Load({.model = kGoldenPackage});
  ASSERT_TRUE(engine.ok()) << engine.status().message();
  EXPECT_EQ(engine->info().width_multiple, 8);
  auto stream = engine->Open(
      {.prompt = "a red ball", .width = 40, .height = 24, .frames = 21, .window_frames = 6});
  ASSERT_TRUE(stream.ok()) << stream.status().message();
  int64_t frames = 0;
  while (!stream->done()) {
    const auto chunk = stream->Next();
    ASSERT_TRUE(chunk.ok()) << chunk.status().message();
    frames += chunk->frames;
  }
  EXPECT_EQ(frames, 21);
}

}  // namespace
}  // namespace mrt
