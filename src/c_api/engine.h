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

/// The thread that uses a stream, while it lives; ok() says whether it may.
class StreamUse {
 public:
  explicit StreamUse(const mrt_stream* stream)
      : stream_(stream), ok_(stream != nullptr && !stream->busy.test_and_set()) {}
  ~StreamUse() {
    if (ok_) stream_->busy.clear();
  }
  StreamUse(const StreamUse&) = delete;
  StreamUse& operator=(const StreamUse&) = delete;

  Status status() const {
    if (ok_) return {};
    if (stream_ == nullptr) return Need(nullptr, "stream", "handle");
    return InvalidArgument("[stream] got a call while another is running, need one at a time");
  }

 private:
  const mrt_stream* const stream_;
  const bool ok_;
};

}  // namespace mrt::c_api
