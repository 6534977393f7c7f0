#include "pipeline/latent_source.h"

#include <algorithm>
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
  Ask();
  std::unique_lock lock(mutex_);
  asked_ahead_ = false;
  const int64_t n = asked_ - 1;
  changed_.wait(lock, [&] { return made_ > n || !failure_.ok(); });
  if (made_ <= n) return failure_;
  return &chunks_[static_cast<size_t>(n % 2)];
}

void LatentSource::Ask() {
  if (!options_.ahead) return;
  const std::lock_guard lock(mutex_);
  if (std::exchange(asked_ahead_, true)) return;
  ++asked_;
  if (!thread_.joinable()) thread_ = std::thread([this] { Run(); });
  changed_.notify_all();
}

void LatentSource::Decoded() {
  const std::lock_guard lock(mutex_);
  decoded_ = true;
  changed_.notify_all();
}

int64_t LatentSource::NextChange() const { return std::max(begun_, maker_.plan().initial_latents); }

Status LatentSource::CheckTextLocked() const {
  if (NextChange() < maker_.plan().latents) return {};
  return NotFound("[prompt] all frames are made or being made, need one to change");
}

int64_t LatentSource::next_change() const {
  const std::lock_guard lock(mutex_);
  return NextChange();
}

Status LatentSource::CheckText() const {
  const std::lock_guard lock(mutex_);
  return CheckTextLocked();
}

Result<LatentSource::TextChange> LatentSource::SetText(CrossKv text, bool recache) {
  const std::lock_guard lock(mutex_);
  MRT_RETURN_IF_ERROR(CheckTextLocked());
  if (next_text_) recache = recache || next_text_->recache;
  next_text_ = {std::move(text), prompts_++, recache};
  return TextChange{next_text_->prompt, NextChange()};
}

Status LatentSource::Finish() {
  const auto device_lock = options_.lock();
  return maker_.Finish();
}

Status LatentSource::Make(LatentChunk& chunk) {
  MRT_RETURN_IF_ERROR(Finish());  // with the text that the last chunk was made with
  Claim();
  claimed_ = false;
  const auto device_lock = options_.lock();
  if (claimed_text_)
    maker_.SetText(std::move(claimed_text_->text), claimed_text_->prompt, claimed_text_->recache);
  claimed_text_.reset();
  return maker_.Make(chunk);
}

void LatentSource::Claim() {
  if (std::exchange(claimed_, true)) return;
  const std::lock_guard lock(mutex_);
  claimed_text_ = std::move(next_text_);
  next_text_.reset();
  const ChunkSpan span = maker_.NextSpan();
  begun_ = span.first + span.frames;
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
    const bool alone = options_.first_alone && n == 0 && status.ok() && !maker_.done();
    if (alone) Claim();
    if (!Tell(status, n + 1)) return;
    if (alone) {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [&] { return decoded_ || *options_.stop; });
    }
    // The caller has its latents: the clean pass runs beside the decoder. The last one is for
    // nobody.
    if (!maker_.done() && !Tell(Guard([&] { return Finish(); }), n + 1)) return;
  }
}

bool LatentSource::Tell(const Status& status, int64_t made) {
  const std::lock_guard lock(mutex_);
  if (status.ok())
    made_ = made;
  else
    failure_ = status;
  changed_.notify_all();
  return status.ok();
}

}  // namespace mrt
