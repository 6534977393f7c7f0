// Ctrl-C while a video is being made: the stream is cancelled, and the file ends with the frames it
// has.
#pragma once

#include <csignal>

#include "monarchrt/engine.h"

namespace mrt::apps {

/// While it lives, SIGINT and SIGTERM cancel the stream, unless the process was started to ignore
/// them (as a shell does with a job in the background); a second one ends the process at once. One
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
  int told_ = 0;                // by signal()
  struct sigaction before_[2];  // of kSignals
};

}  // namespace mrt::apps
