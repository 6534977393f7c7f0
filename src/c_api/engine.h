// The handles of the C API.
#pragma once

#include <atomic>
#include <utility>

#include "c_api/boundary.h"
#include "monarchrt/engine.h"

struct mrt_engine {
  monarchrt::Engine engine;
};

struct mrt_stream {
  mrt_stream(monarchrt::Stream made, int64_t frame_bytes_of_it)
      : stream(std::move(made)), frame_bytes(frame_bytes_of_it) {}

  monarchrt::Stream stream;
  const int64_t frame_bytes;  // width * height * 3
  monarchrt::Chunk chunk;     // its memory is used again
  bool lent = false;          // to a callback of mrt_generate, which must not destroy it
  mutable std::atomic_flag busy = ATOMIC_FLAG_INIT;  // a thread is in a call
};

namespace mrt::c_api {

/// The thread that uses a stream, while it lives; status() says whether it may.
class StreamUse {
 public:
  explicit StreamUse(const mrt_stream* stream)
      : StreamUse(stream, stream != nullptr && !stream->busy.test_and_set()) {}
  /// Once the call of another thread has ended: that is always ok.
  static StreamUse AfterOthers(const mrt_stream& stream) {
    while (stream.busy.test_and_set()) stream.busy.wait(true);
    return {&stream, true};
  }
  ~StreamUse() {
    if (!ok_) return;
    stream_->busy.clear();
    stream_->busy.notify_all();
  }
  StreamUse(const StreamUse&) = delete;
  StreamUse& operator=(const StreamUse&) = delete;

  Status status() const {
    if (ok_) return {};
    if (stream_ == nullptr) return Need(nullptr, "stream", "handle");
    return InvalidArgument("[stream] got a call while another is running, need one at a time");
  }

 private:
  StreamUse(const mrt_stream* stream, bool ok) : stream_(stream), ok_(ok) {}

  const mrt_stream* const stream_;
  const bool ok_;
};

}  // namespace mrt::c_api
