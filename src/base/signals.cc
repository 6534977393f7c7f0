#include "base/signals.h"

#include <pthread.h>

#include <initializer_list>

namespace mrt {
namespace {

sigset_t SignalsFromOutside() {
  sigset_t set;
  sigfillset(&set);
  for (const int own : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT, SIGSYS})
    sigdelset(&set, own);
  return set;
}

}  // namespace

SignalShield::SignalShield() {
  static const sigset_t kSet = SignalsFromOutside();
  pthread_sigmask(SIG_BLOCK, &kSet, &before_);
  // Every time: a parallel region of fewer threads ends the others, and those that replace them
  // may have been started without this mask.
#pragma omp parallel
  pthread_sigmask(SIG_BLOCK, &kSet, nullptr);
}

SignalShield::~SignalShield() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

}  // namespace mrt
