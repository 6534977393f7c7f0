#include "kernels/monarch/cuda/plan.h"

#include <algorithm>
#include <iterator>
#include <limits>
#include <string>
#include <utility>

#include "kernels/monarch/tiling.h"

namespace mrt {
namespace {

// Means of a slice, in bytes: a few of them must fit in the L2 of an H100 (50 MB) beside the keys
// that pass through. Larger slices move the running output less often.
constexpr int64_t kSliceBytes = 8 << 20;
// Query tiles that share loads of keys: more than this saves no more traffic worth its scratch.
constexpr int kGroupTilesMax = 8;
// So that indices of rows and tiles fit FastDivisor, and a ticket is below 2^32: a slice has at
// most 49152 average and 16384 across tasks.
constexpr int kTileRowsMax = 2048;
constexpr int kTilesMax = 32768;
constexpr int64_t kTilePairsMax = 65536;
// The driver keeps 1 KB of shared memory for each block.
constexpr int kReservedSmemBytes = 1024;
// Of a block beside its tasks: the task at hand, aligned as what follows it.
constexpr int kStaticSmemBytes = 1024;
constexpr int kAlignment = 256;

constexpr int CeilDiv(int a, int b) { return (a + b - 1) / b; }

int64_t Aligned(int64_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

// Rows of all groups with `group_tiles` query tiles each, padded to whole blocks.
int64_t PaddedRows(int query_tiles, int group_tiles, int b2, int block_rows) {
  const int full = query_tiles / group_tiles, rest = query_tiles % group_tiles;
  return int64_t{block_rows} *
         (int64_t{full} * CeilDiv(group_tiles * b2, block_rows) + CeilDiv(rest * b2, block_rows));
}

int BestGroupTiles(int query_tiles, int b2, int block_rows) {
  int best = 1;
  for (int tiles = 2; tiles <= std::min(query_tiles, kGroupTilesMax); ++tiles)
    if (PaddedRows(query_tiles, tiles, b2, block_rows) <
        PaddedRows(query_tiles, best, b2, block_rows))
      best = tiles;
  return best;
}

// Multiplications of padded tiles per key tile and head_dim, plus a little for each load of a key
// row: what two kernels that both take the shape are compared by.
int64_t Cost(const MonarchShape& s, const MonarchCudaKernel& kernel, int query_tiles) {
  constexpr int64_t kRowsPerLoad = 16;  // a load of a key row takes about as long as so many rows
  const int group_tiles = BestGroupTiles(query_tiles, s.b2(), kernel.BlockRows());
  const int64_t rows = PaddedRows(query_tiles, group_tiles, s.b2(), kernel.BlockRows());
  const int64_t row_products = 8 * kernel.score_tiles + 2 * kernel.KeyRows();
  const int64_t average = s.b1() * row_products * (rows + rows / kernel.BlockRows() * kRowsPerLoad);
  const int64_t unit_blocks = CeilDiv(s.b1(), kernel.UnitRows());
  const int64_t across =
      2 * query_tiles * s.b2() * unit_blocks * s.b1() * (kernel.UnitRows() + kRowsPerLoad);
  return average + across;
}

bool Takes(const MonarchCudaKernel& kernel, const MonarchShape& s, const GpuLimits& gpu) {
  return kernel.head_dim == s.head_dim && s.b2() <= 8 * kernel.score_tiles &&
         kernel.SmemBytes() + kStaticSmemBytes <= gpu.smem_bytes_per_block;
}

// Index of the cheapest kernel that takes the shape, or -1.
int PickKernel(const MonarchShape& s, const GpuLimits& gpu) {
  const int query_tiles = static_cast<int>(TileCount(s, s.frames_q));
  int best = -1;
  int64_t best_cost = std::numeric_limits<int64_t>::max();
  for (size_t n = 0; n < std::size(kMonarchCudaKernels); ++n) {
    if (!Takes(kMonarchCudaKernels[n], s, gpu)) continue;
    const int64_t cost = Cost(s, kMonarchCudaKernels[n], query_tiles);
    if (cost < best_cost) best = static_cast<int>(n), best_cost = cost;
  }
  return best;
}

// Keys and means of a slice of the resident kernel, at most: five tiles of 480p, two of 720p. With
// fewer its blocks wait for one another more often, more bring nothing (docs/perf-log.md).
constexpr int kResidentSliceKeys = 150;
constexpr int64_t kResidentSliceBytes = 12 << 20;
// Slices in its ring, at least: fewer have not been measured.
constexpr int kResidentRing = 10;

// Sets the kernel with the least work for the tensor cores and the loads, and the group that suits
// it. False if none takes the tile.
bool PickResidentKernel(const MonarchShape& s, MonarchCudaPlan& plan) {
  constexpr int kRowsPerLoad = 64;  // what a load of a key row costs
  int64_t best_cost = 0;
  for (size_t n = 0; n < std::size(kMonarchResidentKernels); ++n) {
    const MonarchResidentKernel& kernel = kMonarchResidentKernels[n];
    const int block_rows = kernel.Average().BlockRows(), b2 = s.b2();
    const bool whole = kernel.query_rows == block_rows;  // a group may have several blocks
    if (kernel.head_dim != s.head_dim || b2 > 8 * kernel.score_tiles ||
        s.b1() > 16 * kernel.unit_warps || (!whole && b2 > kernel.query_rows))
      continue;
    int group_tiles = BestGroupTiles(plan.query_tiles, b2, block_rows);
    if (!whole) {
      const int groups = CeilDiv(plan.query_tiles, kernel.query_rows / b2);
      group_tiles = CeilDiv(plan.query_tiles, groups);
    }
    const int blocks =
        CeilDiv(plan.query_tiles, group_tiles) * CeilDiv(group_tiles * b2, block_rows);
    const int row_products = 8 * kernel.score_tiles + 2 * kernel.Average().KeyRows();
    // Multiplications of padded tiles per key row and channel, as in Cost().
    const int64_t cost = int64_t{blocks} * (block_rows + kRowsPerLoad) * row_products +
                         int64_t{2} * plan.query_tiles * b2 * 16 * kernel.unit_warps;
    if (plan.resident >= 0 && cost >= best_cost) continue;
    best_cost = cost;
    plan.resident = static_cast<int>(n);
    plan.group_tiles = group_tiles;
  }
  return plan.resident >= 0;
}

// Scratch of the passes, at most, unless one (head, group) needs more: fewer, larger launches have
// less of a tail (docs/perf-log.md).
constexpr int64_t kPassBytes = int64_t{640} << 20;
// Means of the columns that are written last: so many stay in L2 (50 MB) until they are read.
constexpr int64_t kKeptBytes = 51'200'000;
// Key rows of all tiles: they fit FastDivisor.
constexpr int kPassRowsMax = 65535;

// Index of the pass kernel with the least work, or -1; and the group that suits it.
int PickPassKernel(const MonarchShape& s, MonarchCudaPlan& plan) {
  for (size_t n = 0; n < std::size(kMonarchPassKernels); ++n) {
    const MonarchPassKernel& kernel = kMonarchPassKernels[n];
    const int block_rows = kernel.Average().BlockRows();
    if (kernel.head_dim != s.head_dim || s.b2() > 8 * kernel.score_tiles) continue;
    if (kernel.query_rows == block_rows) {
      // Of equally good ones the largest: fewer pairs, and blocks beside one another share keys.
      const int best = BestGroupTiles(plan.query_tiles, s.b2(), block_rows);
      const int64_t rows = PaddedRows(plan.query_tiles, best, s.b2(), block_rows);
      for (int tiles = best; tiles <= std::min(plan.query_tiles, kGroupTilesMax); ++tiles)
        if (PaddedRows(plan.query_tiles, tiles, s.b2(), block_rows) == rows)
          plan.group_tiles = tiles;
    } else {
      const int groups = CeilDiv(plan.query_tiles, kernel.query_rows / s.b2());
      plan.group_tiles = CeilDiv(plan.query_tiles, groups);
    }
    return static_cast<int>(n);  // they are in order of width
  }
  return -1;
}

int64_t PassColumnBytes(const MonarchShape& s, const MonarchCudaPlan& plan) {
  return int64_t{plan.items} * kPassKeys * (2 * s.head_dim * 2 + 4) + int64_t{plan.stat_rows} * 4;
}

void FinishPassPlan(const MonarchShape& s, MonarchCudaPlan& plan) {
  const MonarchPassKernel& kernel = kMonarchPassKernels[plan.passes];
  plan.groups = CeilDiv(plan.query_tiles, plan.group_tiles);
  plan.row_blocks = CeilDiv(plan.group_tiles * s.b2(), kernel.Average().BlockRows());
  plan.slice_tiles = plan.key_tiles;
  plan.slices = 1;
  plan.unit_blocks = CeilDiv(s.b1(), 64 * plan.warpgroups);
  plan.items = CeilDiv(plan.key_tiles * s.b1(), kPassKeys);
  plan.stat_rows = plan.iterations > 1 ? s.b1() : 0;
  plan.average_tasks = s.b1() * plan.row_blocks * CeilDiv(plan.key_tiles, plan.task_tiles);
  plan.smem_bytes = kernel.AverageSmemBytes();
  const int64_t columns = int64_t{plan.pass_pairs} * plan.group_tiles * s.b2();
  plan.entropies_begin = Aligned(columns * plan.items * kPassKeys * 2 * s.head_dim * 2);
  plan.state_begin = plan.entropies_begin + Aligned(columns * plan.items * kPassKeys * 4);
  plan.counters_begin = plan.state_begin + Aligned(columns * plan.stat_rows * 4);
  plan.scratch_bytes = plan.counters_begin;
}

// Where the across tasks stand in the queue, and how many slices the ring must hold for it:
// `distance` tickets between a slice's last average task and its first across task, and between its
// last across task and the first task that overwrites it. With as many tickets as blocks nobody
// would wait; with three quarters few wait, and less is alive in L2, which is faster
// (docs/perf-log.md). A task waits only for tasks of lower tickets (no deadlock) if
//   average_tasks <= delay <= (ring - 2) * average_tasks.
void ChooseOrder(MonarchCudaPlan& plan) {
  constexpr int kRingMin = 4, kRingMax = 8;
  const int step_tasks = plan.average_tasks + plan.across_tasks;
  const int distance = plan.blocks * 3 / 4;
  plan.ring = std::clamp(2 + CeilDiv(2 * distance, step_tasks), kRingMin, kRingMax);
  plan.delay = std::min(CeilDiv(plan.average_tasks * (step_tasks + distance), step_tasks),
                        (plan.ring - 2) * plan.average_tasks);
}

}  // namespace

const char* MonarchCudaRefuses(const MonarchShape& s, const GpuLimits& gpu) {
  if (s.storage == StorageType::kF32) return "the CUDA kernel stores bf16 and f16 only";
  if (s.storage == StorageType::kF16 && !gpu.wgmma)
    return "the CUDA kernel stores f16 only in a build for sm_90a";
  if (s.kv_layout != KvLayout::kTokenMajor)
    return "the CUDA kernel takes token-major keys and values only";
  if (s.iterations != 1 && !gpu.wgmma)
    return "the CUDA kernel does more than one refinement step only in a build for sm_90a";
  if (s.head_dim != 64 && s.head_dim != 128) return "the CUDA kernel needs head_dim 64 or 128";
  if (s.b2() > 128) return "the CUDA kernel takes tiles of at most 128 columns";
  if (s.b1() > kTileRowsMax) return "the CUDA kernel takes tiles of at most 2048 rows";
  if (s.frames_kv > kMonarchCudaFramesMax) return "the CUDA kernel takes at most 128 key frames";
  if (std::max(TileCount(s, s.frames_q), TileCount(s, s.frames_kv)) > kTilesMax)
    return "the CUDA kernel takes at most 32768 query tiles and as many key tiles";
  if (int64_t{s.heads} * TileCount(s, s.frames_q) * TileCount(s, s.frames_kv) > kTilePairsMax)
    return "the CUDA kernel takes at most 65536 tile pairs of all heads";
  if (PickKernel(s, gpu) < 0) return "the GPU has too little shared memory for this tile";
  return nullptr;
}

void FinishMonarchCudaPlan(const MonarchShape& s, MonarchCudaPlan& plan) {
  if (plan.passes >= 0) return FinishPassPlan(s, plan);
  const int columns = plan.group_tiles * s.b2();
  plan.slices = CeilDiv(plan.key_tiles, plan.slice_tiles);
  plan.average_tasks = s.b1() * plan.row_blocks * CeilDiv(plan.slice_tiles, plan.task_tiles);
  int64_t state_bytes = 0;
  if (plan.resident >= 0) {
    plan.across_tasks = columns;
    plan.slice_items = 2 * CeilDiv(plan.slice_tiles * s.b1(), kAcrossKeys);
    plan.consumers =
        CeilDiv(plan.interleave * columns, kMonarchResidentKernels[plan.resident].Units());
    plan.ring = std::max(plan.ring, plan.RingMin());
  } else {
    const int units = columns * plan.unit_blocks;
    plan.across_tasks = CeilDiv(units, kMonarchCudaWarps);
    // Output, maximum and sum of each row of a unit, as the registers of its lanes hold them.
    const int64_t lane_floats =
        kMonarchCudaKernels[plan.kernel].across_row_tiles * (s.head_dim / 8 * 4 + 4);
    if (plan.slices > 1) state_bytes = int64_t{plan.interleave} * units * lane_floats * 32 * 4;
  }

  const int64_t keys = int64_t{plan.slice_tiles} * s.b1();
  const int64_t means_bytes = plan.ring * columns * keys * 2 * s.head_dim * 2;
  const int64_t entropies_bytes =
      plan.ring * columns * ((keys + kAcrossKeys - 1) / kAcrossKeys * kAcrossKeys) * 4;
  plan.entropies_begin = Aligned(means_bytes);
  plan.state_begin = plan.entropies_begin + Aligned(entropies_bytes);
  plan.counters_begin = plan.state_begin + Aligned(state_bytes);
  plan.scratch_bytes = plan.counters_begin + Aligned((2 * plan.positions(s.heads) + 1) * 4);
}

Result<MonarchCudaPlan> PlanMonarchCuda(const MonarchShape& s, const GpuLimits& gpu) {
  if (const char* refusal = MonarchCudaRefuses(s, gpu))
    return Unavailable(std::string("[monarch] ") + refusal);
  if (s.iterations != 1)
    return Unavailable("[monarch] the ring kernel does one refinement step only");
  if (s.storage != StorageType::kBF16)
    return Unavailable("[monarch] the ring kernel stores bf16 only");
  MonarchCudaPlan plan;
  plan.kernel = PickKernel(s, gpu);
  const MonarchCudaKernel& kernel = kMonarchCudaKernels[plan.kernel];
  plan.query_tiles = static_cast<int>(TileCount(s, s.frames_q));
  plan.key_tiles = static_cast<int>(TileCount(s, s.frames_kv));
  plan.group_tiles = BestGroupTiles(plan.query_tiles, s.b2(), kernel.BlockRows());
  plan.groups = CeilDiv(plan.query_tiles, plan.group_tiles);
  plan.row_blocks = CeilDiv(plan.group_tiles * s.b2(), kernel.BlockRows());
  plan.unit_blocks = CeilDiv(s.b1(), kernel.UnitRows());

  const int64_t tile_bytes = int64_t{plan.group_tiles} * s.b2() * s.b1() * 2 * s.head_dim * 2;
  const int slices =
      CeilDiv(plan.key_tiles, static_cast<int>(std::max<int64_t>(1, kSliceBytes / tile_bytes)));
  plan.slice_tiles = CeilDiv(plan.key_tiles, slices);
  plan.task_tiles = 1;
  plan.interleave = std::min(3, s.heads * plan.groups);
  plan.smem_bytes = kernel.SmemBytes();
  const int resident =
      gpu.smem_bytes_per_multiprocessor / (plan.smem_bytes + kStaticSmemBytes + kReservedSmemBytes);
  plan.blocks = gpu.multiprocessors * std::clamp(resident, 1, 2);
  FinishMonarchCudaPlan(s, plan);
  ChooseOrder(plan);
  FinishMonarchCudaPlan(s, plan);
  return plan;
}

Result<MonarchCudaPlan> PlanMonarchResident(const MonarchShape& s, const GpuLimits& gpu) {
  if (const char* refusal = MonarchCudaRefuses(s, gpu))
    return Unavailable(std::string("[monarch] ") + refusal);
  if (!gpu.wgmma) return Unavailable("[monarch] the resident kernel needs a build for sm_90a");
  if (s.iterations != 1)
    return Unavailable("[monarch] the resident kernel does one refinement step only");
  if (s.storage != StorageType::kBF16)
    return Unavailable("[monarch] the resident kernel stores bf16 only");
  MonarchCudaPlan plan;
  plan.query_tiles = static_cast<int>(TileCount(s, s.frames_q));
  plan.key_tiles = static_cast<int>(TileCount(s, s.frames_kv));
  if (!PickResidentKernel(s, plan))
    return Unavailable("[monarch] no resident kernel takes this tile");
  const MonarchResidentKernel& kernel = kMonarchResidentKernels[plan.resident];
  plan.groups = CeilDiv(plan.query_tiles, plan.group_tiles);
  plan.row_blocks = CeilDiv(plan.group_tiles * s.b2(), kernel.Average().BlockRows());
  plan.unit_blocks = 1;
  const int64_t tile_bytes = int64_t{plan.group_tiles} * s.b2() * s.b1() * 2 * s.head_dim * 2;
  const int64_t tiles =
      std::min<int64_t>(kResidentSliceKeys / s.b1(), kResidentSliceBytes / tile_bytes);
  plan.slice_tiles = static_cast<int>(std::clamp<int64_t>(tiles, 1, plan.key_tiles));
  plan.task_tiles = 1;
  plan.smem_bytes = kernel.SmemBytes();
  plan.blocks = kResidentBlocks * gpu.multiprocessors;
  if (kResidentBlocks * (plan.smem_bytes + kStaticSmemBytes + kReservedSmemBytes) >
      gpu.smem_bytes_per_multiprocessor)
    return Unavailable("[monarch] the GPU has too little shared memory for the resident kernel");
  const int pair_consumers = CeilDiv(plan.group_tiles * s.b2(), kernel.Units());
  plan.interleave = std::clamp(plan.blocks * 2 / 5 / pair_consumers, 1, s.heads * plan.groups);
  FinishMonarchCudaPlan(s, plan);
  if (plan.consumers > plan.blocks * 3 / 4)
    return Unavailable("[monarch] the GPU has too few multiprocessors for the resident kernel");
  // What is being written and read at a time.
  const int in_use =
      CeilDiv(plan.blocks - plan.consumers, plan.average_tasks) + 2 * plan.interleave + 1;
  plan.ring = std::max(kResidentRing, in_use);
  FinishMonarchCudaPlan(s, plan);
  return plan;
}

Result<MonarchCudaPlan> PlanMonarchPasses(const MonarchShape& s, const GpuLimits& gpu) {
  if (const char* refusal = MonarchCudaRefuses(s, gpu))
    return Unavailable(std::string("[monarch] ") + refusal);
  if (!gpu.wgmma) return Unavailable("[monarch] the passes need a build for sm_90a");
  const int64_t key_rows = TileCount(s, s.frames_kv) * s.b1();
  if (key_rows > kPassRowsMax)
    return Unavailable("[monarch] the passes take at most 65535 key rows for a column");
  MonarchCudaPlan plan;
  plan.query_tiles = static_cast<int>(TileCount(s, s.frames_q));
  plan.key_tiles = static_cast<int>(TileCount(s, s.frames_kv));
  plan.passes = PickPassKernel(s, plan);
  plan.iterations = s.iterations;
  plan.warpgroups = std::min(3, CeilDiv(s.b1(), 64));
  plan.task_tiles = 1;  // what LoadRefinedQueries takes
  plan.dependent = 1;
  plan.pass_pairs = 1;
  FinishMonarchCudaPlan(s, plan);
  // As large groups as the scratch may hold, and equal parts of them.
  const int64_t tile_bytes = PassColumnBytes(s, plan) * s.b2();
  plan.group_tiles =
      static_cast<int>(std::clamp<int64_t>(kPassBytes / tile_bytes, 1, plan.group_tiles));
  FinishMonarchCudaPlan(s, plan);
  const int pairs = s.heads * plan.groups;
  const int64_t pair_bytes = tile_bytes * plan.group_tiles;
  const int fit = static_cast<int>(std::clamp<int64_t>(kPassBytes / pair_bytes, 1, pairs));
  plan.pass_pairs = CeilDiv(pairs, CeilDiv(pairs, fit));
  FinishMonarchCudaPlan(s, plan);
  // Every column of a group must exist.
  plan.own_sums = plan.warpgroups == 1 && plan.query_tiles % plan.group_tiles == 0 ? 1 : 0;
  const int64_t column_bytes = int64_t{plan.items} * kPassKeys * 2 * s.head_dim * 2;
  if (plan.unit_blocks == 1) plan.kept = static_cast<int>(kKeptBytes / column_bytes);
  plan.dropped = plan.kept;
  return plan;
}

Result<MonarchCudaPlan> PickMonarchCudaPlan(const MonarchShape& s, const GpuLimits& gpu,
                                            const std::string& forced) {
  if (forced == "ring") return PlanMonarchCuda(s, gpu);
  if (forced == "resident") return PlanMonarchResident(s, gpu);
  if (forced == "passes") return PlanMonarchPasses(s, gpu);
  if (!forced.empty())
    return InvalidArgument("[monarch] got the CUDA kernel '" + forced +
                           "', need 'ring', 'resident' or 'passes'");
  Result<MonarchCudaPlan> plan = PlanMonarchPasses(s, gpu);
  const bool only = s.iterations != 1 || s.storage != StorageType::kBF16;
  if (only || (plan.ok() && plan->scratch_bytes <= kPassBytes)) return plan;
  plan = PlanMonarchResident(s, gpu);
  return plan.ok() ? plan : PlanMonarchCuda(s, gpu);
}

std::string Describe(const MonarchCudaPlan& p) {
  const MonarchCudaKernel k = p.passes >= 0     ? kMonarchPassKernels[p.passes].Average()
                              : p.resident >= 0 ? kMonarchResidentKernels[p.resident].Average()
                                                : kMonarchCudaKernels[p.kernel];
  const std::pair<const char*, int64_t> numbers[] = {{"resident", p.resident},
                                                     {"passes", p.passes},
                                                     {"head_dim", k.head_dim},
                                                     {"score_tiles", k.score_tiles},
                                                     {"row_tiles", k.average_row_tiles},
                                                     {"unit_tiles", k.across_row_tiles},
                                                     {"group_tiles", p.group_tiles},
                                                     {"groups", p.groups},
                                                     {"slice_tiles", p.slice_tiles},
                                                     {"slices", p.slices},
                                                     {"task_tiles", p.task_tiles},
                                                     {"average_tasks", p.average_tasks},
                                                     {"across_tasks", p.across_tasks},
                                                     {"interleave", p.interleave},
                                                     {"delay", p.delay},
                                                     {"ring", p.ring},
                                                     {"pass_pairs", p.pass_pairs},
                                                     {"items", p.items},
                                                     {"warpgroups", p.warpgroups},
                                                     {"iterations", p.iterations},
                                                     {"blocks", p.blocks},
                                                     {"consumers", p.consumers},
                                                     {"means_last", p.means_last},
                                                     {"kept", p.kept},
                                                     {"dropped", p.dropped},
                                                     {"dependent", p.dependent},
                                                     {"own_sums", p.own_sums},
                                                     {"smem_bytes", p.smem_bytes},
                                                     {"scratch_bytes", p.scratch_bytes}};
  std::string line;
  for (const auto& [name, value] : numbers)
    line += (line.empty() ? "" : " ") + std::string(name) + "=" + std::to_string(value);
  return line;
}

}  // namespace mrt
