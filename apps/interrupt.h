// Ctrl-C while a video is being made: the stream is cancelled, so that the unfinished file is
// removed.
#pragma once

#include "monarchrt/engine.h"

namespace mrt::apps {

/// While it lives, SIGINT and SIGTERM cancel the stream; a second one ends the process at once. One
/// at a time.
class CancelOnInterrupt {
 public:
  explicit CancelOnInterrupt(monarchrt::Stream& stream);
  ~CancelOnInterrupt();
  CancelOnInterrupt(const CancelOnInterrupt&) = delete;
  CancelOnInterrupt& operator=(const CancelOnInterrupt&) = delete;
};

}  // namespace mrt::apps
