// Lets a slow reader of chunks work on a thread of its own while the next chunks are made.
#pragma once

#include <array>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>

#include "monarchrt/engine.h"

namespace mrt::apps {

/// Push and Finish are for one thread, the sink runs on another one.
class ChunkQueue {
 public:
  using Sink = std::function<monarchrt::Status(const monarchrt::Chunk&)>;

  /// Chunks that are kept: one in the sink, one that waits for it.
  static constexpr int kChunksMax = 2;

  /// Starts the thread. Throws std::system_error if the system gives none.
  explicit ChunkQueue(Sink sink);
  /// Waits for the chunk that is in the sink; what comes after it is dropped.
  ~ChunkQueue();
  ChunkQueue(const ChunkQueue&) = delete;
  ChunkQueue& operator=(const ChunkQueue&) = delete;

  /// Takes the chunk and gives an older one for it, whose memory may be used again. Waits for room.
  /// The sink's first failure, also of an earlier chunk, comes back from every later call.
  monarchrt::Status Push(monarchrt::Chunk& chunk);

  /// Returns once the sink has had all chunks, or with its failure. The last call.
  monarchrt::Status Finish();

 private:
  void Run();
  void End(bool drop);

  const Sink sink_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::array<monarchrt::Chunk, kChunksMax> ring_;
  size_t first_ = 0;  // the chunk in the sink, or the next one
  size_t count_ = 0;  // chunks from there on
  bool ended_ = false, dropped_ = false;
  monarchrt::Status failure_;
  std::thread thread_;  // the last: it uses the others
};

}  // namespace mrt::apps
