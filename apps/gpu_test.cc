// A clip of an engine on a GPU, which is one of testing/fake_gpu.h.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <memory>
#include <set>
#include <string>

#include "apps/generation_run.h"
#include "base/cpu_features.h"
#include "base/json.h"
#include "testing/fake_gpu.h"
#include "testing/temp_folder.h"

namespace mrt::apps {
namespace {

/// A clip, what was measured, and on which threads.
struct Clip {
  GenerationResult result;
  std::string video;
  std::set<int> model_threads, encoder_threads;
};

class ClipOnAGpu : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!ops::HasNativeBF16()) GTEST_SKIP() << "this CPU has no bf16 arithmetic";
  }

  Clip Make(const std::string& device, EncodeOverlap overlap) {
    GenerationRun run;
    run.engine = {.model = std::string(MRT_GOLDEN_DIR) + "/toy_wan",
                  .checkpoint = "checkpoints/self_forcing_dmd.pt:generator_ema",
                  .precision = monarchrt::Precision::kBF16,
                  .device = device,
                  .trace = std::make_shared<monarchrt::Trace>()};
    run.stream = {.prompt = "A red ball bounces.", .width = 80, .height = 48, .frames = 45};
    run.stream.decode_overlap = monarchrt::DecodeOverlap::kOff;
    run.video_path = folder_.path("v.mp4");
    run.video.threads = 2;  // for the same bits on both devices
    run.encode_overlap = overlap;
    Clip clip;
    monarchrt::Result<GenerationResult> result = Generate(run);
    EXPECT_TRUE(result.ok()) << result.status().message();
    if (!result.ok()) return clip;
    clip.result = *result;
    std::ifstream file(run.video_path, std::ios::binary);
    clip.video.assign(std::istreambuf_iterator<char>(file), {});
    const Json trace = ParseJson(run.engine.trace->ToChromeJson());
    for (const Json& event : trace["traceEvents"]) {
      if (event["name"] == "transformer") clip.model_threads.insert(event["tid"].get<int>());
      if (event["name"] == "video encoder") clip.encoder_threads.insert(event["tid"].get<int>());
    }
    return clip;
  }

  const mrt::testing::TempFolder folder_;
};

TEST_F(ClipOnAGpu, IsEncodedBesideTheModel) {
  const Clip here = Make("cpu", EncodeOverlap::kAuto);
  EXPECT_EQ(here.encoder_threads, here.model_threads) << "the CPU does one after the other";
  EXPECT_GT(here.video.size(), 1000u);
  EXPECT_GE(here.result.encode_wait_s, here.result.encode_s);

  const Clip there = Make("cuda", EncodeOverlap::kAuto);
  EXPECT_EQ(there.result.stats.device, "cuda:0");
  // A CPU with AMX rounds less often than its operations one by one (testing/video_codec_device.h).
  if (!GetCpuFeatures().amx_bf16) {
    EXPECT_EQ(there.video, here.video);
  }
  EXPECT_EQ(there.model_threads.size(), 1u);
  EXPECT_EQ(there.encoder_threads.size(), 2u) << "its own, and the one that completes the file";

  const Clip after = Make("cuda", EncodeOverlap::kOff);
  EXPECT_EQ(after.video, there.video);
  EXPECT_EQ(after.encoder_threads, after.model_threads);
}

}  // namespace
}  // namespace mrt::apps
