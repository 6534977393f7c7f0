// How the CUDA kernel cuts one call into tasks: plain data from a pure function of the shape and
// the GPU's limits. Nothing here needs a GPU or the CUDA toolkit.
//
// Two kernels stream: `kbar`, `vbar` and `c` of a slice (a few key tiles, all columns of a group of
// query tiles of one head) go to a ring in global memory, and are read once. The passes, which come
// first, hold those of all key tiles. Two kinds of task:
//
//   average: one key row k of one or a few key tiles -> kbar, vbar, c for all columns of the group
//   across:  query rows of a column x all keys of the slice -> running output
//
// The resident kernel (resident.cuh) has blocks for each kind. In the ring kernel, which takes
// every tile, all blocks take both from one queue: the first across task comes after `delay`
// tickets, and from then on the two kinds alternate evenly.
#pragma once

#include <cstdint>
#include <string>

#include "base/status.h"
#include "kernels/monarch/monarch.h"

namespace mrt {

// 4 warps, two blocks per multiprocessor: 65536 registers / 256 threads = 255 for each. Five warps
// would share a multiprocessor's four schedulers unevenly.
inline constexpr int kMonarchCudaWarps = 4;
inline constexpr int kMonarchCudaThreads = 32 * kMonarchCudaWarps;
// Pointers of both tensors are kernel parameters, of which there may be 4 KB.
inline constexpr int kMonarchCudaFramesMax = 128;
// Keys of one column that a warp scores at a time: one k-step of the tensor core.
inline constexpr int kAcrossKeys = 16;
// Tiles of kAcrossKeys means in shared memory per warp: one in use, three under way.
inline constexpr int kAcrossSlots = 4;

// What a kernel is compiled for.
struct MonarchCudaKernel {
  int head_dim = 0;
  int score_tiles = 0;        // columns of 8 keys of a key row: b2 <= 8 * score_tiles
  int average_row_tiles = 0;  // 64 rows (query tile, column) each, of an average task
  int across_row_tiles = 0;   // 16 query rows each, of a unit of an across task

  constexpr int KeyRows() const { return (score_tiles + 1) / 2 * 16; }  // padded b2
  constexpr int BlockRows() const { return 16 * average_row_tiles * kMonarchCudaWarps; }
  constexpr int UnitRows() const { return 16 * across_row_tiles; }
  // Key rows in shared memory at a time.
  constexpr int Stages() const { return score_tiles <= 10 ? 2 : 1; }
  constexpr int AverageSmemBytes() const {
    return (BlockRows() + Stages() * 2 * KeyRows()) * 2 * head_dim;
  }
  // 16 bytes of padding: eight rows of a matrix lie in different banks.
  constexpr int PaddedRowBytes() const { return 2 * head_dim + 16; }
  constexpr int AcrossSmemBytes() const {
    const int slot_bytes = kAcrossKeys * (PaddedRowBytes() + int{sizeof(float)});
    return kMonarchCudaWarps * (UnitRows() * 2 * head_dim + kAcrossSlots * slot_bytes);
  }
  constexpr int SmemBytes() const {
    return AverageSmemBytes() > AcrossSmemBytes() ? AverageSmemBytes() : AcrossSmemBytes();
  }
  bool operator==(const MonarchCudaKernel&) const = default;
};

// All that exist: one file in inst/ each.
inline constexpr MonarchCudaKernel kMonarchCudaKernels[] = {
    {128, 4, 2, 1}, {128, 4, 2, 2},  {128, 7, 1, 1},  {128, 7, 1, 2},  {128, 7, 3, 1},
    {128, 7, 3, 2}, {128, 10, 2, 1}, {128, 10, 2, 2}, {128, 16, 1, 1}, {128, 16, 1, 2},
    {64, 4, 2, 1},  {64, 4, 2, 2},   {64, 7, 1, 1},   {64, 7, 1, 2},   {64, 7, 3, 1},
    {64, 7, 3, 2},  {64, 10, 2, 1},  {64, 10, 2, 2},  {64, 16, 1, 1},  {64, 16, 1, 2},
};

// The resident kernel (resident.cuh): three blocks per multiprocessor, 168 registers per thread.
inline constexpr int kResidentBlocks = 3;

// Items of kAcrossKeys means in shared memory per unit: one in use, the others under way. As many
// as three blocks have room for.
constexpr int ResidentSlots(int unit_warps) {
  return unit_warps == 1 ? 3 : unit_warps == 2 ? 6 : 8;
}

struct MonarchResidentKernel {
  int head_dim = 0;
  int score_tiles = 0;  // as in MonarchCudaKernel
  int row_tiles = 0;    // of an average task
  int query_rows = 0;   // of these in shared memory: a group has no more unless all are
  int unit_warps = 0;   // that share a column, 16 query rows each: b1 <= 16 * unit_warps

  constexpr MonarchCudaKernel Average() const { return {head_dim, score_tiles, row_tiles, 1}; }
  constexpr int AverageSmemBytes() const {
    return (query_rows + 2 * Average().KeyRows()) * 2 * head_dim;
  }
  constexpr int Units() const { return kMonarchCudaWarps / unit_warps; }  // of a block
  constexpr int AcrossSmemBytes() const {
    const int slot_bytes = kAcrossKeys * (Average().PaddedRowBytes() + int{sizeof(float)});
    return Units() * (16 * unit_warps * 2 * head_dim + ResidentSlots(unit_warps) * slot_bytes);
  }
  constexpr int SmemBytes() const {
    return AverageSmemBytes() > AcrossSmemBytes() ? AverageSmemBytes() : AcrossSmemBytes();
  }
};

// All that exist: one file in inst/ each.
inline constexpr MonarchResidentKernel kMonarchResidentKernels[] = {
    {128, 7, 3, 160, 2},  {128, 7, 1, 64, 2}, {128, 7, 3, 160, 1},
    {128, 10, 2, 128, 4}, {64, 7, 3, 160, 2}, {64, 7, 1, 64, 2},
};

// The kernels that run in passes (pass_average.cuh).
inline constexpr int kPassKeys = 64;  // of an item of means

// What their averages are compiled for.
struct MonarchPassKernel {
  int head_dim = 0;
  int score_tiles = 0;  // as in MonarchCudaKernel
  int row_tiles = 0;    // of an average task
  int query_rows = 0;   // as in MonarchResidentKernel
  int blocks = 0;       // per multiprocessor

  constexpr MonarchCudaKernel Average() const { return {head_dim, score_tiles, row_tiles, 1}; }
  constexpr int AverageSmemBytes() const {
    return (query_rows + 2 * Average().KeyRows()) * 2 * head_dim;
  }
};

// All that exist: one file in inst/ each.
inline constexpr MonarchPassKernel kMonarchPassKernels[] = {
    {128, 7, 3, 160, 3}, {128, 10, 2, 128, 3}, {128, 16, 1, 64, 2},
    {64, 7, 3, 160, 3},  {64, 10, 2, 128, 3},  {64, 16, 1, 64, 2},
};

// cudaDeviceProp holds the numbers.
struct GpuLimits {
  int multiprocessors = 0;
  int smem_bytes_per_block = 0;  // opt-in maximum
  int smem_bytes_per_multiprocessor = 0;
  bool wgmma = false;  // there, and this build has code for sm_90a
};

struct MonarchCudaPlan {
  int kernel = 0;         // index into kMonarchCudaKernels
  int resident = -1;      // index into kMonarchResidentKernels, which then is meant
  int passes = -1;        // index into kMonarchPassKernels, which then is meant
  int query_tiles = 0;    // in all
  int key_tiles = 0;      // in all
  int group_tiles = 0;    // query tiles that share the loads of keys
  int groups = 0;         // of each head
  int slice_tiles = 0;    // key tiles of a slice
  int slices = 0;         // of each (head, group)
  int task_tiles = 0;     // key tiles of an average task
  int row_blocks = 0;     // of BlockRows() that hold the columns of a group
  int unit_blocks = 0;    // of UnitRows() that hold the rows of a query tile
  int average_tasks = 0;  // of a slice
  int across_tasks = 0;   // of a slice; resident: units that read it
  int interleave = 0;     // (head, group) pairs whose slices take turns
  int delay = 0;          // tickets before the first across task
  int ring = 0;           // slices in the ring
  int blocks = 0;         // thread blocks
  int consumers = 0;      // of them, if resident
  int smem_bytes = 0;     // of each
  int slice_items = 0;    // resident: kAcrossKeys kbar or vbar of a slice, of a column
  int pass_pairs = 0;     // passes: (head, group) pairs of a launch
  int items = 0;          // passes: of a column
  int stat_rows = 0;      // passes: sums of a column, if there is more than one step
  int warpgroups = 0;     // passes: of an across block, 64 query rows each
  int iterations = 1;     // refinement steps
  int means_last = 0;     // 1: means are marked to leave L2 last. Only benchmarks set it
  int kept = 0;           // passes: columns of a launch that are written last, whose means L2 keeps
  int dropped = 0;        // passes: columns whose means are dropped from L2 once they are read
  int dependent = 0;      // passes: 1: a pass is launched while the one before ends
  int own_sums = 0;       // passes: 1: sums and refine are one pass

  int64_t entropies_begin = 0;  // bytes from the start of scratch; means begin at 0
  int64_t state_begin = 0;
  int64_t counters_begin = 0;
  int64_t scratch_bytes = 0;

  constexpr int positions(int heads) const { return heads * groups * slices; }
  // Resident: a unit loads up to ResidentSlots - 1 items ahead, slice_items of them a slice (the
  // last slice of a pair may have fewer, but nothing is loaded past it), and what it waits for must
  // not wait for what it has not read.
  constexpr int RingMin() const {
    if (resident < 0) return 1;
    const int ahead = ResidentSlots(kMonarchResidentKernels[resident].unit_warps) - 1;
    return interleave * ((ahead + slice_items - 1) / slice_items + 1) + 2;
  }
  constexpr int64_t tickets(int heads) const {
    return int64_t{positions(heads)} * (average_tasks + across_tasks) + delay;
  }
};

/// Null if a kernel takes this shape, else why none does, as a sentence. The shape must be valid.
const char* MonarchCudaRefuses(const MonarchShape& shape, const GpuLimits& gpu);

/// The plan of a valid shape; Unavailable with the sentence above.
Result<MonarchCudaPlan> PlanMonarchCuda(const MonarchShape& shape, const GpuLimits& gpu);

/// The plan for the resident kernel; Unavailable with the reason.
Result<MonarchCudaPlan> PlanMonarchResident(const MonarchShape& shape, const GpuLimits& gpu);

/// The plan for the kernels that run in passes, the only ones for more than one refinement step;
/// Unavailable with the reason.
Result<MonarchCudaPlan> PlanMonarchPasses(const MonarchShape& shape, const GpuLimits& gpu);

/// The one that RunMonarchCuda uses. `forced` is the name of a kernel, "ring", "resident" or
/// "passes", or empty: then the best that takes the shape. InvalidArgument for another name.
Result<MonarchCudaPlan> PickMonarchCudaPlan(const MonarchShape& shape, const GpuLimits& gpu,
                                            const std::string& forced);

/// One line for logs.
std::string Describe(const MonarchCudaPlan& plan);

/// Sets what follows from the other fields: tasks per slice, consumers and scratch. For benchmarks
/// that vary slice_tiles, task_tiles, interleave, delay and ring. Of a resident plan the ring grows
/// to RingMin().
void FinishMonarchCudaPlan(const MonarchShape& shape, MonarchCudaPlan& plan);

}  // namespace mrt
