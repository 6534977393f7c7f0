#include "pipeline/latent_source.h"

#include <utility>

#include "base/guard.h"
#include "base/threads.h"

namespace mrt {

LatentSource::LatentSource(LatentMaker& maker, const Options& options)
    : maker_(maker), options_(options) {
  chunks_[0] = maker.NewChunk();
  if (options.ahead) chunks_[1] = maker.NewChunk();
}

LatentSource::~LatentSource() {
  if (!thread_.joinable()) return;
  {
    const std::lock_guard lock(mutex_);
    *options_.stop = true;
  }
  changed_.notify_all();
  thread_.join();
}

Result<const LatentChunk*> LatentSource::Next() {
  if (!options_.ahead) {
    MRT_RETURN_IF_ERROR(Guard([&] { return Make(chunks_[0]); }));
    return &chunks_[0];
  }
  std::unique_lock lock(mutex_);
  const int64_t n = asked_++;
  if (!thread_.joinable()) thread_ = std::thread([this] { Run(); });
  changed_.notify_all();
  changed_.wait(lock, [&] { return made_ > n || !failure_.ok(); });
  if (made_ <= n) return failure_;
  return &chunks_[static_cast<size_t>(n % 2)];
}

int64_t LatentSource::begun() const {
  const std::lock_guard lock(mutex_);
  return begun_;
}

LatentSource::TextChange LatentSource::SetText(CrossKv text, bool recache) {
  const std::lock_guard lock(mutex_);
  if (next_text_) recache = recache || next_text_->recache;
  next_text_ = {std::move(text), prompts_++, recache};
  return {next_text_->prompt, begun_};
}

Status LatentSource::Make(LatentChunk& chunk) {
  const auto device_lock = options_.lock();
  {
    const std::lock_guard lock(mutex_);
    if (next_text_)
      maker_.SetText(std::move(next_text_->text), next_text_->prompt, next_text_->recache);
    next_text_.reset();
    const ChunkSpan span = maker_.NextSpan();
    begun_ = span.first + span.frames;
  }
  return maker_.Make(chunk);
}

// The thread: makes chunk n once the caller has asked for chunk n - 1 and so let go of n - 2.
void LatentSource::Run() {
  SetThreadCount(options_.threads);
  for (int64_t n = 0; !maker_.done(); ++n) {
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [&] { return asked_ >= n || *options_.stop; });
    }
    const Status status = Guard([&] { return Make(chunks_[static_cast<size_t>(n % 2)]); });
    const std::lock_guard lock(mutex_);
    if (status.ok())
      ++made_;
    else
      failure_ = status;
    changed_.notify_all();
    if (!status.ok()) return;
  }
}

}  // namespace mrt
