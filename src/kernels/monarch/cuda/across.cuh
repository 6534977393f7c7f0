// The across task: attention over all rows of the key tiles of a slice, for one column j.
//
//   x[i,n] = q[i] . kbar[n] - c[n]   L = running softmax over n   o[i] += L vbar[n]
//
// n = (key tile, row k) of the task. A warp owns a unit, 16 * kRowTiles rows i of one column of one
// query tile; it loads its own means and waits for no other warp.
#pragma once

#include "kernels/monarch/cuda/across_rows.cuh"
#include "kernels/monarch/cuda/queue.cuh"

namespace mrt {

template <int kHeadDim, int kRowTiles>
struct AcrossTask : AcrossRows<kHeadDim, kRowTiles> {
  using Base = AcrossRows<kHeadDim, kRowTiles>;
  using Base::args;
  using Base::kChunks;
  using Base::kOutTiles;
  using Base::lane;
  using typename Base::Running;
  using typename Base::Slot;
  static constexpr MonarchCudaKernel kKernel = {kHeadDim, 1, 1, kRowTiles};
  static constexpr int kUnitRows = kKernel.UnitRows();

  struct WarpSmem {
    alignas(16) Bits16 q[kUnitRows][kHeadDim];
    Slot slots[kAcrossSlots];
  };
  struct Smem {
    WarpSmem warps[kMonarchCudaWarps];
  };
  static_assert(sizeof(Smem) == kKernel.AcrossSmemBytes());

  WarpSmem& smem;
  const MonarchTask& task;
  int unit = 0;
  int column = 0;                    // of the group
  int row_begin = 0;                 // of the query tile
  int keys = 0;                      // of the slice that this unit sees
  int items = 0;                     // kbar and vbar of each kAcrossKeys keys, in turn
  Bits16* means = nullptr;           // of the column: [key, (kbar, vbar), head_dim]
  const float* entropies = nullptr;  // of the column: [key]

  __device__ AcrossTask(const MonarchKernelArgs& a, Smem& shared, const MonarchTask& t)
      : Base(a), smem(shared.warps[threadIdx.x / 32]), task(t) {
    unit = task.index * kMonarchCudaWarps + threadIdx.x / 32;
    column = unit / args.plan.unit_blocks;
    row_begin = unit % args.plan.unit_blocks * kUnitRows;
    const int seen = min(task.tiles_end, VisibleTiles(args, QueryTile())) - task.tiles_begin;
    keys = max(seen, 0) * args.b1;
    items = 2 * ((keys + kAcrossKeys - 1) / kAcrossKeys);
    const int slice_keys = args.plan.slice_tiles * args.b1;
    const int pitch = (slice_keys + kAcrossKeys - 1) / kAcrossKeys * kAcrossKeys;
    const int64_t ring_column = int64_t{task.ring_slot} * args.plan.group_tiles * args.b2 + column;
    means = args.means + ring_column * slice_keys * 2 * kHeadDim;
    entropies = args.entropies + ring_column * pitch;
  }

  __device__ UnitPlace Place() const { return {task.head, task.group_begin, column, row_begin}; }
  __device__ bool Last() const { return task.slice == args.plan.slices - 1; }
  __device__ int QueryTile() const { return task.group_begin + args.by_b2.Quotient(column); }

  __device__ void Run() {
    if (column >= task.group_tiles * args.b2 || (keys == 0 && !Last())) return;
    this->LoadQueries(Place(), smem.q);
    for (int item = 0; item < kAcrossSlots; ++item) LoadItem(item);
    Running running;
    if (task.slice == 0) {
      Base::Start(running);
    } else {
      ReadState(running);
    }
    for (int item = 0; item < items; item += 2) {
      float x[kRowTiles][2][4] = {};
      WaitForItem();
      this->Score(smem.q, smem.slots[item % kAcrossSlots], x);
      this->Logits(smem.slots[item % kAcrossSlots], keys - item / 2 * kAcrossKeys, x);
      __syncwarp();
      LoadItem(item + kAcrossSlots);
      this->Softmax(x, running);
      WaitForItem();
      Discard(item);
      this->Accumulate(smem.slots[(item + 1) % kAcrossSlots], x, running);
      __syncwarp();
      LoadItem(item + 1 + kAcrossSlots);
    }
    if (Last()) {
      this->WriteOutput(Place(), running);
    } else {
      WriteState(running);
    }
  }

  // The oldest item under way; each item is one group of copies.
  __device__ void WaitForItem() {
    ptx::CopyAsyncWait<kAcrossSlots - 1>();
    __syncwarp();
  }

  // kbar (even items, with c) or vbar (odd) of the next keys; keys past the end are zero.
  __device__ void LoadItem(int item) {
    if (item < items) {
      Slot& slot = smem.slots[item % kAcrossSlots];
      const int key_begin = item / 2 * kAcrossKeys;
      constexpr int kRowsAtOnce = 32 / kChunks;
      const int row = lane / kChunks, chunk = lane % kChunks;
      const Bits16* from = means + (key_begin * 2 + item % 2) * kHeadDim;
      const Bits16* source = from + row * 2 * kHeadDim + 8 * chunk;
#pragma unroll
      for (int n = 0; n < kAcrossKeys; n += kRowsAtOnce) {
        const bool valid = n + row < keys - key_begin;
        ptx::CopyAsync16(&slot.means[n + row][8 * chunk], valid ? source + n * 2 * kHeadDim : from,
                         valid);
      }
      if (item % 2 == 0 && lane < kAcrossKeys / 4)
        ptx::CopyAsync16(&slot.entropies[4 * lane], entropies + key_begin + 4 * lane, true);
    }
    ptx::CopyAsyncCommit();
  }

  // The means of an item and the one after are in shared memory and nobody else reads them: their
  // lines need not be written to memory, and make room in L2.
  __device__ void Discard(int item) {
    if (args.plan.unit_blocks > 1) return;
    constexpr int kLinesPerKey = 4 * kHeadDim / 128;
    const int key_begin = item / 2 * kAcrossKeys;
    const int lines = min(kAcrossKeys, keys - key_begin) * kLinesPerKey;
    Bits16* begin = means + key_begin * 2 * kHeadDim;
    for (int line = lane; line < lines; line += 32) ptx::DiscardLine(begin + 64 * line);
  }

  static constexpr int kStateVectors = kRowTiles * (kOutTiles + 1);
  __device__ float4* State() const {
    const int64_t units = int64_t{args.plan.group_tiles} * args.b2 * args.plan.unit_blocks;
    return args.state + (task.state_slot * units + unit) * kStateVectors * 32 + lane;
  }

  __device__ void WriteState(const Running& running) {
    float4* to = State();
#pragma unroll
    for (int t = 0; t < kRowTiles; ++t) {
#pragma unroll
      for (int n = 0; n < kOutTiles; ++n) {
        const float(&y)[4] = running.out[t][n];
        to[32 * (t * kOutTiles + n)] = make_float4(y[0], y[1], y[2], y[3]);
      }
      to[32 * (kRowTiles * kOutTiles + t)] = make_float4(
          running.max[2 * t], running.max[2 * t + 1], running.sum[2 * t], running.sum[2 * t + 1]);
    }
  }

  // Past L1, which does not see what other blocks wrote.
  __device__ void ReadState(Running& running) {
    const float4* from = State();
#pragma unroll
    for (int t = 0; t < kRowTiles; ++t) {
#pragma unroll
      for (int n = 0; n < kOutTiles; ++n) {
        const float4 y = __ldcg(from + 32 * (t * kOutTiles + n));
        running.out[t][n][0] = y.x, running.out[t][n][1] = y.y;
        running.out[t][n][2] = y.z, running.out[t][n][3] = y.w;
      }
      const float4 y = __ldcg(from + 32 * (kRowTiles * kOutTiles + t));
      running.max[2 * t] = y.x, running.max[2 * t + 1] = y.y;
      running.sum[2 * t] = y.z, running.sum[2 * t + 1] = y.w;
    }
  }
};

}  // namespace mrt
