// Model files that somebody cuts while the engine reads them.
#include <gtest/gtest.h>

#include <filesystem>
#include <string>

#include "monarchrt/engine.h"
#include "testing/expect_failure.h"
#include "testing/temp_folder.h"

namespace monarchrt {
namespace {

namespace fs = std::filesystem;
using mrt::testing::ExpectFailure;

constexpr const char* kTransformer = "checkpoints/self_forcing_dmd.pt";
constexpr const char* kTextEncoder = "models_t5_umt5-xxl-enc-bf16.pth";
constexpr const char* kVae = "Wan2.1_VAE.pth";

class ChangingFiles : public ::testing::Test {
 protected:
  ChangingFiles() {
    fs::copy(std::string(MRT_GOLDEN_DIR) + "/toy_wan", folder_.path("tree"),
             fs::copy_options::recursive);
    for (const auto& entry : fs::recursive_directory_iterator(folder_.path("tree")))
      fs::permissions(entry, fs::perms::owner_write, fs::perm_options::add);
  }

  /// Leaves the first page of the file whose path ends in `name`.
  void Cut(const std::string& name) const {
    for (const auto& entry : fs::recursive_directory_iterator(folder_.path("tree")))
      if (entry.path().string().ends_with(name)) fs::resize_file(entry, 4096);
  }

  Result<Engine> LoadAndCut(const char* during, const char* name) const {
    return Engine::Load({.model = folder_.path("tree"), .checkpoint = kTransformer},
                        [&](const std::string& phase) {
                          if (phase == during) Cut(name);
                        });
  }

  const mrt::testing::TempFolder folder_;
};

TEST_F(ChangingFiles, ATransformerThatIsCutWhileItLoads) {
  ExpectFailure(LoadAndCut("loading the transformer", kTransformer).status(), StatusCode::kBadData,
                "self_forcing_dmd.pt became shorter while it was read");
}

TEST_F(ChangingFiles, AnAutoencoderThatIsCutWhileItLoads) {
  ExpectFailure(LoadAndCut("loading the autoencoder", kVae).status(), StatusCode::kBadData,
                "Wan2.1_VAE.pth became shorter while it was read");
}

// It is read at every prompt.
TEST_F(ChangingFiles, ATextEncoderThatIsCutAfterItWasLoaded) {
  Result<Engine> engine = Engine::Load({.model = folder_.path("tree"), .checkpoint = kTransformer});
  ASSERT_TRUE(engine.ok()) << engine.status().message();
  const StreamOptions video = {.prompt = "A ball.", .width = 80, .height = 48, .frames = 9};
  Result<Stream> before = engine->Open(video);
  ASSERT_TRUE(before.ok() && before->Next().ok());
  Cut(kTextEncoder);
  Result<Stream> stream = engine->Open(video);
  Status status = stream.status();
  if (stream.ok()) status = stream->Next().status();
  ExpectFailure(status, StatusCode::kBadData, std::string(kTextEncoder) + " became shorter");
}

}  // namespace
}  // namespace monarchrt
