// Which task a ticket stands for, and the counters that order them. Every task waits only for
// tasks of lower tickets, and tickets are taken in order, so the lowest unfinished task can always
// run: no deadlock, whatever number of blocks is resident.
#pragma once

#include "kernels/common/cuda/ptx.cuh"
#include "kernels/monarch/cuda/launch.cuh"

namespace mrt {

enum class TaskKind : int { kStop, kNothing, kAverage, kAcross };

// A task of a slice: some key tiles against a group of query tiles of one head.
struct MonarchTask {
  TaskKind kind = TaskKind::kStop;
  int index = 0;        // within the slice
  int position = 0;     // of the slice in the order of the queue
  int predecessor = 0;  // the position that used the running output before, or negative
  int head = 0;
  int group_begin = 0, group_tiles = 0;  // query tiles
  int tiles_begin = 0, tiles_end = 0;    // key tiles
  int ring_slot = 0, state_slot = 0;
  int slice = 0;  // of its (head, group)
};

// Pairs of a head and a group of query tiles take turns, `interleave` of them at a time: then the
// slice before of the same pair is finished long before the next one needs its running output.
__device__ inline void FindSlice(const MonarchKernelArgs& args, MonarchTask& task) {
  const MonarchCudaPlan& plan = args.plan;
  const int turn_positions = plan.interleave * plan.slices;
  const int turn = task.position / turn_positions;
  const int r = task.position - turn * turn_positions;
  const int pairs = args.heads * plan.groups;
  const int turn_pairs = min(plan.interleave, pairs - turn * plan.interleave);
  task.slice = r / turn_pairs;
  task.state_slot = r - task.slice * turn_pairs;
  const int pair = turn * plan.interleave + task.state_slot;
  task.predecessor = task.position - (task.slice > 0 ? turn_pairs : plan.interleave);
  task.head = pair / plan.groups;
  task.group_begin = (pair - task.head * plan.groups) * plan.group_tiles;
  task.group_tiles = min(plan.group_tiles, plan.query_tiles - task.group_begin);
  task.tiles_begin = task.slice * plan.slice_tiles;
  task.tiles_end = min(task.tiles_begin + plan.slice_tiles, plan.key_tiles);
  task.ring_slot = task.position % plan.ring;
}

// The across tasks are spread evenly among the average tasks, `delay` tickets behind.
__device__ inline MonarchTask TaskOfTicket(const MonarchKernelArgs& args, uint32_t ticket) {
  const MonarchCudaPlan& plan = args.plan;
  const uint32_t average_tasks = plan.average_tasks, across_tasks = plan.across_tasks;
  const uint32_t step_tasks = average_tasks + across_tasks, delay = plan.delay;
  const uint32_t late = ticket < delay ? 0 : ticket - delay;
  const uint32_t step = late / step_tasks, r = late - step * step_tasks;
  const uint32_t before = r * across_tasks / step_tasks;
  const uint32_t after = ticket < delay ? 0 : (r + 1) * across_tasks / step_tasks;
  MonarchTask task;
  if (after > before) {
    task.kind = TaskKind::kAcross;
    task.position = static_cast<int>(step);
    task.index = static_cast<int>(before);
  } else {
    const uint32_t average = ticket - step * across_tasks - before;
    task.kind = TaskKind::kAverage;
    task.position = static_cast<int>(average / average_tasks);
    task.index = static_cast<int>(average % average_tasks);
  }
  if (task.position >= plan.positions(args.heads)) {
    task.kind = TaskKind::kNothing;
  } else {
    FindSlice(args, task);
  }
  return task;
}

__device__ inline int* AverageDone(const MonarchKernelArgs& args, int position) {
  return args.counters + 1 + 2 * position;
}
__device__ inline int* AcrossDone(const MonarchKernelArgs& args, int position) {
  return args.counters + 2 + 2 * position;
}

// A wait of more than a second is a defect: better an error than a GPU that hangs.
__device__ inline void WaitFor(const int* counter, int value) {
  constexpr int kWaitsMax = 1 << 24;
  for (int waits = 0; ptx::LoadAcquire(counter) < value; ++waits) {
    if (waits == kWaitsMax) __trap();
    __nanosleep(64);
  }
}

// One thread waits before the block starts a task; a barrier must follow. An average task waits for
// the slice that it overwrites, an across task for its means and for the running output.
__device__ inline void WaitBefore(const MonarchKernelArgs& args, const MonarchTask& task) {
  const MonarchCudaPlan& plan = args.plan;
  if (task.kind == TaskKind::kAverage && task.position >= plan.ring)
    WaitFor(AcrossDone(args, task.position - plan.ring), plan.across_tasks);
  if (task.kind == TaskKind::kAcross) {
    WaitFor(AverageDone(args, task.position), plan.average_tasks);
    if (task.predecessor >= 0) WaitFor(AcrossDone(args, task.predecessor), plan.across_tasks);
  }
}

// After a barrier of the block that did the task.
__device__ inline void SayDone(const MonarchKernelArgs& args, const MonarchTask& task) {
  if (task.kind == TaskKind::kAverage) ptx::AddRelease(AverageDone(args, task.position), 1);
  if (task.kind == TaskKind::kAcross) ptx::AddRelease(AcrossDone(args, task.position), 1);
}

}  // namespace mrt
