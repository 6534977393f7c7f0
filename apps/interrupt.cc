#include "apps/interrupt.h"

#include <csignal>

namespace mrt::apps {
namespace {

// A signal handler can reach nothing but a global.
std::atomic<monarchrt::Stream*> running = nullptr;

// Cancel() is one atomic store, which a handler may do. SA_RESETHAND makes the next signal deadly.
void OnSignal(int) {
  if (monarchrt::Stream* stream = running) stream->Cancel();
}

}  // namespace

CancelOnInterrupt::CancelOnInterrupt(monarchrt::Stream& stream) {
  running = &stream;
  struct sigaction action = {};
  action.sa_handler = OnSignal;
  action.sa_flags = static_cast<int>(SA_RESETHAND);
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
}

CancelOnInterrupt::~CancelOnInterrupt() {
  std::signal(SIGINT, SIG_DFL);
  std::signal(SIGTERM, SIG_DFL);
  running = nullptr;
}

}  // namespace mrt::apps
