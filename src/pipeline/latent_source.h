// Latents for the decoder: made when they are asked for, or one chunk ahead on a thread of its own.
#pragma once

#include <array>
#include <atomic>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <optional>
#include <thread>

#include "pipeline/latent_maker.h"

namespace mrt {

/// Used by one thread.
class LatentSource {
 public:
  struct Options {
    bool ahead = false;  // from the first Next() on the maker belongs to the source's own thread
    bool first_alone = false;           // the second chunk is begun when the first one is decoded
    int threads = 0;                    // that this thread may use
    std::atomic<bool>* stop = nullptr;  // of the maker's context; the destructor sets it
    std::function<std::unique_lock<std::mutex>()> lock;  // held while a chunk is made
  };

  /// The maker must outlive the source.
  LatentSource(LatentMaker& maker, const Options& options);
  ~LatentSource();
  LatentSource(const LatentSource&) = delete;
  LatentSource& operator=(const LatentSource&) = delete;

  /// Next() is near: what is ahead may begin. Next() does it, too.
  void Ask();

  /// The chunk of the last Next() is decoded.
  void Decoded();

  /// The next chunk, valid until the next call; not after the last one. Errors are those of
  /// LatentMaker::Make, and Internal or OutOfMemory for what was thrown; nothing comes after one.
  Result<const LatentChunk*> Next();

  /// The latent frame where the next chunk begins that a new text would change: after those that
  /// are given, made or being made. The plan's `latents` if there is none.
  int64_t next_change() const;
  /// NotFound if there is none.
  Status CheckText() const;

  /// A text from that chunk on; returns its number, as in LatentChunk::prompt, and its begin.
  /// Errors are those of CheckText: since that was asked, the last chunk may have been begun.
  struct TextChange {
    int prompt = 0;
    int64_t position = 0;
  };
  Result<TextChange> SetText(CrossKv text, bool recache);

 private:
  struct NextText {
    CrossKv text;
    int prompt = 0;
    bool recache = false;
  };

  Status Make(LatentChunk& chunk);
  Status Finish();
  /// The next chunk counts as begun: no later text changes it.
  void Claim();
  /// With the mutex held.
  int64_t NextChange() const;
  Status CheckTextLocked() const;
  void Run();
  /// Of the thread: false ends it.
  bool Tell(const Status& status, int64_t made);

  LatentMaker& maker_;
  const Options options_;
  std::array<LatentChunk, 2> chunks_;  // number n is made in n % 2; not ahead: always in the first
  std::optional<NextText> claimed_text_;  // that of the next Make
  bool claimed_ = false;

  mutable std::mutex mutex_;  // guards what follows
  std::condition_variable changed_;
  int64_t asked_ = 0;  // calls of Next(): the caller holds chunk number asked_ - 1, or waits for it
  bool asked_ahead_ = false;  // the next call is counted
  bool decoded_ = false;      // the first chunk
  int64_t made_ = 0;          // chunks that are finished
  int64_t begun_ = 0;         // latent frames that are made or being made
  int prompts_ = 1;           // so far
  std::optional<NextText> next_text_;
  Status failure_;
  std::thread thread_;
};

}  // namespace mrt
