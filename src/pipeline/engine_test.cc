#include "monarchrt/engine.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <thread>

#include "base/threads.h"
#include "testing/near_video.h"

namespace monarchrt {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

const std::string kTree = std::string(MRT_GOLDEN_DIR) + "/toy_wan";

EngineOptions Toy() {
  return {.model = kTree, .checkpoint = "checkpoints/self_forcing_dmd.pt:generator_ema"};
}

StreamOptions SmallVideo(int64_t frames) {
  return {.prompt = "A red ball bounces.", .seed = 7, .width = 80, .height = 48, .frames = frames};
}

std::vector<uint8_t> Generate(const EngineOptions& engine_options, const StreamOptions& options) {
  Result<Engine> engine = Engine::Load(engine_options);
  EXPECT_TRUE(engine.ok()) << engine.status().message();
  Result<Stream> stream = engine->Open(options);
  EXPECT_TRUE(stream.ok()) << stream.status().message();
  std::vector<uint8_t> video;
  while (!stream->done()) {
    const Result<Chunk> chunk = stream->Next();
    EXPECT_TRUE(chunk.ok()) << chunk.status().message();
    if (!chunk.ok()) break;
    video.insert(video.end(), chunk->rgb.begin(), chunk->rgb.end());
  }
  return video;
}

TEST(Engine, GivesTheFramesInChunks) {
  Result<Engine> engine = Engine::Load(Toy());
  ASSERT_TRUE(engine.ok()) << engine.status().message();
  StreamOptions options = SmallVideo(24);
  options.decode_overlap = DecodeOverlap::kOff;  // else the rate with VAE may be the lowest
  Result<Stream> stream = engine->Open(options);
  ASSERT_TRUE(stream.ok()) << stream.status().message();
  for (const auto& [first, frames] : {std::pair{0, 9}, {9, 12}, {21, 3}}) {
    const Result<Chunk> chunk = stream->Next();
    ASSERT_TRUE(chunk.ok()) << chunk.status().message();
    EXPECT_EQ(chunk->first_frame, first);
    EXPECT_EQ(chunk->frames, frames);
    EXPECT_EQ(chunk->start_s, first / 16.0);
    EXPECT_EQ(chunk->rgb.size(), static_cast<size_t>(frames) * 48 * 80 * 3);
  }
  EXPECT_TRUE(stream->done());
  EXPECT_EQ(stream->Next().status().code(), StatusCode::kInvalidArgument);
  const GenerationStats stats = stream->stats();
  EXPECT_EQ(stats.frames, 24);
  EXPECT_EQ(stats.chunk_transformer_ms.size(), 3u);
  EXPECT_GT(stats.FpsTransformer(), stats.FpsWithVae());
  EXPECT_GT(stats.FpsWithVae(), stats.FpsEndToEnd());
  EXPECT_GT(stats.first_frame_s, stats.text_s);
}

TEST(Engine, GivesTheSameVideoForEveryThreadCount) {
  EngineOptions options = Toy();
  options.threads = 1;
  const std::vector<uint8_t> one = Generate(options, SmallVideo(9));
  options.threads = 3;
  mrt::testing::ExpectEqualUpToRounding(Generate(options, SmallVideo(9)), one);
}

TEST(Engine, LeavesTheCallersThreadCountAlone) {
  mrt::SetThreadCount(5);
  EngineOptions options = Toy();
  options.threads = 2;
  for (const DecodeOverlap overlap : {DecodeOverlap::kOff, DecodeOverlap::kOn}) {
    StreamOptions video = SmallVideo(21);
    video.decode_overlap = overlap;
    EXPECT_TRUE(Engine::Validate(options, video).ok());
    EXPECT_EQ(mrt::ThreadCount(), 5);
    Result<Engine> engine = Engine::Load(options);
    ASSERT_TRUE(engine.ok()) << engine.status().message();
    EXPECT_EQ(mrt::ThreadCount(), 5);
    Result<Stream> stream = engine->Open(video);
    ASSERT_TRUE(stream.ok()) << stream.status().message();
    EXPECT_EQ(mrt::ThreadCount(), 5);
    EXPECT_TRUE(stream->SetPrompt("A blue cat.").ok());
    EXPECT_EQ(mrt::ThreadCount(), 5);
    EXPECT_TRUE(stream->Next().ok());
    EXPECT_EQ(mrt::ThreadCount(), 5);
    EXPECT_EQ(stream->stats().threads, 2);
  }
  EXPECT_FALSE(ListDevices().empty());
  EXPECT_EQ(mrt::ThreadCount(), 5);
  mrt::SetThreadCount(0);
}

TEST(Engine, StartsALongVideoLikeAShortOne) {
  const std::vector<uint8_t> one = Generate(Toy(), SmallVideo(9));
  std::vector<uint8_t> two = Generate(Toy(), SmallVideo(21));
  two.resize(one.size());
  EXPECT_EQ(one, two);
}

TEST(Engine, DependsOnSeedPromptAndAttention) {
  const std::vector<uint8_t> base = Generate(Toy(), SmallVideo(9));
  StreamOptions other = SmallVideo(9);
  other.seed = 8;
  EXPECT_NE(base, Generate(Toy(), other));
  other = SmallVideo(9);
  other.prompt = "A blue cat.";
  EXPECT_NE(base, Generate(Toy(), other));
  other = SmallVideo(9);
  other.attention.mode = AttentionMode::kDense;
  EXPECT_NE(base, Generate(Toy(), other));
}

TEST(Engine, PicksTheAveragedWeightsWithoutAKey) {
  EngineOptions plain = Toy();
  plain.checkpoint = "checkpoints/self_forcing_dmd.pt";
  EXPECT_EQ(Generate(plain, SmallVideo(9)), Generate(Toy(), SmallVideo(9)));
  EngineOptions other = Toy();
  other.checkpoint = "checkpoints/self_forcing_dmd.pt:generator";
  EXPECT_NE(Generate(other, SmallVideo(9)), Generate(Toy(), SmallVideo(9)));
}

TEST(Engine, CanBeCancelledFromAnotherThread) {
  Result<Engine> engine = Engine::Load(Toy());
  ASSERT_TRUE(engine.ok());
  Result<Stream> stream = engine->Open(SmallVideo(100'000));
  ASSERT_TRUE(stream.ok()) << stream.status().message();
  ASSERT_TRUE(stream->Next().ok());
  std::thread canceller([&] { stream->Cancel(); });
  Status status;
  while (status.ok()) status = stream->Next().status();
  canceller.join();
  EXPECT_EQ(status.code(), StatusCode::kCancelled);
  EXPECT_EQ(stream->Next().status().code(), StatusCode::kCancelled);
}

TEST(Engine, RefusesBeforeLoading) {
  const auto refusal = [](const EngineOptions& engine, const StreamOptions& stream) {
    return Engine::Validate(engine, stream).message();
  };
  EXPECT_EQ(refusal(Toy(), SmallVideo(9)), "");
  EXPECT_THAT(refusal({.model = "/no/such"}, SmallVideo(9)), HasSubstr("/no/such"));
  EXPECT_THAT(refusal({}, SmallVideo(9)), HasSubstr("[model]"));
  EngineOptions engine = Toy();
  engine.checkpoint = "missing.pt";
  EXPECT_THAT(refusal(engine, SmallVideo(9)), HasSubstr("missing.pt"));
  engine.checkpoint = "checkpoints/self_forcing_dmd.pt:critic";
  EXPECT_THAT(refusal(engine, SmallVideo(9)), HasSubstr("generator_ema"));
  engine = Toy();
  engine.vae = VaeKind::kTaehv;
  EXPECT_THAT(refusal(engine, SmallVideo(9)), HasSubstr("taew2_1.pth"));
  engine = Toy();
  engine.threads = -1;
  EXPECT_THAT(refusal(engine, SmallVideo(9)), HasSubstr("[threads]"));
  StreamOptions stream = SmallVideo(9);
  stream.width = 81;
  EXPECT_THAT(refusal(Toy(), stream), HasSubstr("nearest: 80 or 96"));
  stream = SmallVideo(9);
  stream.prompt.assign(2 << 20, 'a');
  EXPECT_THAT(refusal(Toy(), stream), HasSubstr("[prompt]"));
  // Keys and values of two thousand latent frames of 8192x8192: 800 GB.
  stream = SmallVideo(8000);
  stream.width = stream.height = 8192;
  stream.window_frames = -1;
  EXPECT_EQ(Engine::Validate(Toy(), stream).code(), StatusCode::kOutOfMemory)
      << refusal(Toy(), stream);
}

}  // namespace
}  // namespace monarchrt
