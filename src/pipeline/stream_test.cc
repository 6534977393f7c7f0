// What a stream does beyond a prompt and frames: initial frames, other prompts on the way,
// attention rules, decoding side by side.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sys/resource.h>

#include <cmath>
#include <fstream>
#include <thread>

#include "monarchrt/engine.h"
#include "testing/near_video.h"
#include "testing/sanitizer.h"

namespace monarchrt {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr int kWidth = 80, kHeight = 48;
constexpr int64_t kFrameBytes = int64_t{kWidth} * kHeight * 3;

EngineOptions ToyF32() {
  return {.model = std::string(MRT_GOLDEN_DIR) + "/toy_wan",
          .checkpoint = "checkpoints/self_forcing_dmd.pt:generator_ema",
          .precision = Precision::kF32};
}

// Without overlap on any machine: what is begun after a Next() is then what it gave.
StreamOptions SmallClip(int64_t frames) {
  return {.prompt = "A red ball bounces.",
          .seed = 7,
          .width = kWidth,
          .height = kHeight,
          .frames = frames,
          .decode_overlap = DecodeOverlap::kOff};
}

// One engine for all tests: loading it is most of the time.
Engine& ToyEngine() {
  static Result<Engine> engine = Engine::Load(ToyF32());
  EXPECT_TRUE(engine.ok()) << engine.status().message();
  return *engine;
}

Stream OpenStream(const StreamOptions& options) {
  Result<Stream> stream = ToyEngine().Open(options);
  EXPECT_TRUE(stream.ok()) << stream.status().message();
  return std::move(*stream);
}

std::vector<Chunk> Rest(Stream& stream) {
  std::vector<Chunk> chunks;
  while (!stream.done()) {
    Result<Chunk> chunk = stream.Next();
    EXPECT_TRUE(chunk.ok()) << chunk.status().message();
    if (!chunk.ok()) break;
    chunks.push_back(std::move(*chunk));
  }
  return chunks;
}

std::vector<Chunk> Generate(const StreamOptions& options) {
  Stream stream = OpenStream(options);
  return Rest(stream);
}

std::vector<uint8_t> Video(const std::vector<Chunk>& chunks) {
  std::vector<uint8_t> video;
  for (const Chunk& chunk : chunks) video.insert(video.end(), chunk.rgb.begin(), chunk.rgb.end());
  return video;
}

std::vector<int64_t> FrameCounts(const std::vector<Chunk>& chunks) {
  std::vector<int64_t> counts;
  for (const Chunk& chunk : chunks) counts.push_back(chunk.frames);
  return counts;
}

std::vector<int> Prompts(const std::vector<Chunk>& chunks) {
  std::vector<int> prompts;
  for (const Chunk& chunk : chunks) prompts.push_back(chunk.prompt);
  return prompts;
}

// A picture that moves: [frames, height, width, 3].
std::vector<uint8_t> Clip(int64_t frames) {
  std::vector<uint8_t> rgb;
  for (int64_t f = 0; f < frames; ++f)
    for (int y = 0; y < kHeight; ++y)
      for (int x = 0; x < kWidth; ++x)
        for (int c = 0; c < 3; ++c)
          rgb.push_back(static_cast<uint8_t>(128 + 100 * std::sin(0.1 * (x + 3.0 * f) + y * c)));
  return rgb;
}

std::vector<uint8_t> LastFrames(const std::vector<uint8_t>& rgb, int64_t frames) {
  return {rgb.end() - frames * kFrameBytes, rgb.end()};
}

StreamOptions From(std::vector<uint8_t> rgb, StreamOptions options) {
  options.initial_frames = static_cast<int64_t>(rgb.size()) / kFrameBytes;
  options.initial_rgb = std::move(rgb);
  return options;
}

TEST(InitialFrames, AreContinuedWithNewFramesOnly) {
  const std::vector<Chunk> chunks = Generate(From(Clip(9), SmallClip(20)));
  EXPECT_THAT(FrameCounts(chunks), ElementsAre(12, 8));
  for (const Chunk& chunk : chunks) EXPECT_FALSE(chunk.given);
  EXPECT_EQ(chunks[0].first_frame, 0);
  EXPECT_EQ(chunks[0].start_s, 0);
  EXPECT_NE(Video(chunks), Video(Generate(SmallClip(20))));
}

TEST(InitialFrames, ComeOutFirstIfAsked) {
  StreamOptions options = From(Clip(21), SmallClip(33));
  options.show_initial = true;
  const std::vector<Chunk> all = Generate(options);
  EXPECT_THAT(FrameCounts(all), ElementsAre(9, 12, 12));
  EXPECT_TRUE(all[0].given && all[1].given);
  EXPECT_FALSE(all[2].given);
  EXPECT_EQ(all[2].first_frame, 21);
  // The new ones are those that come without.
  options.show_initial = false;
  options.frames = 12;
  EXPECT_EQ(Video(Generate(options)), all[2].rgb);
  // Shorter than what is given: nothing new.
  options.show_initial = true;
  options.frames = 10;
  const std::vector<Chunk> given = Generate(options);
  EXPECT_THAT(FrameCounts(given), ElementsAre(9, 1));
  EXPECT_TRUE(given[1].given);
}

TEST(InitialFrames, AnImageIsHeldStillForAChunk) {
  std::vector<uint8_t> nine;
  for (int i = 0; i < 9; ++i) {
    const std::vector<uint8_t> one = Clip(1);
    nine.insert(nine.end(), one.begin(), one.end());
  }
  EXPECT_EQ(Video(Generate(From(Clip(1), SmallClip(12)))),
            Video(Generate(From(nine, SmallClip(12)))));
}

TEST(InitialFrames, AnImageIsTheFirstFrameOfModelsWithAnIndependentOne) {
  StreamOptions options = From(Clip(1), SmallClip(14));
  options.independent_first_frame = options.show_initial = true;
  const std::vector<Chunk> chunks = Generate(options);
  EXPECT_THAT(FrameCounts(chunks), ElementsAre(1, 12, 1));
  EXPECT_TRUE(chunks[0].given);
  EXPECT_FALSE(chunks[1].given);
}

TEST(InitialFrames, OnlyTheLastWholeChunksAreUsed) {
  const std::vector<uint8_t> clip = Clip(30);
  EXPECT_EQ(Video(Generate(From(clip, SmallClip(12)))),
            Video(Generate(From(LastFrames(clip, 21), SmallClip(12)))));
  StreamOptions single = SmallClip(12);
  single.independent_first_frame = true;
  EXPECT_EQ(Video(Generate(From(clip, single))),
            Video(Generate(From(LastFrames(clip, 25), single))));
  // No more than the window holds.
  StreamOptions window = SmallClip(12);
  window.window_frames = 3;
  EXPECT_EQ(Video(Generate(From(clip, window))),
            Video(Generate(From(LastFrames(clip, 9), window))));
}

TEST(InitialFrames, SizesMustFit) {
  StreamOptions options = From(Clip(9), SmallClip(12));
  options.initial_frames = 8;
  EXPECT_THAT(ToyEngine().Open(options).status().message(), HasSubstr("[initial frames]"));
  EXPECT_THAT(Engine::Validate(ToyF32(), options).message(), HasSubstr("[initial frames]"));
  options.initial_frames = -1;
  EXPECT_EQ(ToyEngine().Open(options).status().code(), StatusCode::kInvalidArgument);
  options.initial_frames = INT64_MAX;
  EXPECT_EQ(ToyEngine().Open(options).status().code(), StatusCode::kInvalidArgument);
}

TEST(IndependentFirstFrame, StartsWithAChunkOfOneFrame) {
  StreamOptions options = SmallClip(26);
  options.independent_first_frame = true;
  EXPECT_THAT(FrameCounts(Generate(options)), ElementsAre(1, 12, 12, 1));
  options.attention.f_tied = 3;
  EXPECT_THAT(ToyEngine().Open(options).status().message(), HasSubstr("f_tied"));
}

TEST(SetPrompt, ShowsWhereItSays) {
  Stream stream = OpenStream(SmallClip(33));
  const std::vector<uint8_t> before = stream.Next()->rgb;
  EXPECT_EQ(stream.next_prompt_frame(), 9);
  const Result<PromptChange> change = stream.SetPrompt("A blue cube spins.");
  ASSERT_TRUE(change.ok()) << change.status().message();
  EXPECT_EQ(change->prompt, 1);
  EXPECT_EQ(change->first_frame, 9);
  EXPECT_EQ(change->start_s, 9.0 / 16);
  const std::vector<Chunk> after = Rest(stream);
  EXPECT_THAT(Prompts(after), ElementsAre(1, 1));
  EXPECT_EQ(stream.stats().prompts.size(), 1u);

  const std::vector<Chunk> unchanged = Generate(SmallClip(33));
  EXPECT_EQ(before, unchanged[0].rgb);
  EXPECT_NE(after[0].rgb, unchanged[1].rgb);
  const Status late = stream.SetPrompt("Too late.").status();
  EXPECT_EQ(late.code(), StatusCode::kNotFound);
  EXPECT_THAT(late.message(), HasSubstr("[prompt]"));
  EXPECT_GE(stream.next_prompt_frame(), 33);
}

TEST(SetPrompt, ChangesNoInitialFrames) {
  StreamOptions options = From(Clip(9), SmallClip(21));
  Stream hidden = OpenStream(options);
  EXPECT_EQ(hidden.next_prompt_frame(), 0);
  options.show_initial = true;
  Stream shown = OpenStream(options);
  EXPECT_EQ(shown.next_prompt_frame(), 9);
  const Result<PromptChange> change = shown.SetPrompt("A blue cube spins.");
  ASSERT_TRUE(change.ok()) << change.status().message();
  EXPECT_EQ(change->first_frame, 9);
  options.frames = 9;
  Stream given = OpenStream(options);
  EXPECT_EQ(given.SetPrompt("A blue cube spins.").status().code(), StatusCode::kNotFound);
}

// The encoder's work comes on top of the stream's.
TEST(SetPrompt, IsRefusedWhereTheEncoderDoesNotFit) {
  if (mrt::testing::kSanitized)
    GTEST_SKIP() << "the sanitizer reserves more address space than any limit";
  constexpr int64_t kLeftBytes = 256 << 10, kPageBytes = 4096;
  const Result<MemoryEstimate> plan = Engine::EstimateMemory(ToyF32(), SmallClip(21));
  ASSERT_TRUE(plan.ok()) << plan.status().message();
  ASSERT_GT(plan->text_bytes, kLeftBytes);
  Stream stream = OpenStream(SmallClip(21));
  rlimit before = {};
  ASSERT_EQ(getrlimit(RLIMIT_AS, &before), 0);
  int64_t pages = 0;
  std::ifstream("/proc/self/statm") >> pages;
  const rlimit limit = {static_cast<rlim_t>(pages * kPageBytes + kLeftBytes), before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_AS, &limit), 0);
  const Status status = stream.SetPrompt("A blue cube spins.").status();
  ASSERT_EQ(setrlimit(RLIMIT_AS, &before), 0);
  EXPECT_EQ(status.code(), StatusCode::kOutOfMemory);
  EXPECT_THAT(status.message(), HasSubstr("[memory] needs"));
  EXPECT_THAT(Prompts(Rest(stream)), ElementsAre(0, 0));
}

TEST(SetPrompt, BeforeTheFirstFrameReplacesTheFirst) {
  Stream stream = OpenStream(SmallClip(9));
  const Result<PromptChange> change = stream.SetPrompt("A blue cube spins.");
  ASSERT_TRUE(change.ok());
  EXPECT_EQ(change->first_frame, 0);
  StreamOptions other = SmallClip(9);
  other.prompt = "A blue cube spins.";
  EXPECT_EQ(Video(Rest(stream)), Video(Generate(other)));
}

// Computing the window anew with the same text gives what was there, bit for bit.
TEST(SetPrompt, RecachingTheSamePromptChangesNothing) {
  for (const bool single_first : {false, true}) {
    StreamOptions options = SmallClip(40);
    options.independent_first_frame = single_first;
    Stream stream = OpenStream(options);
    std::vector<Chunk> chunks;
    for (int i = 0; i < 2; ++i) chunks.push_back(*stream.Next());
    ASSERT_TRUE(stream.SetPrompt(options.prompt, /*recache=*/true).ok());
    const std::vector<Chunk> rest = Rest(stream);
    chunks.insert(chunks.end(), rest.begin(), rest.end());
    EXPECT_EQ(Video(chunks), Video(Generate(options))) << single_first;
  }
}

TEST(SetPrompt, RecachingChangesMoreThanTheText) {
  const auto second_chunk = [](bool recache) {
    Stream stream = OpenStream(SmallClip(21));
    static_cast<void>(stream.Next());
    EXPECT_TRUE(stream.SetPrompt("A blue cube spins.", recache).ok());
    return stream.Next()->rgb;
  };
  EXPECT_NE(second_chunk(false), second_chunk(true));
}

// With a sink and eviction the window holds parts of chunks that lie apart in time.
TEST(SetPrompt, RecachesAWindowThatWasCut) {
  StreamOptions options = SmallClip(60);
  options.window_frames = 8;
  options.sink_frames = 2;
  Stream stream = OpenStream(options);
  for (int i = 0; i < 4; ++i) ASSERT_TRUE(stream.Next().ok());
  ASSERT_TRUE(stream.SetPrompt("A blue cube spins.", /*recache=*/true).ok());
  EXPECT_THAT(FrameCounts(Rest(stream)), ElementsAre(12, 3));
  options.attention.f_tied = 3;
  options.window_frames = 9;
  Stream tied = OpenStream(options);
  EXPECT_THAT(tied.SetPrompt("A blue cube spins.", true).status().message(),
              HasSubstr("[recache]"));
}

TEST(AttentionRules, HoldWhereTheySay) {
  StreamOptions dense = SmallClip(9);
  dense.attention.mode = AttentionMode::kDense;
  const AttentionOptions monarch = {.mode = AttentionMode::kMonarch};
  const std::vector<uint8_t> all_dense = Video(Generate(dense));
  const std::vector<uint8_t> all_monarch = Video(Generate(SmallClip(9)));
  const auto with = [&](const std::vector<AttentionRule>& rules) {
    StreamOptions options = dense;
    options.attention_rules = rules;
    return Video(Generate(options));
  };
  EXPECT_EQ(with({{.attention = monarch}}), all_monarch);
  EXPECT_EQ(with({{.steps = {0, 1, 2, 3, AttentionRule::kCleanPass}, .attention = monarch}}),
            all_monarch);
  EXPECT_EQ(with({{.attention = monarch}, {.attention = dense.attention}}), all_dense);
  const std::vector<uint8_t> first_layer = with({{.layers = {0}, .attention = monarch}});
  EXPECT_NE(first_layer, all_dense);
  EXPECT_NE(first_layer, all_monarch);
  EXPECT_NE(with({{.steps = {3}, .attention = monarch}}), all_dense);
  // The clean pass changes what later chunks see, but not the first chunk.
  EXPECT_EQ(with({{.steps = {AttentionRule::kCleanPass}, .attention = monarch}}), all_dense);
  StreamOptions longer = dense;
  longer.frames = 21;
  const std::vector<uint8_t> dense_21 = Video(Generate(longer));
  longer.attention_rules = {{.steps = {AttentionRule::kCleanPass}, .attention = monarch}};
  EXPECT_NE(Video(Generate(longer)), dense_21);
}

TEST(AttentionRules, AreValidated) {
  const auto refusal = [](const AttentionRule& rule) {
    StreamOptions options = SmallClip(9);
    options.attention_rules = {rule};
    return ToyEngine().Open(options).status().message();
  };
  EXPECT_THAT(refusal({.layers = {1000}}), HasSubstr("layer 1000"));
  EXPECT_THAT(refusal({.layers = {-1}}), HasSubstr("layer -1"));
  EXPECT_THAT(refusal({.steps = {4}}), HasSubstr("denoising step 4"));
  EXPECT_THAT(refusal({.attention = {.w_reduce = 4}}), HasSubstr("[size]"));
  EXPECT_THAT(refusal({.attention = {.f_tied = 2}}), HasSubstr("f_tied"));
}

TEST(KvCacheType, Bf16ChangesLittle) {
  StreamOptions options = SmallClip(21);
  const std::vector<uint8_t> exact = Video(Generate(options));
  options.kv_cache = KvCacheType::kBF16;
  const std::vector<uint8_t> rounded = Video(Generate(options));
  ASSERT_EQ(rounded.size(), exact.size());
  EXPECT_NE(rounded, exact);
  double difference = 0;
  for (size_t i = 0; i < exact.size(); ++i) difference += std::abs(rounded[i] - exact[i]);
  EXPECT_LT(difference / static_cast<double>(exact.size()), 2);  // of 255 levels
}

TEST(DecodeOverlap, GivesTheSameVideo) {
  StreamOptions options = SmallClip(40);
  options.decode_overlap = DecodeOverlap::kOff;
  const std::vector<uint8_t> one_by_one = Video(Generate(options));
  options.decode_overlap = DecodeOverlap::kOn;
  // Each part has half of the threads.
  mrt::testing::ExpectEqualUpToRounding(Video(Generate(options)), one_by_one);
}

TEST(DecodeOverlap, APromptShowsWhereItSays) {
  StreamOptions options = SmallClip(60);
  options.decode_overlap = DecodeOverlap::kOn;
  Stream stream = OpenStream(options);
  std::vector<Chunk> chunks = {*stream.Next()};
  const Result<PromptChange> change = stream.SetPrompt("A blue cube spins.");
  ASSERT_TRUE(change.ok()) << change.status().message();
  for (Chunk& chunk : Rest(stream)) chunks.push_back(std::move(chunk));
  for (const Chunk& chunk : chunks)
    EXPECT_EQ(chunk.prompt, chunk.first_frame >= change->first_frame ? 1 : 0);
}

TEST(DecodeOverlap, CanBeCancelledAndAbandoned) {
  StreamOptions options = SmallClip(100'000);
  options.decode_overlap = DecodeOverlap::kOn;
  Stream stream = OpenStream(options);
  ASSERT_TRUE(stream.Next().ok());
  std::thread canceller([&] { stream.Cancel(); });
  Status status;
  while (status.ok()) status = stream.Next().status();
  canceller.join();
  EXPECT_EQ(status.code(), StatusCode::kCancelled);
  Stream abandoned = OpenStream(options);
  ASSERT_TRUE(abandoned.Next().ok());  // and the next chunk is being made
}

TEST(Streams, OfOneEngineRunSideBySide) {
  const std::vector<uint8_t> alone = Video(Generate(SmallClip(21)));
  std::vector<uint8_t> videos[2];
  std::thread other([&] { videos[1] = Video(Generate(SmallClip(21))); });
  videos[0] = Video(Generate(SmallClip(21)));
  other.join();
  EXPECT_EQ(videos[0], alone);
  EXPECT_EQ(videos[1], alone);
}

TEST(Streams, NextUsesTheMemoryOfAChunkAgain) {
  Stream stream = OpenStream(SmallClip(33));
  Chunk chunk;
  ASSERT_TRUE(stream.Next(chunk).ok());
  const uint8_t* const bytes = chunk.rgb.data();
  while (!stream.done()) {
    ASSERT_TRUE(stream.Next(chunk).ok());
    EXPECT_EQ(chunk.rgb.data(), bytes);
  }
}

TEST(EngineQueries, TellWhatIsThere) {
  const std::vector<DeviceInfo> devices = ListDevices();
  ASSERT_FALSE(devices.empty());
  EXPECT_EQ(devices.back().name, "cpu");  // the others are GPUs
  for (const DeviceInfo& device : devices) {
    EXPECT_GT(device.memory_available_bytes, 0);
    EXPECT_LE(device.memory_available_bytes, device.memory_total_bytes);
  }
  const ModelInfo info = ToyEngine().info();
  EXPECT_EQ(info.dtype, "f32");
  EXPECT_EQ(info.width_multiple, 16);
  EXPECT_GT(info.layers, 0);
  const Result<MemoryEstimate> estimate = Engine::EstimateMemory(ToyF32(), SmallClip(9));
  ASSERT_TRUE(estimate.ok()) << estimate.status().message();
  EXPECT_EQ(estimate->weights_bytes, info.weights_bytes);
  EXPECT_GE(estimate->peak_bytes, estimate->weights_bytes + estimate->stream_bytes);
  EngineOptions other = ToyF32();
  for (const char* name : {"gpu", "cuda:", "cuda:-1", "cuda:1x", "cuda:9999"}) {
    other.device = name;
    EXPECT_EQ(Engine::Load(other).status().code(), StatusCode::kUnavailable) << name;
  }
}

}  // namespace
}  // namespace monarchrt
