#include "model/wan/kv_cache.h"

#include <gtest/gtest.h>

#include <deque>
#include <random>
#include <set>

namespace mrt {
namespace {

constexpr int64_t kRows = 2, kCols = 3;

WanConfig TinyConfig() {
  WanConfig config;
  config.dim = 4;
  config.num_heads = 2;
  config.num_layers = 2;
  return config;
}

/// What the window must show: absolute frame numbers in logical order, the current chunk's last.
struct Model {
  int64_t capacity, sink;
  std::deque<int64_t> visible = {};
  int64_t seen = 0;

  void Begin(int64_t frames) {
    while (static_cast<int64_t>(visible.size()) + frames > capacity)
      visible.erase(visible.begin() + sink);
    for (int64_t f = 0; f < frames; ++f) visible.push_back(seen + f);
  }
};

/// The mark of one frame in one layer's keys (side 0) or values (side 1).
float Mark(int64_t frame, int64_t layer, int side) {
  return static_cast<float>(frame * 100 + layer * 10 + side);
}

void FillFrame(void* frame, float value) {
  std::fill_n(static_cast<float*>(frame), kRows * kCols * TinyConfig().dim, value);
}

bool FrameIs(const void* frame, float value) {
  const auto* x = static_cast<const float*>(frame);
  return std::all_of(x, x + kRows * kCols * TinyConfig().dim, [&](float v) { return v == value; });
}

/// Writes the chunk's frames as a Forward would, then looks at the whole window of every layer.
void WriteAndCheck(KvCache& cache, const Model& model, int64_t frames) {
  ASSERT_EQ(cache.frames_seen(), model.seen);
  ASSERT_EQ(cache.chunk_frames(), frames);
  ASSERT_EQ(cache.frames_visible(), static_cast<int64_t>(model.visible.size()));
  for (int64_t layer = 0; layer < cache.num_layers(); ++layer) {
    const ops::KvFrames window = cache.Layer(layer);
    const size_t past = window.keys.size() - static_cast<size_t>(frames);
    for (size_t f = past; f < window.keys.size(); ++f) {
      FillFrame(window.keys[f], Mark(model.visible[f], layer, 0));
      FillFrame(window.values[f], Mark(model.visible[f], layer, 1));
    }
  }
  for (int64_t layer = 0; layer < cache.num_layers(); ++layer) {
    const ops::KvFrames window = cache.Layer(layer);
    for (size_t f = 0; f < window.keys.size(); ++f) {
      ASSERT_TRUE(FrameIs(window.keys[f], Mark(model.visible[f], layer, 0))) << f;
      ASSERT_TRUE(FrameIs(window.values[f], Mark(model.visible[f], layer, 1))) << f;
    }
  }
}

TEST(KvCache, ShowsWhatAPlainModelShowsForRandomChunks) {
  std::mt19937 random(7);
  const auto pick = [&](int64_t low, int64_t high) {
    return std::uniform_int_distribution<int64_t>(low, high)(random);
  };
  for (int round = 0; round < 50; ++round) {
    const int64_t capacity = pick(1, 9), sink = pick(0, capacity - 1);
    SCOPED_TRACE("capacity " + std::to_string(capacity) + " sink " + std::to_string(sink));
    KvCache cache(TinyConfig(), kRows, kCols, capacity, sink, DType::kF32);
    Model model{capacity, sink};
    for (int chunk = 0; chunk < 12; ++chunk) {
      if (pick(0, 15) == 0) {
        cache.Clear();
        model = {capacity, sink};
      }
      const int64_t frames = pick(1, capacity - sink);
      ASSERT_TRUE(cache.BeginChunk(frames).ok());
      model.Begin(frames);
      for (int step = 0; step < 2; ++step)
        ASSERT_NO_FATAL_FAILURE(WriteAndCheck(cache, model, frames));
      cache.EndChunk();
      model.seen += frames;
      ASSERT_EQ(cache.chunk_frames(), 0);
      ASSERT_EQ(cache.frames_seen(), model.seen);
    }
  }
}

TEST(KvCache, KeepsTheSinkAndTheNewestFrames) {
  KvCache cache(TinyConfig(), kRows, kCols, /*capacity_frames=*/6, /*sink_frames=*/1, DType::kF32);
  Model model{6, 1};
  for (int chunk = 0; chunk < 4; ++chunk) {
    ASSERT_TRUE(cache.BeginChunk(3).ok());
    model.Begin(3);
    ASSERT_NO_FATAL_FAILURE(WriteAndCheck(cache, model, 3));
    cache.EndChunk();
    model.seen += 3;
  }
  EXPECT_EQ(model.visible, (std::deque<int64_t>{0, 7, 8, 9, 10, 11}));
}

TEST(KvCache, FramesNeverMoveAndNeverShareASlot) {
  KvCache cache(TinyConfig(), kRows, kCols, 5, 2, DType::kF32);
  ASSERT_TRUE(cache.BeginChunk(2).ok());
  const void* const sink = cache.Layer(1).values[0];
  for (int chunk = 0; chunk < 5; ++chunk) {
    cache.EndChunk();
    ASSERT_TRUE(cache.BeginChunk(3).ok());
    EXPECT_EQ(cache.Layer(1).values[0], sink);
    std::set<const void*> distinct;
    for (int64_t layer = 0; layer < 2; ++layer) {
      const ops::KvFrames w = cache.Layer(layer);
      distinct.insert(w.keys.begin(), w.keys.end());
      distinct.insert(w.values.begin(), w.values.end());
    }
    EXPECT_EQ(static_cast<int64_t>(distinct.size()), 4 * cache.frames_visible());
  }
}

TEST(KvCache, RefusesAChunkThatDoesNotFitBesideTheSinkAndStaysAsItWas) {
  KvCache cache(TinyConfig(), kRows, kCols, 4, 2, DType::kF32);
  ASSERT_TRUE(cache.BeginChunk(2).ok());
  cache.EndChunk();
  for (const int64_t frames : {int64_t{3}, int64_t{0}, int64_t{-1}, INT64_MAX}) {
    const Status status = cache.BeginChunk(frames);
    EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
    EXPECT_NE(status.message().find("need 1 to 2"), std::string::npos) << status.message();
  }
  EXPECT_EQ(cache.frames_visible(), 2);
  EXPECT_EQ(cache.frames_seen(), 2);
  EXPECT_TRUE(cache.BeginChunk(2).ok());

  KvCache all_sink(TinyConfig(), kRows, kCols, 3, 5, DType::kF32);
  EXPECT_EQ(all_sink.BeginChunk(1).code(), StatusCode::kInvalidArgument);
}

// A layer sees the past and what it wrote itself, one layer after the other.
TEST(KvCache, LayersShareTheSlotsOfTheFinalChunk) {
  KvCache cache(TinyConfig(), kRows, kCols, 5, 0, DType::kF32, nullptr, /*final_frames=*/2);
  Model model{5, 0};
  for (const int64_t frames : {1, 2}) {
    ASSERT_TRUE(cache.BeginChunk(frames).ok());
    model.Begin(frames);
    EXPECT_FALSE(cache.chunk_is_final());
    ASSERT_NO_FATAL_FAILURE(WriteAndCheck(cache, model, frames));
    cache.EndChunk();
    model.seen += frames;
  }
  ASSERT_TRUE(cache.BeginChunk(2).ok());
  EXPECT_TRUE(cache.chunk_is_final());
  std::set<const void*> final_slots;
  for (int step = 0; step < 2; ++step)
    for (int64_t layer = 0; layer < cache.num_layers(); ++layer) {
      const ops::KvFrames window = cache.Layer(layer), chunk = window.Last(2);
      ASSERT_EQ(window.size(), 5u);
      for (size_t f = 0; f < 2; ++f) {
        FillFrame(chunk.keys[f], -1);
        FillFrame(chunk.values[f], -2);
      }
      for (int64_t f = 0; f < 3; ++f) {
        ASSERT_TRUE(FrameIs(window.keys[static_cast<size_t>(f)], Mark(f, layer, 0)));
        ASSERT_TRUE(FrameIs(window.values[static_cast<size_t>(f)], Mark(f, layer, 1)));
      }
      final_slots.insert(chunk.keys.begin(), chunk.keys.end());
      final_slots.insert(chunk.values.begin(), chunk.values.end());
    }
  EXPECT_EQ(final_slots.size(), 4u);
  cache.EndChunk();
  EXPECT_DEATH(static_cast<void>(cache.BeginChunk(1)), "past_frames_");
}

TEST(KvCache, SaysHowManyBytesItTakes) {
  const KvCache cache(TinyConfig(), kRows, kCols, 5, 1, DType::kBF16);
  EXPECT_EQ(cache.bytes(), 2 * 2 * 5 * kRows * kCols * 4 * 2);
  EXPECT_EQ(cache.bytes(), KvCache::Bytes(TinyConfig(), kRows, kCols, 5, DType::kBF16));
  const KvCache ends(TinyConfig(), kRows, kCols, 5, 0, DType::kBF16, nullptr, /*final_frames=*/2);
  EXPECT_EQ(ends.bytes(), (2 * 3 + 2) * 2 * kRows * kCols * 4 * 2);
  EXPECT_EQ(ends.bytes(), KvCache::Bytes(TinyConfig(), kRows, kCols, 5, DType::kBF16, 2));
}

}  // namespace
}  // namespace mrt
