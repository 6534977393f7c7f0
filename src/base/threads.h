// The one thread pool. It is OpenMP's, because oneDNN uses that too: two pools would fight for the
// cores.
#pragma once

#include <cstdint>
#include <memory>
#include <type_traits>
#include <utility>

#include "base/status.h"

namespace mrt {

/// A borrowed callable: valid while the callable it was made from lives. Costs no allocation.
template <typename Signature>
class FunctionRef;

template <typename R, typename... Args>
class FunctionRef<R(Args...)> {
 public:
  template <typename F>
  requires(!std::is_same_v<std::remove_cvref_t<F>, FunctionRef>)
      FunctionRef(F&& f)  // NOLINT: implicit on purpose
      : object_(const_cast<void*>(static_cast<const void*>(std::addressof(f)))),
        call_([](void* object, Args... args) -> R {
          return (*static_cast<std::remove_reference_t<F>*>(object))(std::forward<Args>(args)...);
        }) {}
  R operator()(Args... args) const { return call_(object_, std::forward<Args>(args)...); }

 private:
  void* object_;
  R (*call_)(void*, Args...);
};

/// CPUs this process may run on (its affinity mask), or as many as its control group gives it the
/// time of if these are fewer; at least 1.
int UsableCpuCount();

/// Sets how many threads parallel regions started by the calling thread use; 0 means
/// UsableCpuCount().
void SetThreadCount(int threads);

/// 0 (all CPUs) to 1024; InvalidArgument otherwise.
Status CheckThreads(int threads);

/// How many threads a parallel region started here would use.
int ThreadCount();

/// SetThreadCount while it lives; then what was before. For entries that a caller with parallel
/// regions of its own may use.
class ThreadCountScope {
 public:
  explicit ThreadCountScope(int threads) : before_(ThreadCount()) { SetThreadCount(threads); }
  ThreadCountScope(const ThreadCountScope&) = delete;
  ThreadCountScope& operator=(const ThreadCountScope&) = delete;
  ~ThreadCountScope() { SetThreadCount(before_); }

 private:
  const int before_;
};

/// Splits [0, count) into at most ThreadCount() contiguous ranges of at least `grain` and runs
/// `body(begin, end)` on each. Must not be nested; `body` must not throw.
void ParallelFor(int64_t count, int64_t grain, FunctionRef<void(int64_t begin, int64_t end)> body);

/// Runs `body(task, worker)` for every task in [0, count), handed out one by one; 0 <= worker <
/// ThreadCount(). For tasks of uneven cost. Must not be nested; `body` must not throw.
void ParallelTasks(int64_t count, FunctionRef<void(int64_t task, int worker)> body);

}  // namespace mrt
