#include "pipeline/package.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <vector>

#include "base/json.h"
#include "monarchrt/engine.h"
#include "pipeline/model_files.h"

namespace mrt {
namespace {

namespace fs = std::filesystem;
using monarchrt::VaeKind;
using ::testing::HasSubstr;

const std::string kGoldenPackage = std::string(MRT_GOLDEN_DIR) + "/package";

Json GoldenJson() {
  std::ifstream file(kGoldenPackage + "/model.json");
  return ParseJson(std::string(std::istreambuf_iterator<char>(file), {}));
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
  Json json = GoldenJson();
  json["autoencoder"] = "wan";
  json["files"]["transformer"] = "t.safetensors.index.json";
  const Result<Package> package = ReadWith(DumpJson(json));
  ASSERT_TRUE(package.ok()) << package.status().message();
  EXPECT_EQ(package->config, directory_ + "/model.json");
  EXPECT_EQ(package->transformer, directory_ + "/t.safetensors.index.json");
  EXPECT_EQ(package->tokenizer, directory_ + "/spiece.model");
  EXPECT_EQ(package->vae, VaeKind::kWan);
}

TEST_F(PackageTest, RefusesWhatIsNotAPackage) {
  EXPECT_EQ(ReadPackage(directory_ + "/model.json").status().code(), StatusCode::kNotFound);
  const auto refusal = [&](const Json& json) {
    return ReadWith(DumpJson(json)).status().message();
  };
  EXPECT_THAT(ReadWith("{").status().message(), HasSubstr("is not a JSON object"));
  EXPECT_THAT(ReadWith(std::string(2 << 20, ' ')).status().message(), HasSubstr("need at most"));
  Json json = GoldenJson();
  json["format"] = "monarchrt model 2";
  EXPECT_THAT(refusal(json), HasSubstr("got format 'monarchrt model 2', need 'monarchrt model 1'"));
  json = GoldenJson();
  json["autoencoder"] = 1;
  EXPECT_THAT(refusal(json), HasSubstr("autoencoder"));
  json = GoldenJson();
  json["files"] = Json::array();
  EXPECT_THAT(refusal(json), HasSubstr("files is not an object"));
  for (const char* name : {"../t.safetensors", "/etc/passwd", "", ".", ".."}) {
    json = GoldenJson();
    json["files"]["tokenizer"] = name;
    EXPECT_THAT(refusal(json), HasSubstr("files.tokenizer")) << name;
  }
  json["files"].erase("tokenizer");
  EXPECT_THAT(refusal(json), HasSubstr("files.tokenizer"));
}

TEST_F(PackageTest, SaysWhatTheModelWasTrainedFor) {
  Json json = GoldenJson();
  json["generation"] = {{"width", 416},       {"height", 240},      {"steps", {900, 300, 0}},
                        {"shift", 3},         {"window_frames", 9}, {"attention", "dense"},
                        {"something", "else"}};
  ASSERT_TRUE(ReadWith(DumpJson(json)).ok());
  const auto said = monarchrt::Engine::DefaultStreamOptions({.model = directory_});
  ASSERT_TRUE(said.ok()) << said.status().message();
  EXPECT_EQ(said->width, 416);
  EXPECT_EQ(said->height, 240);
  EXPECT_EQ(said->steps, (std::vector<int>{900, 300, 0}));
  EXPECT_EQ(said->timestep_shift, 3);
  EXPECT_EQ(said->window_frames, 9);
  EXPECT_EQ(said->attention.mode, monarchrt::AttentionMode::kDense);
  EXPECT_EQ(said->frames, monarchrt::StreamOptions().frames);
  // Each may be missing, and so may be all.
  json["generation"] = {{"window_frames", -1}};
  ASSERT_TRUE(ReadWith(DumpJson(json)).ok());
  const auto little = monarchrt::Engine::DefaultStreamOptions({.model = directory_});
  ASSERT_TRUE(little.ok());
  EXPECT_EQ(little->window_frames, -1);
  EXPECT_EQ(little->width, 832);
  json.erase("generation");
  ASSERT_TRUE(ReadWith(DumpJson(json)).ok());
  const auto nothing = monarchrt::Engine::DefaultStreamOptions({.model = directory_});
  ASSERT_TRUE(nothing.ok());
  EXPECT_EQ(nothing->steps, monarchrt::StreamOptions().steps);
}

TEST_F(PackageTest, OnlyAPackageChangesTheDefaults) {
  const monarchrt::StreamOptions usual;
  for (const monarchrt::EngineOptions& engine :
       {monarchrt::EngineOptions{.model = std::string(MRT_GOLDEN_DIR) + "/toy_wan"},
        {.synthetic = "wan2.1-1.3b"}}) {
    const auto options = monarchrt::Engine::DefaultStreamOptions(engine);
    ASSERT_TRUE(options.ok()) << options.status().message();
    EXPECT_EQ(options->width, usual.width);
    EXPECT_EQ(options->window_frames, usual.window_frames);
  }
  EXPECT_EQ(monarchrt::Engine::DefaultStreamOptions({.model = "/no/such"}).status().code(),
            StatusCode::kNotFound);
  EXPECT_EQ(monarchrt::Engine::DefaultStreamOptions({}).status().code(),
            StatusCode::kInvalidArgument);
}

TEST_F(PackageTest, RefusesGenerationSettingsThatCannotBe) {
  const auto refuse = [&](const char* name, const std::string& value) {
    Json json = GoldenJson();
    json["generation"][name] = ParseJson(value);
    const Status status = ReadWith(DumpJson(json)).status();
    EXPECT_EQ(status.code(), StatusCode::kBadData) << name << " " << value;
    EXPECT_THAT(status.message(), HasSubstr(std::string("generation.") + name)) << value;
    EXPECT_EQ(status.message().find('\n'), std::string::npos);
    EXPECT_LT(status.message().size(), 500u);
  };
  const std::string long_text = '"' + std::string(100'000, 'x') + '"';
  for (const char* name : {"width", "height", "window_frames"})
    for (const std::string& value :
         {std::string("0"), std::string("-16"), std::string("416.5"), std::string("1e30"),
          std::string("4294967712"), std::string("9223372036854775807"),
          std::string("18446744073709551615"), std::string("\"416\""), std::string("null"),
          std::string("[416]"), std::string("true"), std::string("\"a\\nb\""), long_text})
      refuse(name, value);
  refuse("width", "8193");
  for (const std::string& value :
       {std::string("[]"), std::string("1000"), std::string("{}"), std::string("[500, 500]"),
        std::string("[500, 750]"), std::string("[1001]"), std::string("[-1]"),
        std::string("[1000, 0.5]"), std::string("[18446744073709551615]"),
        std::string("[\"1000\"]"), std::string("[[1000]]"), std::string("null"), long_text})
    refuse("steps", value);
  for (const std::string& value : {std::string("0"), std::string("-5"), std::string("\"5\""),
                                   std::string("null"), std::string("[5]"), long_text})
    refuse("shift", value);
  for (const std::string& value : {std::string("\"Dense\""), std::string("\"\""), std::string("0"),
                                   std::string("null"), std::string("[\"dense\"]"), long_text})
    refuse("attention", value);
  for (const char* section : {"[]", "1", "null", "\"width\""}) {
    Json json = GoldenJson();
    json["generation"] = ParseJson(section);
    EXPECT_THAT(ReadWith(DumpJson(json)).status().message(),
                HasSubstr("generation is not an object"));
  }
}

// As deep as a megabyte can be: nothing may walk through it recursively.
TEST_F(PackageTest, SurvivesDeepNesting) {
  const std::string deep = std::string(400'000, '[') + std::string(400'000, ']');
  const auto inside = [&](const std::string& section, const std::string& name) {
    Json json = GoldenJson();
    json[section][name] = "@";
    std::string text = DumpJson(json);
    text.replace(text.find("\"@\""), 3, deep);
    return ReadWith(text).status();
  };
  EXPECT_TRUE(inside("files", "more").ok());
  EXPECT_THAT(inside("files", "tokenizer").message(), HasSubstr("files.tokenizer"));
  for (const char* name : {"width", "steps", "shift", "window_frames", "attention"})
    EXPECT_THAT(inside("generation", name).message(), HasSubstr(std::string("generation.") + name));
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
