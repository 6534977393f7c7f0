#include "kernels/monarch/cuda/plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "kernels/monarch/cuda/backward_plan.h"
#include "kernels/monarch/tiling.h"

namespace mrt {
namespace {

using ::testing::HasSubstr;

// As cudaDeviceProp says.
constexpr GpuLimits kH100 = {132, 227 * 1024, 228 * 1024, true};
constexpr GpuLimits kRtx4090 = {128, 99 * 1024, 100 * 1024, false};
// A build for sm_90, which has no wgmma; a part of an H100; a smaller GPU of that kind.
constexpr GpuLimits kH100Sm90 = {132, 227 * 1024, 228 * 1024, false};
constexpr GpuLimits kH100Quarter = {32, 227 * 1024, 228 * 1024, true};
constexpr GpuLimits kH20 = {78, 227 * 1024, 228 * 1024, true};

MonarchShape Bf16(MonarchShape shape) {
  shape.storage = StorageType::kBF16;
  return shape;
}
const MonarchShape k480p =
    Bf16({.heads = 12, .frames_q = 3, .frames_kv = 21, .rows = 30, .cols = 52});
const MonarchShape k720p =
    Bf16({.heads = 12, .frames_q = 3, .frames_kv = 21, .rows = 45, .cols = 80});

MonarchShape Tiled(MonarchShape shape, int f_tied, int h_reduce, int w_reduce = 1) {
  shape.f_tied = f_tied, shape.h_reduce = h_reduce, shape.w_reduce = w_reduce;
  return shape;
}

std::vector<MonarchShape> Shapes() {
  std::vector<MonarchShape> shapes = {k480p,
                                      Tiled(k480p, 1, 2),
                                      Tiled(k480p, 3, 1),
                                      Tiled(k480p, 1, 1, 2),
                                      k720p,
                                      Tiled(k720p, 3, 1),
                                      Bf16({.rows = 1, .cols = 1, .head_dim = 64}),
                                      Bf16({.frames_kv = 128, .rows = 2, .cols = 128}),
                                      Bf16({.heads = 40,
                                            .frames_q = 21,
                                            .frames_kv = 21,
                                            .rows = 30,
                                            .cols = 52,
                                            .causal_block_frames = 3})};
  const size_t count = shapes.size();
  for (size_t n = 0; n < count; ++n) {
    shapes.push_back(shapes[n]);
    shapes.back().head_dim = 64;
  }
  return shapes;
}

TEST(MonarchCudaPlan, OfTheMainShapeIsAsDocumented) {
  const MonarchCudaPlan plan = PlanMonarchCuda(k480p, kH100).value();
  EXPECT_EQ(kMonarchCudaKernels[plan.kernel], (MonarchCudaKernel{128, 7, 3, 2}));
  EXPECT_EQ(plan.group_tiles, 3);  // all three query frames share the loads of keys
  EXPECT_EQ(plan.row_blocks, 1);   // 156 of 192 rows
  EXPECT_EQ(plan.unit_blocks, 1);  // 30 of 32 rows
  EXPECT_EQ(plan.blocks, 2 * 132);
  EXPECT_EQ(plan.slice_tiles, 3);  // with the next three: what docs/perf-log.md measured
  EXPECT_EQ(plan.ring, 6);
  EXPECT_NEAR(plan.delay, 230, 1);
  EXPECT_EQ(plan.interleave, 3);
  // Written out in full, the means would take 604 MB.
  EXPECT_LT(plan.scratch_bytes, int64_t{64} << 20);
}

// What the kernel relies on.
TEST(MonarchCudaPlan, CoversEveryTaskAndCannotDeadlock) {
  for (const MonarchShape& shape : Shapes())
    for (const GpuLimits& gpu : {kH100, kRtx4090}) {
      const Result<MonarchCudaPlan> plan = PlanMonarchCuda(shape, gpu);
      ASSERT_TRUE(plan.ok()) << plan.status().message();
      const std::string line = Describe(*plan);
      const MonarchCudaKernel& kernel = kMonarchCudaKernels[plan->kernel];
      EXPECT_EQ(kernel.head_dim, shape.head_dim) << line;
      EXPECT_GE(8 * kernel.score_tiles, shape.b2()) << line;
      EXPECT_LE(plan->smem_bytes, gpu.smem_bytes_per_block) << line;
      EXPECT_LE(plan->blocks / gpu.multiprocessors * (plan->smem_bytes + 2048),
                gpu.smem_bytes_per_multiprocessor)
          << line;
      EXPECT_GE(plan->groups * plan->group_tiles, TileCount(shape, shape.frames_q)) << line;
      EXPECT_GE(plan->row_blocks * kernel.BlockRows(), plan->group_tiles * shape.b2()) << line;
      EXPECT_GE(plan->unit_blocks * kernel.UnitRows(), shape.b1()) << line;
      EXPECT_GE(plan->slices * plan->slice_tiles, TileCount(shape, shape.frames_kv)) << line;
      EXPECT_LT((plan->slices - 1) * plan->slice_tiles, TileCount(shape, shape.frames_kv)) << line;
      EXPECT_GE(plan->across_tasks * kMonarchCudaWarps,
                plan->group_tiles * shape.b2() * plan->unit_blocks)
          << line;
      EXPECT_GE(plan->delay, plan->average_tasks) << line;
      EXPECT_LE(plan->delay, (plan->ring - 2) * plan->average_tasks) << line;
      for (int64_t begin : {plan->entropies_begin, plan->state_begin, plan->counters_begin})
        EXPECT_EQ(begin % 256, 0) << line;
      EXPECT_LE(plan->state_begin, plan->counters_begin) << line;
      EXPECT_LT(plan->counters_begin, plan->scratch_bytes) << line;
    }
}

TEST(MonarchResidentPlan, OfTheMainShapeIsAsDocumented) {
  const MonarchCudaPlan plan = PlanMonarchResident(k480p, kH100).value();
  EXPECT_EQ(plan.resident, 0);
  EXPECT_EQ(plan.group_tiles, 3);
  EXPECT_EQ(plan.slice_tiles, 5);  // with the next four: what docs/perf-log.md measured
  EXPECT_EQ(plan.ring, 10);
  EXPECT_EQ(plan.means_last, 0);
  EXPECT_EQ(plan.average_tasks, 150);
  EXPECT_EQ(plan.across_tasks, 156);
  EXPECT_EQ(plan.blocks, 3 * 132);
  EXPECT_EQ(plan.interleave, 2);
  EXPECT_EQ(plan.consumers, 156);
  EXPECT_LT(plan.scratch_bytes, int64_t{128} << 20);
}

// What a chunk of the engine and the others of docs/attention.md get.
TEST(MonarchResidentPlan, HasTheSlicesThatWereMeasured) {
  const auto slice = [](const MonarchShape& shape) {
    const Result<MonarchCudaPlan> plan = PickMonarchCudaPlan(shape, kH100, "resident");
    return plan.ok() ? plan->slice_tiles : 0;
  };
  MonarchShape one = k480p, all = k480p, narrow = k480p, first = k480p;
  one.frames_q = 1;
  all.frames_q = 21;
  narrow.head_dim = 64;
  first.frames_kv = 3;
  EXPECT_EQ(slice(k480p), 5);
  EXPECT_EQ(slice(one), 5);
  EXPECT_EQ(slice(all), 5);
  EXPECT_EQ(slice(narrow), 5);
  EXPECT_EQ(slice(first), 3);  // no more tiles
  EXPECT_EQ(slice(k720p), 2);  // this too as measured, with a ring of 10
  EXPECT_EQ(PickMonarchCudaPlan(k720p, kH100, "resident")->ring, 10);
  EXPECT_EQ(slice(Tiled(k480p, 1, 2)), 10);
  EXPECT_EQ(slice(Tiled(k480p, 3, 1)), 0);  // tiles of 90 rows
  EXPECT_EQ(slice(Tiled(k720p, 3, 1)), 0);
  for (const GpuLimits& gpu : {kRtx4090, kH100Sm90, kH100Quarter})
    EXPECT_FALSE(PickMonarchCudaPlan(k480p, gpu, "resident").ok());
  EXPECT_TRUE(PickMonarchCudaPlan(k480p, kH20, "resident").ok());
  EXPECT_FALSE(PickMonarchCudaPlan(k720p, kH20, "resident").ok());  // 240 consumers of 234 blocks
}

TEST(MonarchResidentPlan, NeedsLittleScratchForEveryShape) {
  for (const MonarchShape& shape : Shapes()) {
    const Result<MonarchCudaPlan> plan = PlanMonarchResident(shape, kH100);
    if (plan.ok()) {
      EXPECT_LT(plan->scratch_bytes, int64_t{128} << 20) << Describe(*plan);
    }
  }
}

// What the resident kernel relies on.
TEST(MonarchResidentPlan, CoversEveryTaskAndFits) {
  int planned = 0;
  for (const MonarchShape& shape : Shapes()) {
    const Result<MonarchCudaPlan> plan = PlanMonarchResident(shape, kH100);
    if (!plan.ok()) continue;
    ++planned;
    const std::string line = Describe(*plan);
    const MonarchResidentKernel& kernel = kMonarchResidentKernels[plan->resident];
    EXPECT_EQ(kernel.head_dim, shape.head_dim) << line;
    EXPECT_GE(8 * kernel.score_tiles, shape.b2()) << line;
    EXPECT_GE(16 * kernel.unit_warps, shape.b1()) << line;
    EXPECT_LE(3 * (plan->smem_bytes + 2048), kH100.smem_bytes_per_multiprocessor) << line;
    const int rows = plan->group_tiles * shape.b2();
    EXPECT_GE(plan->row_blocks * kernel.Average().BlockRows(), rows) << line;
    EXPECT_TRUE(rows <= kernel.query_rows || kernel.query_rows == kernel.Average().BlockRows())
        << line;
    EXPECT_GE(plan->groups * plan->group_tiles, TileCount(shape, shape.frames_q)) << line;
    EXPECT_GE(plan->slices * plan->slice_tiles, TileCount(shape, shape.frames_kv)) << line;
    EXPECT_LT((plan->slices - 1) * plan->slice_tiles, TileCount(shape, shape.frames_kv)) << line;
    EXPECT_GE(plan->consumers * kernel.Units(), plan->interleave * plan->across_tasks) << line;
    EXPECT_LT(plan->consumers, plan->blocks) << line;
    EXPECT_GE(plan->ring, plan->RingMin()) << line;
    EXPECT_EQ(plan->average_tasks, shape.b1() * plan->row_blocks * plan->slice_tiles) << line;
  }
  EXPECT_GE(planned, 5);
  EXPECT_FALSE(PlanMonarchResident(k480p, kRtx4090).ok());
}

// Producers and consumers of the resident kernel, walked through on the host with as few steps of
// each at a time as possible: whoever can run does, until all is done.
TEST(MonarchResidentPlan, CannotDeadlock) {
  for (const MonarchShape& shape : Shapes()) {
    const Result<MonarchCudaPlan> found = PlanMonarchResident(shape, kH100);
    if (!found.ok()) continue;
    MonarchCudaPlan plan = *found;
    plan.ring = plan.RingMin();
    const MonarchResidentKernel& kernel = kMonarchResidentKernels[plan.resident];
    const int pairs = shape.heads * plan.groups, positions = plan.positions(shape.heads);
    const int items = 2 * ((shape.b1() * plan.slice_tiles + kAcrossKeys - 1) / kAcrossKeys);
    const int ahead = ResidentSlots(kernel.unit_warps) - 1;
    // One unit stands for all of a slot: the positions it reads in order, and how many items of
    // them it has used.
    std::vector<std::vector<int>> reads(static_cast<size_t>(plan.interleave));
    for (int p = 0; p < positions; ++p) {
      const int turn = p / (plan.interleave * plan.slices);
      const int turn_pairs = std::min(plan.interleave, pairs - turn * plan.interleave);
      reads[static_cast<size_t>((p - turn * plan.interleave * plan.slices) % turn_pairs)].push_back(
          p);
    }
    std::vector<int> used(reads.size(), 0);
    std::vector<bool> is_read(static_cast<size_t>(positions), false);
    int written = 0;  // positions, in order
    for (bool moved = true; moved;) {
      moved = false;
      if (written < positions && (written < plan.ring || is_read[written - plan.ring])) {
        ++written;
        moved = true;
      }
      for (size_t slot = 0; slot < reads.size(); ++slot) {
        const int all = static_cast<int>(reads[slot].size()) * items;
        if (used[slot] >= all) continue;
        // To use an item, those up to `ahead` after it in the same pair must have been written.
        const int of_pair = plan.slices * items;
        const int last = std::min(used[slot] + ahead, used[slot] / of_pair * of_pair + of_pair - 1);
        if (reads[slot][last / items] >= written) continue;
        ++used[slot];
        if (used[slot] % items == 0) is_read[reads[slot][used[slot] / items - 1]] = true;
        moved = true;
      }
    }
    EXPECT_EQ(written, positions) << Describe(plan);
    for (int p = 0; p < positions; ++p) ASSERT_TRUE(is_read[p]) << p << ", " << Describe(plan);
  }
}

// The order of tickets itself, walked through on the host as TaskOfTicket() does it: every task
// once, and each only after all that it waits for.
TEST(MonarchCudaPlan, WaitsOnlyForLowerTickets) {
  for (const MonarchShape& shape : Shapes()) {
    const MonarchCudaPlan plan = PlanMonarchCuda(shape, kH100).value();
    const int64_t positions = plan.positions(shape.heads);
    const int64_t step_tasks = plan.average_tasks + plan.across_tasks;
    int64_t average = 0, across = 0;  // tasks taken so far
    for (int64_t ticket = 0; ticket < plan.tickets(shape.heads); ++ticket) {
      const int64_t late = ticket - plan.delay;
      const int64_t due = late < 0 ? 0
                                   : late / step_tasks * plan.across_tasks +
                                         (late % step_tasks + 1) * plan.across_tasks / step_tasks;
      if (due > across) {
        const int64_t position = across / plan.across_tasks;
        ASSERT_GE(average,
                  std::min((position + 1) * plan.average_tasks, positions * plan.average_tasks));
        ++across;
      } else {
        const int64_t overwritten = average / plan.average_tasks - plan.ring;
        if (overwritten >= 0 && average < positions * plan.average_tasks) {
          ASSERT_GE(across, (overwritten + 1) * plan.across_tasks) << Describe(plan);
        }
        ++average;
      }
    }
    EXPECT_EQ(across, positions * plan.across_tasks) << Describe(plan);
    EXPECT_GE(average, positions * plan.average_tasks) << Describe(plan);
  }
}

TEST(MonarchCudaPlan, NeedsScratchThatHardlyGrowsWithTheWindow) {
  MonarchShape longer = k480p;
  longer.frames_kv = 126;
  const int64_t bytes = PlanMonarchCuda(k480p, kH100)->scratch_bytes;
  EXPECT_LT(PlanMonarchCuda(longer, kH100)->scratch_bytes, bytes * 11 / 10);
}

// What the kernels that run in passes rely on.
TEST(MonarchPassPlan, CoversEveryTaskAndFits) {
  for (MonarchShape shape : Shapes())
    for (int iterations : {1, 2}) {
      shape.iterations = iterations;
      const Result<MonarchCudaPlan> plan = PlanMonarchPasses(shape, kH100);
      ASSERT_TRUE(plan.ok()) << plan.status().message();
      const std::string line = Describe(*plan);
      const MonarchPassKernel& kernel = kMonarchPassKernels[plan->passes];
      EXPECT_EQ(kernel.head_dim, shape.head_dim) << line;
      EXPECT_GE(8 * kernel.score_tiles, shape.b2()) << line;
      EXPECT_LE(kernel.blocks * (plan->smem_bytes + 2048), kH100.smem_bytes_per_multiprocessor)
          << line;
      const int rows = plan->group_tiles * shape.b2();
      EXPECT_GE(plan->row_blocks * kernel.Average().BlockRows(), rows) << line;
      EXPECT_TRUE(rows <= kernel.query_rows || kernel.query_rows == kernel.Average().BlockRows())
          << line;
      EXPECT_GE(plan->groups * plan->group_tiles, TileCount(shape, shape.frames_q)) << line;
      EXPECT_GE(plan->items * kPassKeys, TileCount(shape, shape.frames_kv) * shape.b1()) << line;
      EXPECT_GE(plan->unit_blocks * plan->warpgroups * 64, shape.b1()) << line;
      EXPECT_LE(plan->warpgroups, 3) << line;
      EXPECT_EQ(plan->task_tiles, 1) << line;
      EXPECT_EQ(plan->average_tasks,
                TileCount(shape, shape.frames_kv) * shape.b1() * plan->row_blocks)
          << line;
      EXPECT_EQ(plan->stat_rows, iterations == 1 ? 0 : shape.b1()) << line;
      for (int64_t begin : {plan->entropies_begin, plan->state_begin})
        EXPECT_EQ(begin % 256, 0) << line;
      EXPECT_LE(plan->scratch_bytes, int64_t{700} << 20) << line;
    }
}

TEST(MonarchPassPlan, IsTheUsualOneWhereItsScratchIsSmall) {
  const auto passes = [](MonarchShape shape, const GpuLimits& gpu, int iterations = 1) {
    shape.iterations = iterations;
    const Result<MonarchCudaPlan> plan = PickMonarchCudaPlan(shape, gpu, "");
    return plan.ok() && plan->passes >= 0;
  };
  for (const MonarchShape& shape : Shapes())
    for (int iterations : {1, 2}) EXPECT_TRUE(passes(shape, kH100, iterations));
  for (const GpuLimits& gpu : {kRtx4090, kH100Sm90}) {
    EXPECT_FALSE(passes(k480p, gpu));
    EXPECT_EQ(PickMonarchCudaPlan(k480p, gpu, "")->resident, -1);
  }
  MonarchShape twice = k480p;
  twice.iterations = 2;
  EXPECT_THAT(PickMonarchCudaPlan(twice, kH100Sm90, "").status().message(), HasSubstr("sm_90a"));
  // So many keys that the means of one group are larger than the scratch may be.
  const MonarchShape wide = Bf16({.frames_q = 2, .frames_kv = 100, .rows = 300, .cols = 120});
  EXPECT_FALSE(passes(wide, kH100));
  EXPECT_TRUE(passes(wide, kH100, 2));
  const MonarchShape low = Bf16({.frames_q = 21, .frames_kv = 126, .rows = 45, .cols = 80});
  EXPECT_TRUE(passes(low, kH100));
}

TEST(MonarchPassPlan, OfTheMainShapesIsAsDocumented) {
  const MonarchCudaPlan plan = PlanMonarchPasses(k480p, kH100).value();
  EXPECT_EQ(plan.group_tiles, 3);
  EXPECT_EQ(plan.pass_pairs, 12);  // one launch of each pass
  EXPECT_EQ(plan.warpgroups, 1);
  EXPECT_EQ(plan.own_sums, 1);
  EXPECT_EQ(plan.kept, 156);  // of 1872 columns, 51 MB of means
  EXPECT_EQ(plan.dropped, 156);
  EXPECT_LT(plan.scratch_bytes, int64_t{640} << 20);
  MonarchShape all = Tiled(k720p, 3, 1);
  all.frames_q = 21;
  const MonarchCudaPlan tall = PlanMonarchPasses(all, kH100).value();
  EXPECT_EQ(tall.group_tiles, 7);
  EXPECT_EQ(tall.pass_pairs, 2);
  EXPECT_EQ(tall.warpgroups, 3);
  EXPECT_EQ(tall.own_sums, 0);
  const MonarchCudaPlan short_group =
      PlanMonarchPasses(Bf16({.frames_q = 7, .frames_kv = 9, .rows = 4, .cols = 53}), kH100)
          .value();
  EXPECT_EQ(short_group.group_tiles, 3);  // the last one has 1
  EXPECT_EQ(short_group.own_sums, 0);
  // Several blocks read the means of a column: none may drop them.
  const MonarchCudaPlan taller =
      PlanMonarchPasses(Bf16({.frames_kv = 9, .rows = 300, .cols = 20}), kH100).value();
  EXPECT_GT(taller.unit_blocks, 1);
  EXPECT_EQ(taller.dropped, 0);
}

TEST(MonarchPassPlan, IsTheOnlyOneOfF16) {
  for (MonarchShape shape : Shapes()) {
    shape.storage = StorageType::kF16;
    const Result<MonarchCudaPlan> plan = PickMonarchCudaPlan(shape, kH100, "");
    ASSERT_TRUE(plan.ok()) << plan.status().message();
    EXPECT_GE(plan->passes, 0);
    for (const char* forced : {"ring", "resident"})
      EXPECT_THAT(PickMonarchCudaPlan(shape, kH100, forced).status().message(),
                  HasSubstr("stores bf16 only"));
    EXPECT_THAT(PickMonarchCudaPlan(shape, kH100Sm90, "").status().message(),
                HasSubstr("f16 only in a build for sm_90a"));
  }
}

TEST(MonarchBackwardPlan, CoversAllPairsOfAHeadInOneLaunchOrEachInItsOwn) {
  for (const MonarchShape& shape : Shapes()) {
    const Result<MonarchBackwardCudaPlan> plan = PlanMonarchBackwardCuda(shape, kH100);
    if (shape.b2() > 80) {
      EXPECT_THAT(plan.status().message(), HasSubstr("at most 80 columns"));
      continue;
    }
    ASSERT_TRUE(plan.ok()) << plan.status().message();
    const MonarchCudaPlan& forward = plan->forward;
    const std::string line = Describe(forward);
    EXPECT_TRUE(forward.pass_pairs == 1 || forward.pass_pairs % forward.groups == 0) << line;
    EXPECT_GE(forward.unit_blocks * forward.warpgroups * 64, shape.b1()) << line;
    EXPECT_LE(forward.warpgroups, 2) << line;
    EXPECT_GE(forward.stat_rows, shape.b1()) << line;
    const int64_t rows = int64_t{forward.pass_pairs} * forward.group_tiles * shape.b2();
    EXPECT_GE(plan->log_sums_begin, forward.scratch_bytes) << line;
    EXPECT_EQ(plan->deltas_begin - plan->log_sums_begin, rows * forward.stat_rows * 4) << line;
    EXPECT_EQ(plan->scratch_bytes - plan->deltas_begin, rows * forward.stat_rows * 4) << line;
  }
  MonarchShape twice = k480p;
  twice.iterations = 2;
  EXPECT_EQ(PlanMonarchBackwardCuda(twice, kH100).status().code(), StatusCode::kUnavailable);
  EXPECT_EQ(PlanMonarchBackwardCuda(k480p, kH100Sm90).status().code(), StatusCode::kUnavailable);
}

TEST(MonarchBackwardPlan, TakesRunsWhereAllWarpgroupsHaveWork) {
  const auto runs = [](const MonarchShape& s) { return PlanMonarchBackwardCuda(s, kH100)->runs; };
  EXPECT_TRUE(runs(k480p));
  MonarchShape narrow_head = k480p;
  narrow_head.head_dim = 64;
  EXPECT_TRUE(runs(narrow_head));
  MonarchShape one_frame = k480p;
  one_frame.frames_q = 1;
  EXPECT_FALSE(runs(one_frame));
  EXPECT_FALSE(runs(Tiled(k480p, 3, 1)));  // one tile of queries
  EXPECT_FALSE(runs(k720p));               // more than one group
}

TEST(MonarchCudaPlan, MayBeForced) {
  EXPECT_GE(PickMonarchCudaPlan(k480p, kH100, "resident")->resident, 0);
  EXPECT_EQ(PickMonarchCudaPlan(k480p, kH100, "ring")->resident, -1);
  EXPECT_EQ(PickMonarchCudaPlan(k480p, kH100, "ring")->passes, -1);
  EXPECT_GE(PickMonarchCudaPlan(k480p, kH100, "passes")->passes, 0);
  EXPECT_THAT(PickMonarchCudaPlan(k480p, kH100, "x").status().message(), HasSubstr("need 'ring'"));
  const MonarchShape high = Tiled(k480p, 3, 1);
  EXPECT_EQ(PickMonarchCudaPlan(high, kH100, "resident").status().code(), StatusCode::kUnavailable);
  EXPECT_EQ(PickMonarchCudaPlan(high, kH100, "")->resident, -1);
}

TEST(MonarchCudaPlan, RefusesWithASentence) {
  const struct {
    MonarchShape shape;
    const char* message;
  } cases[] = {
      {{.rows = 2, .cols = 2}, "bf16 and f16 only"},
      {{.rows = 2, .cols = 2, .storage = StorageType::kF16}, "the ring kernel stores bf16 only"},
      {Bf16({.rows = 2, .cols = 2, .kv_layout = KvLayout::kHeadMajor}), "token-major"},
      {Bf16({.rows = 2, .cols = 2, .iterations = 2}), "one refinement step"},
      {Bf16({.rows = 2, .cols = 2, .head_dim = 96}), "head_dim 64 or 128"},
      {Bf16({.rows = 2, .cols = 129}), "at most 128 columns"},
      {Bf16({.frames_kv = 129, .rows = 2, .cols = 2}), "at most 128 key frames"},
      {Bf16({.frames_q = 128, .frames_kv = 128, .rows = 300, .cols = 2, .h_reduce = 300}),
       "32768 query tiles"},
      {Bf16({.heads = 99, .frames_q = 99, .frames_kv = 99, .rows = 2, .cols = 2}),
       "65536 tile pairs"},
      {Bf16({.rows = 3000, .cols = 2}), "at most 2048 rows"},
  };
  for (const auto& c : cases) {
    const Result<MonarchCudaPlan> plan = PlanMonarchCuda(c.shape, kH100);
    EXPECT_EQ(plan.status().code(), StatusCode::kUnavailable) << c.message;
    EXPECT_THAT(plan.status().message(), HasSubstr(c.message));
  }
  EXPECT_THAT(MonarchCudaRefuses(k480p, {16, 16 * 1024, 64 * 1024}),
              HasSubstr("too little shared memory"));
}

}  // namespace
}  // namespace mrt
