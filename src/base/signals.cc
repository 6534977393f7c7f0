#include "base/signals.h"

#include <omp.h>
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
  // New workers inherit this thread's mask; those that are there already need it once.
  thread_local int shielded_threads = 1;
  if (omp_get_max_threads() <= shielded_threads) return;
  shielded_threads = omp_get_max_threads();
#pragma omp parallel
  pthread_sigmask(SIG_BLOCK, &kSet, nullptr);
}

SignalShield::~SignalShield() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

}  // namespace mrt
