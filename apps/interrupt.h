// Ctrl-C while a video is being made: the stream is cancelled, and the file ends with the frames it
// has.
#pragma once

#include "monarchrt/engine.h"

namespace mrt::apps {

/// While it lives, SIGINT and SIGTERM cancel the stream; a second one ends the process at once. One
/// that nobody has asked for with signal() ends the process when this ends: none is lost. One at a
/// time.
class CancelOnInterrupt {
 public:
  explicit CancelOnInterrupt(monarchrt::Stream& stream);
  ~CancelOnInterrupt();

  CancelOnInterrupt(const CancelOnInterrupt&) = delete;
  CancelOnInterrupt& operator=(const CancelOnInterrupt&) = delete;

  /// The signal that came, 0 if none did.
  int signal();

 private:
  int told_ = 0;  // by signal()
};

}  // namespace mrt::apps
