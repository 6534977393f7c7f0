// Signals while oneDNN computes: its float32 product without AVX-512 keeps the stack pointer in the
// heap, where a handler's frame would destroy what lies there.
#include <gtest/gtest.h>
#include <pthread.h>
#include <sys/time.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <cstring>
#include <oneapi/dnnl/dnnl.hpp>
#include <thread>
#include <vector>

#include "base/signals.h"
#include "base/threads.h"
#include "ops/for_test.h"
#include "ops/linear.h"

namespace mrt::ops {
namespace {

std::atomic<int> handled = 0, off_the_stack = 0;
std::atomic<bool> done = false;

// This thread's stack; asked for before the first signal, since that allocates.
thread_local const char *stack_begin = nullptr, *stack_end = nullptr;

void LearnStack() {
  pthread_attr_t attributes;
  pthread_getattr_np(pthread_self(), &attributes);
  void* address = nullptr;
  size_t size = 0;
  pthread_attr_getstack(&attributes, &address, &size);
  pthread_attr_destroy(&attributes);
  stack_begin = static_cast<const char*>(address);
  stack_end = stack_begin + size;
}

void OnSignal(int) {
  const char here = 0;
  handled += 1;
  if (stack_begin != nullptr && (&here < stack_begin || &here >= stack_end)) off_the_stack += 1;
}

// Sends this process's threads, one after the other, a signal each 50 us.
void Pester(const std::vector<pthread_t>& threads) {
  for (size_t i = 0; !done; ++i) {
    pthread_kill(threads[i % threads.size()], SIGUSR1);
    std::this_thread::sleep_for(std::chrono::microseconds(50));
  }
}

// The threads of a pool of that many, each with what LearnStack notes.
std::vector<pthread_t> StartPool(int count) {
  SetThreadCount(count);
  std::vector<pthread_t> threads(count);
  ParallelTasks(count, [&](int64_t task, int) {
    LearnStack();
    threads[task] = pthread_self();
    std::this_thread::sleep_for(std::chrono::milliseconds(50));  // so that each thread gets a task
  });
  return threads;
}

// How many of the other threads of the pool would handle a signal now.
int Unmasked() {
  std::atomic<int> unmasked = 0;
  ParallelTasks(ThreadCount(), [&](int64_t, int worker) {
    sigset_t mask;
    pthread_sigmask(SIG_BLOCK, nullptr, &mask);
    if (worker != 0) unmasked += sigismember(&mask, SIGUSR1) == 0;
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  });
  return unmasked;
}

// A team may be smaller, as oneDNN's can be: the threads that it leaves out end.
TEST(Signals, AreKeptFromThreadsThatReplaceOthers) {
  StartPool(4);
  { const SignalShield shield; }
  EXPECT_EQ(Unmasked(), 0);
  StartPool(2);
  StartPool(4);  // two new ones, with this thread's own mask
  const SignalShield shield;
  EXPECT_EQ(Unmasked(), 0);
}

TEST(Signals, NeverMeetABorrowedStackPointer) {
  dnnl::set_max_cpu_isa(dnnl::cpu_isa::avx2);  // before its first primitive
  constexpr int64_t kRows = 180, kIn = 1536, kOut = 256;
  const std::vector<pthread_t> threads = StartPool(2);  // older than the shield
  ASSERT_FALSE(pthread_equal(threads[0], threads[1]));
  struct sigaction action = {};
  action.sa_handler = OnSignal;
  action.sa_flags = SA_RESTART;
  sigaction(SIGUSR1, &action, nullptr);

  const Tensor weight = RandomTensor(DType::kF32, {kOut, kIn}, 1);
  const Tensor x = RandomTensor(DType::kF32, {kRows, kIn}, 2);
  Tensor expected(DType::kF32, {kRows, kOut}), y(DType::kF32, {kRows, kOut});
  Context context(Precision::kF32);
  const Linear linear(context, weight, Tensor());
  linear.Run(context, x, expected);
  std::thread pester(Pester, threads);
  for (int i = 0; i < 300; ++i) {
    linear.Run(context, x, y);
    ASSERT_EQ(std::memcmp(y.as<float>(), expected.as<float>(), y.bytes()), 0) << i;
  }
  done = true;
  pester.join();
  EXPECT_GT(handled, 0);
  EXPECT_EQ(off_the_stack, 0);
}

}  // namespace
}  // namespace mrt::ops
