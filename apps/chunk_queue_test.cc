#include "apps/chunk_queue.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <future>
#include <optional>
#include <set>
#include <stdexcept>
#include <vector>

#include "base/status.h"

namespace mrt::apps {
namespace {

using monarchrt::Chunk;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using namespace std::chrono_literals;

/// A chunk of that number, in the memory that `chunk` has.
void Fill(Chunk& chunk, int64_t index) {
  chunk.index = index;
  chunk.rgb.assign(100, static_cast<uint8_t>(index));
}

/// Lets the sink go on one chunk at a time.
class Gate {
 public:
  void Open(int chunks) {
    const std::lock_guard lock(mutex_);
    open_ += chunks;
    changed_.notify_all();
  }
  void Pass() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return open_ > 0; });
    --open_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  int open_ = 0;
};

TEST(ChunkQueue, GivesAllChunksInOrderToASlowSink) {
  std::vector<int64_t> seen;
  ChunkQueue queue([&](const Chunk& chunk) -> Status {
    std::this_thread::sleep_for(1ms);
    EXPECT_EQ(chunk.rgb, std::vector<uint8_t>(100, static_cast<uint8_t>(chunk.index)));
    seen.push_back(chunk.index);
    return {};
  });
  Chunk chunk;
  std::set<const uint8_t*> memory;
  for (int64_t n = 0; n < 20; ++n) {
    Fill(chunk, n);
    memory.insert(chunk.rgb.data());
    ASSERT_TRUE(queue.Push(chunk).ok());
  }
  ASSERT_TRUE(queue.Finish().ok());
  ASSERT_EQ(seen.size(), 20u);
  for (int64_t n = 0; n < 20; ++n) EXPECT_EQ(seen[static_cast<size_t>(n)], n);
  EXPECT_EQ(memory.size(), size_t{ChunkQueue::kChunksMax} + 1) << "their memory is used again";
}

TEST(ChunkQueue, TheSinkRunsBesideItsCallerWhoWaitsOnlyForRoom) {
  Gate gate;
  std::atomic<int> done = 0;
  ChunkQueue queue([&](const Chunk&) -> Status {
    gate.Pass();
    ++done;
    return {};
  });
  Chunk chunk;
  for (int n = 0; n < ChunkQueue::kChunksMax; ++n) ASSERT_TRUE(queue.Push(chunk).ok());
  EXPECT_EQ(done, 0) << "nobody has waited for the sink";
  std::future<Status> full = std::async(std::launch::async, [&] { return queue.Push(chunk); });
  EXPECT_EQ(full.wait_for(50ms), std::future_status::timeout) << "there is no room";
  gate.Open(1);
  EXPECT_TRUE(full.get().ok());
  gate.Open(ChunkQueue::kChunksMax);
  EXPECT_TRUE(queue.Finish().ok());
  EXPECT_EQ(done, ChunkQueue::kChunksMax + 1);
}

TEST(ChunkQueue, GivesTheFirstFailureToAllLaterCalls) {
  std::vector<int64_t> seen;
  ChunkQueue queue([&](const Chunk& chunk) -> Status {
    seen.push_back(chunk.index);
    return chunk.index == 1 ? IoError("disk full") : Status();
  });
  Chunk chunk;
  Status status;
  int64_t pushed = 0;
  for (; status.ok() && pushed < 100; ++pushed) {
    Fill(chunk, pushed);
    status = queue.Push(chunk);
  }
  EXPECT_LE(pushed, 2 + ChunkQueue::kChunksMax + 1);
  EXPECT_EQ(status.message(), "disk full");
  EXPECT_EQ(queue.Push(chunk).message(), "disk full");
  EXPECT_EQ(queue.Finish().code(), StatusCode::kIoError);
  EXPECT_THAT(seen, ElementsAre(0, 1));
}

TEST(ChunkQueue, AFailureOfTheLastChunkIsThatOfFinish) {
  ChunkQueue queue([](const Chunk&) { return IoError("disk full"); });
  Chunk chunk;
  ASSERT_TRUE(queue.Push(chunk).ok());
  EXPECT_EQ(queue.Finish().message(), "disk full");
}

// Whoever waits for room must not wait for ever.
TEST(ChunkQueue, AFailureWakesWhoWaitsForRoom) {
  Gate gate;
  ChunkQueue queue([&](const Chunk&) {
    gate.Pass();
    return IoError("disk full");
  });
  Chunk chunk;
  for (int n = 0; n < ChunkQueue::kChunksMax; ++n) ASSERT_TRUE(queue.Push(chunk).ok());
  std::future<Status> full = std::async(std::launch::async, [&] { return queue.Push(chunk); });
  gate.Open(1);
  EXPECT_EQ(full.get().message(), "disk full");
}

TEST(ChunkQueue, WhatTheSinkThrowsIsAFailure) {
  ChunkQueue queue([](const Chunk&) -> Status { throw std::runtime_error("broken"); });
  Chunk chunk;
  ASSERT_TRUE(queue.Push(chunk).ok());
  EXPECT_THAT(queue.Finish().message(), HasSubstr("broken"));
}

// As after an error of the generation: the file will not be kept.
TEST(ChunkQueue, WithoutFinishDropsWhatWaits) {
  Gate gate;
  std::atomic<bool> inside = false;
  std::atomic<int> begun = 0, done = 0;
  std::optional<ChunkQueue> queue;
  queue.emplace([&](const Chunk&) -> Status {
    ++begun;
    inside = true;
    gate.Pass();
    ++done;
    return {};
  });
  Chunk chunk;
  for (int n = 0; n < ChunkQueue::kChunksMax; ++n) ASSERT_TRUE(queue->Push(chunk).ok());
  while (!inside) std::this_thread::yield();
  std::future<void> ended = std::async(std::launch::async, [&] { queue.reset(); });
  EXPECT_EQ(ended.wait_for(50ms), std::future_status::timeout) << "the sink has a chunk";
  gate.Open(100);
  ended.get();
  EXPECT_EQ(done, 1);
  EXPECT_EQ(begun, 1);
}

TEST(ChunkQueue, EndsWithoutAChunk) {
  const auto sink = [](const Chunk&) { return Status(); };
  EXPECT_TRUE(ChunkQueue(sink).Finish().ok());
  const ChunkQueue dropped(sink);
}

}  // namespace
}  // namespace mrt::apps
