#include "apps/chunk_queue.h"

#include <utility>

#include "base/guard.h"
#include "base/status.h"

namespace mrt::apps {

using monarchrt::Chunk;

ChunkQueue::ChunkQueue(Sink sink) : sink_(std::move(sink)), thread_([this] { Run(); }) {}

ChunkQueue::~ChunkQueue() { End(/*drop=*/true); }

Status ChunkQueue::Push(Chunk& chunk) {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return count_ < ring_.size() || !failure_.ok(); });
  if (!failure_.ok()) return failure_;
  std::swap(chunk, ring_[(first_ + count_) % ring_.size()]);
  ++count_;
  changed_.notify_all();
  return {};
}

Status ChunkQueue::Finish() {
  End(/*drop=*/false);
  return failure_;
}

void ChunkQueue::End(bool drop) {
  if (!thread_.joinable()) return;
  {
    const std::lock_guard lock(mutex_);
    ended_ = true;
    dropped_ = drop;
  }
  changed_.notify_all();
  thread_.join();
}

void ChunkQueue::Run() {
  std::unique_lock lock(mutex_);
  while (failure_.ok()) {
    changed_.wait(lock, [&] { return count_ > 0 || ended_; });
    if (dropped_ || count_ == 0) return;
    const Chunk& chunk = ring_[first_];  // Push does not touch it while it counts
    lock.unlock();
    Status status = Guard([&] { return sink_(chunk); });
    lock.lock();
    failure_ = std::move(status);
    first_ = (first_ + 1) % ring_.size();
    --count_;
    changed_.notify_all();
  }
}

}  // namespace mrt::apps
