// The engine on a GPU that is none (testing/fake_gpu.h): it runs the operations of the CPU, so that
// every video must have the bits of the CPU's; with AMX nearly, because the CPU's convolutions then
// round less often.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <thread>
#include <vector>

#include "base/cpu_features.h"
#include "base/json.h"
#include "monarchrt/doctor.h"
#include "monarchrt/engine.h"
#include "testing/fake_gpu.h"

namespace monarchrt {
namespace {

using mrt::testing::Gpus;
using ::testing::HasSubstr;

constexpr int kWidth = 80, kHeight = 48;

EngineOptions ToyOn(const std::string& device) {
  return {.model = std::string(MRT_GOLDEN_DIR) + "/toy_wan",
          .checkpoint = "checkpoints/self_forcing_dmd.pt:generator_ema",
          .precision = Precision::kBF16,
          .device = device};
}

EngineOptions PackageOn(const std::string& device) {
  return {.model = std::string(MRT_GOLDEN_DIR) + "/package",
          .precision = Precision::kBF16,
          .device = device};
}

StreamOptions ShortVideo(int64_t frames) {
  return {.prompt = "A red ball bounces.",
          .seed = 7,
          .width = kWidth,
          .height = kHeight,
          .frames = frames};
}

Engine LoadEngine(const EngineOptions& options) {
  Result<Engine> engine = Engine::Load(options);
  EXPECT_TRUE(engine.ok()) << engine.status().message();
  return std::move(*engine);
}

/// The frames that are left, after another prompt if there is one.
std::vector<uint8_t> Generate(Engine& engine, const StreamOptions& options,
                              const std::string& next_prompt = "") {
  Result<Stream> stream = engine.Open(options);
  EXPECT_TRUE(stream.ok()) << stream.status().message();
  std::vector<uint8_t> video;
  while (stream.ok() && !stream->done()) {
    const Result<Chunk> chunk = stream->Next();
    EXPECT_TRUE(chunk.ok()) << chunk.status().message();
    if (!chunk.ok()) break;
    video.insert(video.end(), chunk->rgb.begin(), chunk->rgb.end());
    if (!next_prompt.empty() && chunk->index == 1) {
      EXPECT_TRUE(stream->SetPrompt(next_prompt, /*recache=*/true).ok());
    }
  }
  return video;
}

class Gpu : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!mrt::ops::HasNativeBF16()) GTEST_SKIP() << "this CPU has no bf16 arithmetic";
  }
  void TearDown() override { Gpus().available_bytes = int64_t{1} << 40; }
};

// Bytes of pixels.
void ExpectTheVideoOfTheCpu(const std::vector<uint8_t>& got, const std::vector<uint8_t>& want,
                            const char* what) {
  if (!mrt::GetCpuFeatures().amx_bf16) {
    EXPECT_EQ(got, want) << what;
    return;
  }
  ASSERT_EQ(got.size(), want.size()) << what;
  int64_t difference = 0;
  for (size_t i = 0; i < got.size(); ++i) difference += std::abs(got[i] - want[i]);
  EXPECT_LE(difference, static_cast<int64_t>(got.size())) << what << ": 1 of 255 on average";
}

TEST_F(Gpu, GivesTheVideosOfTheCpu) {
  Engine here = LoadEngine(ToyOn("cpu")), there = LoadEngine(ToyOn("cuda"));
  const auto expect_same = [&](const StreamOptions& options, const char* what,
                               const std::string& next_prompt = "") {
    const int64_t before = Gpus().last->operations();
    StreamOptions one_after_the_other = options;
    one_after_the_other.decode_overlap = DecodeOverlap::kOff;
    ExpectTheVideoOfTheCpu(Generate(there, options, next_prompt),
                           Generate(here, one_after_the_other, next_prompt), what);
    if (options.decode_overlap == DecodeOverlap::kAuto) {
      ExpectTheVideoOfTheCpu(Generate(there, one_after_the_other),
                             Generate(here, one_after_the_other), what);
    }
    EXPECT_GT(Gpus().last->operations(), before + 100) << what;
  };
  expect_same(ShortVideo(21), "Monarch");
  StreamOptions options = ShortVideo(21);
  options.attention.mode = AttentionMode::kDense;
  options.independent_first_frame = true;
  expect_same(options, "dense, the first frame alone");
  options = ShortVideo(60);
  options.window_frames = 8;
  options.sink_frames = 2;
  options.decode_overlap = DecodeOverlap::kOff;  // else the prompt comes a chunk later
  expect_same(options, "a window that rolls, and another prompt", "A blue cube spins.");
  options = ShortVideo(21);
  options.initial_frames = 9;
  options.initial_rgb.assign(size_t{9} * kHeight * kWidth * 3, 100);
  expect_same(options, "initial frames");
}

TEST_F(Gpu, RunsTheTinyAutoencoder) {
  Engine here = LoadEngine(PackageOn("cpu")), there = LoadEngine(PackageOn("cuda:1"));
  EXPECT_EQ(there.info().device, "cuda:1");
  const Result<StreamOptions> defaults = Engine::DefaultStreamOptions(PackageOn("cpu"));
  ASSERT_TRUE(defaults.ok());
  StreamOptions options = *defaults;
  options.prompt = "a red ball";
  options.frames = 21;
  EXPECT_EQ(Generate(there, options), Generate(here, options));
}

TEST_F(Gpu, ServesStreamsOfSeveralThreads) {
  Engine engine = LoadEngine(ToyOn("cuda"));
  const std::vector<uint8_t> want = Generate(engine, ShortVideo(21));
  std::vector<uint8_t> one, two;
  std::thread other([&] { one = Generate(engine, ShortVideo(21)); });
  two = Generate(engine, ShortVideo(21));
  other.join();
  EXPECT_EQ(one, want);
  EXPECT_EQ(two, want);
}

TEST_F(Gpu, DecodesBesideTheTransformer) {
  StreamOptions options = ShortVideo(100'000);
  Engine engine = LoadEngine(ToyOn("cuda"));
  {
    Result<Stream> stream = engine.Open(options);
    ASSERT_TRUE(stream.ok()) << stream.status().message();
    ASSERT_TRUE(stream->Next().ok());
    const Result<PromptChange> change = stream->SetPrompt("A blue cube spins.");
    ASSERT_TRUE(change.ok()) << change.status().message();
    EXPECT_GT(change->first_frame, 9) << "the chunk that is being made";
    for (Result<Chunk> chunk = stream->Next(); chunk.ok() && chunk->prompt == 0;
         chunk = stream->Next())
      EXPECT_LT(chunk->first_frame, change->first_frame);
    std::thread canceller([&] { stream->Cancel(); });
    Status status;
    while (status.ok()) status = stream->Next().status();
    canceller.join();
    EXPECT_EQ(status.code(), StatusCode::kCancelled);
  }
  Result<Stream> abandoned = engine.Open(options);
  ASSERT_TRUE(abandoned.ok());
  ASSERT_TRUE(abandoned->Next().ok());  // and the next chunk is being made
}

TEST_F(Gpu, LackOfMemoryInTheThreadThatMakesLatentsIsAnError) {
  Engine engine = LoadEngine(ToyOn("cuda"));
  Result<Stream> stream = engine.Open(ShortVideo(21));
  ASSERT_TRUE(stream.ok()) << stream.status().message();
  Gpus().last->set_limit_bytes(Gpus().last->allocated_bytes() + 1000);
  EXPECT_EQ(stream->Next().status().code(), StatusCode::kOutOfMemory);
  EXPECT_EQ(stream->Next().status().code(), StatusCode::kOutOfMemory) << "it stays";
}

TEST_F(Gpu, PlansItsMemory) {
  const StreamOptions options = ShortVideo(21);
  const Result<MemoryEstimate> plan = Engine::EstimateMemory(ToyOn("cuda"), options);
  ASSERT_TRUE(plan.ok()) << plan.status().message();
  EXPECT_EQ(plan->device_available_bytes, Gpus().available_bytes);
  Engine engine = LoadEngine(ToyOn("cuda"));
  Generate(engine, options);
  EXPECT_GT(Gpus().last->peak_bytes(), 0);
  EXPECT_LE(Gpus().last->peak_bytes(), plan->device_peak_bytes);

  // With less the text encoder stays here.
  EXPECT_EQ(plan->text_bytes, 0);
  Gpus().available_bytes = int64_t{1} << 30;
  const Result<MemoryEstimate> small = Engine::EstimateMemory(ToyOn("cuda"), options);
  ASSERT_TRUE(small.ok()) << small.status().message();
  EXPECT_GT(small->text_bytes, 0);
  Gpus().available_bytes = int64_t{1} << 40;
  EngineOptions asked = ToyOn("cuda");
  asked.text_device = TextDevice::kCpu;
  EXPECT_EQ(Engine::EstimateMemory(asked, options)->device_peak_bytes, small->device_peak_bytes);
  Gpus().available_bytes = int64_t{1} << 30;
  EXPECT_LT(small->device_peak_bytes, plan->device_peak_bytes);
  Engine text_here = LoadEngine(ToyOn("cuda"));
  EXPECT_EQ(Generate(text_here, options), Generate(engine, options));

  Gpus().available_bytes = small->device_peak_bytes - 1;
  const Status status = Engine::Validate(ToyOn("cuda"), options);
  EXPECT_EQ(status.code(), StatusCode::kOutOfMemory);
  EXPECT_THAT(status.message(), HasSubstr("of cuda:0"));
  Gpus().available_bytes = 1000;
  EXPECT_EQ(Engine::Load(ToyOn("cuda")).status().code(), StatusCode::kOutOfMemory);
  EXPECT_EQ(engine.Open(options).status().code(), StatusCode::kOutOfMemory);
}

TEST_F(Gpu, TellsWhatItMeasured) {
  Engine engine = LoadEngine(ToyOn("cuda"));
  Result<Stream> stream = engine.Open(ShortVideo(33));
  ASSERT_TRUE(stream.ok()) << stream.status().message();
  for (int chunk = 0; chunk < 3; ++chunk) ASSERT_TRUE(stream->Next().ok());
  const GenerationStats stats = stream->stats();
  EXPECT_EQ(stats.device, "cuda:0");
  EXPECT_EQ(stats.peak_device_bytes, Gpus().last->peak_bytes());
  EXPECT_THAT(ToJson(stats),
              HasSubstr("\"peak_device_bytes\": " + std::to_string(stats.peak_device_bytes)));
  Engine cpu = LoadEngine(ToyOn("cpu"));
  EXPECT_EQ(cpu.Open(ShortVideo(9))->stats().peak_device_bytes, 0);
}

TEST_F(Gpu, ShowsAChunkBeforeItsCleanPass) {
  EngineOptions options = ToyOn("cuda");
  options.trace = std::make_shared<Trace>();
  Engine engine = LoadEngine(options);
  StreamOptions video = ShortVideo(33);
  video.decode_overlap = DecodeOverlap::kOff;
  Result<Stream> stream = engine.Open(video);
  ASSERT_TRUE(stream.ok()) << stream.status().message();
  for (int chunk = 0; chunk < 3; ++chunk) {
    const Result<Chunk> made = stream->Next();
    ASSERT_TRUE(made.ok()) << made.status().message();
    EXPECT_GT(made->transformer_ms, 0);
    const std::string trace = options.trace->ToChromeJson();
    int passes = 0;
    for (size_t at = trace.find("clean pass"); at != trace.npos;
         at = trace.find("clean pass", at + 1))
      ++passes;
    EXPECT_EQ(passes, chunk) << "that of the chunk before";
  }
}

TEST_F(Gpu, DecodesTheFirstChunkAlone) {
  EngineOptions options = ToyOn("cuda");
  options.trace = std::make_shared<Trace>();
  Engine engine = LoadEngine(options);
  EXPECT_FALSE(Generate(engine, ShortVideo(33)).empty());
  // The trace has its events in the order of their ends.
  const mrt::Json json = mrt::ParseJson(options.trace->ToChromeJson());
  double decoded_us = 0, clean_us = -1;
  int latents = 0;
  for (const mrt::Json& event : json["traceEvents"]) {
    const double begin_us = event["ts"], end_us = begin_us + double(event["dur"]);
    if (event["name"] == "to bytes" && ++latents == 3) decoded_us = end_us;
    if (event["name"] == "clean pass" && clean_us < 0) clean_us = begin_us;
  }
  EXPECT_GT(decoded_us, 0);
  EXPECT_GE(clean_us, decoded_us);
}

TEST_F(Gpu, LackOfItsMemoryOnTheWayIsAnError) {
  Engine engine = LoadEngine(ToyOn("cuda"));
  Gpus().last->set_limit_bytes(Gpus().last->allocated_bytes() + 1000);
  const Status status = engine.Open(ShortVideo(9)).status();
  EXPECT_EQ(status.code(), StatusCode::kOutOfMemory) << status.message();
}

TEST_F(Gpu, RefusesWhatItCannotDo) {
  const auto refusal = [](auto change) {
    EngineOptions engine = ToyOn("cuda");
    StreamOptions stream = ShortVideo(9);
    change(engine, stream);
    return Engine::Validate(engine, stream).message();
  };
  EXPECT_EQ(refusal([](auto&, auto&) {}), "");
  EXPECT_EQ(refusal([](auto& engine, auto&) { engine.precision = Precision::kAuto; }), "");
  for (const Precision precision : {Precision::kF32, Precision::kInt8})
    EXPECT_THAT(refusal([&](auto& engine, auto&) { engine.precision = precision; }),
                HasSubstr("[dtype] cuda:0 computes with bf16 only"));
  EXPECT_THAT(refusal([](auto&, auto& stream) { stream.attention.implementation = "avx2"; }),
              HasSubstr("'avx2'"));
  EXPECT_THAT(refusal([](auto& engine, auto&) { engine.device = "cuda:2"; }), HasSubstr("GPU 2"));
  EXPECT_THAT(refusal([](auto& engine, auto&) { engine.device = "gpu"; }),
              HasSubstr("need cpu, cuda or cuda:N"));
}

TEST_F(Gpu, IsListed) {
  const std::vector<DeviceInfo> devices = ListDevices();
  ASSERT_EQ(devices.size(), 3u);
  EXPECT_EQ(devices[0].name, "cuda:0");
  EXPECT_EQ(devices[1].name, "cuda:1");
  EXPECT_EQ(devices[1].description, "fake GPU");
  EXPECT_EQ(devices[2].name, "cpu");
  const DoctorReport report = Diagnose();
  ASSERT_EQ(report.gpus.size(), 2u);
  EXPECT_EQ(report.gpus[1].name, "cuda:1");
}

}  // namespace
}  // namespace monarchrt
