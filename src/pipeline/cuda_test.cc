// The engine on a real GPU, where the decoder's work runs beside the transformer's.
#include <gtest/gtest.h>

#include <vector>

#include "monarchrt/engine.h"

namespace monarchrt {
namespace {

bool HasGpu() { return ListDevices().front().name != "cpu"; }

std::vector<uint8_t> Video(Engine& engine, DecodeOverlap overlap) {
  Result<Stream> stream = engine.Open({.prompt = "A red ball bounces.",
                                       .width = 416,
                                       .height = 240,
                                       .frames = 57,
                                       .decode_overlap = overlap});
  EXPECT_TRUE(stream.ok()) << stream.status().message();
  std::vector<uint8_t> video;
  while (stream.ok() && !stream->done()) {
    const Result<Chunk> chunk = stream->Next();
    EXPECT_TRUE(chunk.ok()) << chunk.status().message();
    if (!chunk.ok()) break;
    video.insert(video.end(), chunk->rgb.begin(), chunk->rgb.end());
  }
  return video;
}

TEST(EngineOnAGpu, GivesTheSameVideoWithAndWithoutOverlap) {
  if (!HasGpu()) GTEST_SKIP() << "no GPU that CUDA can use";
  for (const VaeKind vae : {VaeKind::kWan, VaeKind::kTaehv}) {
    Result<Engine> engine =
        Engine::Load({.synthetic = "wan2.1-1.3b", .vae = vae, .device = "cuda"});
    ASSERT_TRUE(engine.ok()) << engine.status().message();
    const std::vector<uint8_t> want = Video(*engine, DecodeOverlap::kOff);
    EXPECT_EQ(want.size(), size_t{57} * 416 * 240 * 3);
    for (int repeat = 0; repeat < 3; ++repeat)
      EXPECT_TRUE(Video(*engine, DecodeOverlap::kOn) == want) << "repeat " << repeat;
  }
}

}  // namespace
}  // namespace monarchrt
