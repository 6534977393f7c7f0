#include "base/threads.h"

#include <omp.h>
#include <sched.h>

#include <algorithm>
#include <string>

#include "base/control_group.h"

namespace mrt {

int UsableCpuCount() {
  static const int64_t kShare = ReadControlGroups().cpus;
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof(set), &set) != 0) return 1;
  return static_cast<int>(std::clamp<int64_t>(CPU_COUNT(&set), 1, kShare));
}

void SetThreadCount(int threads) { omp_set_num_threads(threads > 0 ? threads : UsableCpuCount()); }

Status CheckThreads(int threads) {
  constexpr int kThreadsMax = 1024;
  if (threads >= 0 && threads <= kThreadsMax) return {};
  return InvalidArgument("[threads] got " + std::to_string(threads) + ", need 0.." +
                         std::to_string(kThreadsMax));
}

int ThreadCount() { return omp_get_max_threads(); }

void ParallelFor(int64_t count, int64_t grain, FunctionRef<void(int64_t, int64_t)> body) {
  if (count <= 0) return;
  const int64_t ranges = std::clamp<int64_t>(count / std::max<int64_t>(grain, 1), 1, ThreadCount());
  if (ranges == 1) return body(0, count);
    // With all threads: a smaller team would end the others, and the next region start them anew.
#pragma omp parallel for schedule(static, 1)
  for (int64_t r = 0; r < ranges; ++r) body(count * r / ranges, count * (r + 1) / ranges);
}

void ParallelTasks(int64_t count, FunctionRef<void(int64_t, int)> body) {
#pragma omp parallel for schedule(dynamic, 1)
  for (int64_t task = 0; task < count; ++task) body(task, omp_get_thread_num());
}

}  // namespace mrt
