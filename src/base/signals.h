// Keeping signal handlers away from code that borrows the stack pointer.
//
// oneDNN's float32 product of CPUs without AVX-512 ("gemm:jit", seen in 2.6.3) lets the stack
// pointer point into a heap buffer while it runs. A signal handler that starts then puts its frame
// there, over whatever lies below the buffer.
#pragma once

#include <csignal>

namespace mrt {

/// While it lives, signals that come from outside wait: none is handled on this thread, nor on the
/// other threads of its pool (threads.h), on those not until they end. The process's other threads
/// may handle them; else they are handled when this ends. Faults of a thread's own (SIGSEGV, SIGBUS
/// ...) come at once.
class SignalShield {
 public:
  SignalShield();
  ~SignalShield();

  SignalShield(const SignalShield&) = delete;
  SignalShield& operator=(const SignalShield&) = delete;

 private:
  sigset_t before_;
};

}  // namespace mrt
