#include "apps/interrupt.h"

#include <csignal>
#include <ctime>

namespace mrt::apps {
namespace {

// One request may arrive twice: timeout(1) signals the process and its group.
constexpr double kEchoSeconds = 0.2;

constexpr int kSignals[] = {SIGINT, SIGTERM};

// A signal handler can reach nothing but globals.
std::atomic<monarchrt::Stream*> running = nullptr;
std::atomic<int> received = 0;
std::atomic<double> received_at = 0;

double Now() {
  timespec t = {};
  clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

// Everything here may be called in a handler; Cancel() is one atomic store.
void OnSignal(int signal) {
  if (received != 0) {
    if (Now() - received_at < kEchoSeconds) return;
    std::signal(signal, SIG_DFL);
    std::raise(signal);
    return;
  }
  received_at = Now();
  received = signal;
  if (monarchrt::Stream* stream = running) stream->Cancel();
}

}  // namespace

CancelOnInterrupt::CancelOnInterrupt(monarchrt::Stream& stream) {
  received = 0;
  running = &stream;
  struct sigaction action = {};
  action.sa_handler = OnSignal;
  for (int i = 0; i < 2; ++i) {
    sigaction(kSignals[i], nullptr, &before_[i]);
    if (before_[i].sa_handler != SIG_IGN) sigaction(kSignals[i], &action, nullptr);
  }
}

CancelOnInterrupt::~CancelOnInterrupt() {
  for (int i = 0; i < 2; ++i) sigaction(kSignals[i], &before_[i], nullptr);
  running = nullptr;
  if (received != told_) std::raise(received);
}

int CancelOnInterrupt::signal() { return told_ = received; }

}  // namespace mrt::apps
