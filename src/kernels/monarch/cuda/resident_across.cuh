// The consumers of the resident kernel: attention across rows, for one column over all slices.
//
// A unit is kUnitWarps warps that share the means of one column of one query tile, 16 query rows
// each. Its output stays in registers until the last slice. Units wait for nobody but the slices.
#pragma once

#include "kernels/monarch/cuda/across_rows.cuh"
#include "kernels/monarch/cuda/queue.cuh"

namespace mrt {

template <int kHeadDim, int kUnitWarps>
struct ResidentAcross : AcrossRows<kHeadDim, 1> {
  using Base = AcrossRows<kHeadDim, 1>;
  using Base::args;
  using Base::kChunks;
  using Base::lane;
  using typename Base::Running;
  using typename Base::Slot;
  static constexpr int kUnits = kMonarchCudaWarps / kUnitWarps;  // of a block
  static constexpr int kSlots = ResidentSlots(kUnitWarps);
  static constexpr int kRowsPerWarp = kAcrossKeys / kUnitWarps;  // of an item, that a warp copies

  struct UnitSmem {
    alignas(16) Bits16 q[16 * kUnitWarps][kHeadDim];
    Slot slots[kSlots];
  };
  struct Smem {
    UnitSmem units[kUnits];
  };

  UnitSmem& smem;
  int unit_warp = threadIdx.x / 32 % kUnitWarps;
  int pair_slot = 0;  // which of the pairs that take turns
  int column = 0;     // of the group
  // Of the turn at hand.
  int turn = 0, turn_pairs = 0;
  int tiles_seen = 0, slices_seen = 0;
  // The next item to load: kbar (even, with c) or vbar (odd) of kAcrossKeys keys of a slice.
  int load_slice = 0, load_item = 0, load_slot = 0;
  int load_keys = 0;                      // of its slice
  const Bits16* load_means = nullptr;     // of its slice
  const float* load_entropies = nullptr;  // of its slice
  int use_slot = 0;

  __device__ ResidentAcross(const MonarchKernelArgs& a, Smem& shared)
      : Base(a), smem(shared.units[threadIdx.x / 32 / kUnitWarps]) {
    const int unit = blockIdx.x * kUnits + threadIdx.x / 32 / kUnitWarps;
    pair_slot = unit / Columns();
    column = unit - pair_slot * Columns();
  }

  __device__ int Columns() const { return args.plan.group_tiles * args.b2; }

  // Every pair whose slices come in the turns of this unit's slot.
  __device__ void Run() {
    const MonarchCudaPlan& plan = args.plan;
    const int pairs = args.heads * plan.groups;
    if (pair_slot >= plan.interleave) return;
    for (int pair = pair_slot; pair < pairs; pair += plan.interleave, ++turn) {
      turn_pairs = min(plan.interleave, pairs - turn * plan.interleave);
      const int head = pair / plan.groups;
      const int group_begin = (pair - head * plan.groups) * plan.group_tiles;
      const int tile = group_begin + args.by_b2.Quotient(column);
      tiles_seen = tile < plan.query_tiles ? VisibleTiles(args, tile) : 0;
      slices_seen = (tiles_seen + plan.slice_tiles - 1) / plan.slice_tiles;
      if (tile < plan.query_tiles) RunPair({head, group_begin, column, 16 * unit_warp});
      for (int slice = slices_seen; slice < plan.slices; ++slice) SayRead(slice);
    }
  }

  __device__ void RunPair(const UnitPlace& place) {
    SyncUnit();  // the slots are free
    Bits16(*q)[kHeadDim] = smem.q + 16 * unit_warp;
    this->LoadQueries(place, q);
    load_slice = load_item = load_slot = use_slot = 0;
#pragma unroll 1
    for (int n = 0; n < kSlots - 1; ++n) LoadNext();
    Running running;
    Base::Start(running);
#pragma unroll 1
    for (int slice = 0; slice < slices_seen; ++slice) {
      const int keys = KeysOf(slice);
      Bits16* const means = Means(slice);
#pragma unroll 1
      for (int key_begin = 0; key_begin < keys; key_begin += kAcrossKeys) {
        float x[1][2][4] = {};
        const Slot& kbar = NextItem();
        this->Score(q, kbar, x);
        this->Logits(kbar, keys - key_begin, x);
        this->Softmax(x, running);
        const Slot& vbar = NextItem();
        if (unit_warp == 0)
          Discard(means + key_begin * 2 * kHeadDim, min(kAcrossKeys, keys - key_begin));
        this->Accumulate(vbar, x, running);
      }
      SayRead(slice);
    }
    this->WriteOutput(place, running);
  }

  __device__ int KeysOf(int slice) const {
    const int tiles_begin = slice * args.plan.slice_tiles;
    return (min(tiles_begin + args.plan.slice_tiles, tiles_seen) - tiles_begin) * args.b1;
  }
  // As FindSlice() counts.
  __device__ int Position(int slice) const {
    return turn * args.plan.interleave * args.plan.slices + slice * turn_pairs + pair_slot;
  }
  __device__ int64_t RingColumn(int slice) const {
    return int64_t{Position(slice) % args.plan.ring} * Columns() + column;
  }
  // Of this column: [key, (kbar, vbar), head_dim].
  __device__ Bits16* Means(int slice) const {
    return args.means + RingColumn(slice) * args.plan.slice_tiles * args.b1 * 2 * kHeadDim;
  }
  __device__ const float* Entropies(int slice) const {
    const int keys = args.plan.slice_tiles * args.b1;
    const int pitch = (keys + kAcrossKeys - 1) / kAcrossKeys * kAcrossKeys;
    return args.entropies + RingColumn(slice) * pitch;
  }

  __device__ void SyncUnit() {
    if (kUnitWarps == 1) {
      __syncwarp();
    } else {
      ptx::NamedBarrier(1 + threadIdx.x / 32 / kUnitWarps, 32 * kUnitWarps);
    }
  }

  // The next item is in shared memory, all warps of the unit are done with the one before, and its
  // slot is loaded again.
  __device__ const Slot& NextItem() {
    ptx::CopyAsyncWait<kSlots - 2>();
    SyncUnit();
    LoadNext();
    const Slot& slot = smem.slots[use_slot];
    use_slot = use_slot + 1 == kSlots ? 0 : use_slot + 1;
    return slot;
  }

  // One group of copies, empty after the last item. Waits for the slice before its first item.
  __device__ void LoadNext() {
    if (load_slice < slices_seen) {
      if (load_item == 0) OpenSlice();
      LoadItem(smem.slots[load_slot]);
      ++load_item;
      if (load_item / 2 * kAcrossKeys >= load_keys) load_item = 0, ++load_slice;
    }
    load_slot = load_slot + 1 == kSlots ? 0 : load_slot + 1;
    ptx::CopyAsyncCommit();
  }

  // Finds the means of the slice to load while it may still be written, then waits for it.
  __device__ void OpenSlice() {
    load_keys = KeysOf(load_slice);
    load_means = Means(load_slice);
    load_entropies = Entropies(load_slice);
    if (lane == 0) WaitFor(AverageDone(args, Position(load_slice)), args.plan.average_tasks);
    __syncwarp();
  }

  // Each warp its share of the rows; keys past the end are zero.
  __device__ void LoadItem(Slot& slot) {
    constexpr int kRowsAtOnce = 32 / kChunks;
    static_assert(kRowsPerWarp % kRowsAtOnce == 0);
    const int key_begin = load_item / 2 * kAcrossKeys;
    const int keys_left = load_keys - key_begin;
    const int row_begin = unit_warp * kRowsPerWarp + lane / kChunks, chunk = lane % kChunks;
    const Bits16* from = load_means + (key_begin * 2 + load_item % 2) * kHeadDim;
#pragma unroll
    for (int n = 0; n < kRowsPerWarp; n += kRowsAtOnce) {
      const int row = row_begin + n;
      const bool valid = row < keys_left;
      ptx::CopyAsync16(&slot.means[row][8 * chunk],
                       valid ? from + row * 2 * kHeadDim + 8 * chunk : from, valid);
    }
    if (load_item % 2 == 0 && unit_warp == 0 && lane < kAcrossKeys / 4)
      ptx::CopyAsync16(&slot.entropies[4 * lane], load_entropies + key_begin + 4 * lane, true);
  }

  // The means of these keys are in shared memory and nobody else reads them: their lines need not
  // be written to memory, and make room in L2.
  __device__ void Discard(Bits16* begin, int keys) {
    constexpr int kLinesPerKey = 4 * kHeadDim / 128;
    for (int line = lane; line < keys * kLinesPerKey; line += 32)
      ptx::DiscardLine(begin + 64 * line);
  }

  // After the last item of the slice has arrived: producers may overwrite it.
  __device__ void SayRead(int slice) {
    if (unit_warp != 0) return;
    __syncwarp();
    if (lane == 0) ptx::AddRelease(AcrossDone(args, Position(slice)), 1);
  }
};

}  // namespace mrt
