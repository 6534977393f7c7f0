// The across task: attention over all rows of the key tiles of a slice, for one column j.
//
//   x[i,n] = q[i] . kbar[n] - c[n]   L = running softmax over n   o[i] += L vbar[n]
//
// n = (key tile, row k) of the task. A warp owns a unit, 16 * kRowTiles rows i of one column of one
// query tile; it loads its own means and waits for no other warp.
#pragma once

#include "kernels/monarch/cuda/queue.cuh"
#include "kernels/monarch/cuda/tile.cuh"

namespace mrt {

template <int kHeadDim, int kRowTiles>
struct AcrossTask {
  using Bf16 = __nv_bfloat16;
  static constexpr MonarchCudaKernel kKernel = {kHeadDim, 1, 1, kRowTiles};
  static constexpr int kUnitRows = kKernel.UnitRows();
  static constexpr int kPitch = kKernel.PaddedRowBytes() / 2;
  static constexpr int kChunks = kHeadDim / 8;  // of 16 bytes in a row
  static constexpr int kOutTiles = kHeadDim / 8;
  // The running maximum follows only when it grows by more than a factor of 2^8: the sums have
  // room, and the output is rescaled a few times instead of at every tile.
  static constexpr float kMaxLag = 8;

  struct Slot {
    alignas(16) Bf16 means[kAcrossKeys][kPitch];
    alignas(16) float entropies[kAcrossKeys];
  };
  struct WarpSmem {
    alignas(16) Bf16 q[kUnitRows][kHeadDim];
    Slot slots[kAcrossSlots];
  };
  struct Smem {
    WarpSmem warps[kMonarchCudaWarps];
  };
  static_assert(sizeof(Smem) == kKernel.AcrossSmemBytes());

  struct Running {
    float out[kRowTiles][kOutTiles][4];
    float max[2 * kRowTiles];
    float sum[2 * kRowTiles];  // of this lane's keys
  };

  const MonarchKernelArgs& args;
  WarpSmem& smem;
  const MonarchTask& task;
  int lane = threadIdx.x % 32;
  int unit = 0;
  int column = 0;                    // of the group
  int row_begin = 0;                 // of the query tile
  int keys = 0;                      // of the slice that this unit sees
  int items = 0;                     // kbar and vbar of each kAcrossKeys keys, in turn
  Bf16* means = nullptr;             // of the column: [key, (kbar, vbar), head_dim]
  const float* entropies = nullptr;  // of the column: [key]

  __device__ AcrossTask(const MonarchKernelArgs& a, Smem& shared, const MonarchTask& t)
      : args(a), smem(shared.warps[threadIdx.x / 32]), task(t) {
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

  __device__ bool Last() const { return task.slice == args.plan.slices - 1; }
  __device__ int QueryTile() const { return task.group_begin + args.by_b2.Quotient(column); }

  __device__ void Run() {
    if (column >= task.group_tiles * args.b2 || (keys == 0 && !Last())) return;
    LoadQueries();
    for (int item = 0; item < kAcrossSlots; ++item) LoadItem(item);
    Running running = {};
    if (task.slice == 0) {
#pragma unroll
      for (float& m : running.max) m = -INFINITY;
    } else {
      ReadState(running);
    }
    for (int item = 0; item < items; item += 2) {
      float x[kRowTiles][2][4] = {};
      WaitForItem();
      Score(smem.slots[item % kAcrossSlots], x);
      Logits(smem.slots[item % kAcrossSlots], keys - item / 2 * kAcrossKeys, x);
      __syncwarp();
      LoadItem(item + kAcrossSlots);
      Softmax(x, running);
      WaitForItem();
      Discard(item);
      Accumulate(smem.slots[(item + 1) % kAcrossSlots], x, running);
      __syncwarp();
      LoadItem(item + 1 + kAcrossSlots);
    }
    if (Last()) {
      WriteOutput(running);
    } else {
      WriteState(running);
    }
  }

  // The oldest item under way; each item is one group of copies.
  __device__ void WaitForItem() {
    ptx::CopyAsyncWait<kAcrossSlots - 1>();
    __syncwarp();
  }

  // Chunk c of row i lies at c with bit 2 flipped in odd rows: eight lanes that read 4 chunks of
  // two rows then touch every bank once.
  __device__ static int SwizzledChunk(int row, int chunk) { return chunk ^ (row % 2 * 4); }

  __device__ void LoadQueries() {
    const int i = row_begin + lane;
    int token = -1;  // of row `lane` of the unit
    if (lane < kUnitRows && i < args.b1) {
      const int a = args.by_b2.Quotient(column);
      token = QueryToken(args, task.group_begin + a, i, column - a * args.b2);
    }
    constexpr int kRowsAtOnce = 32 / kChunks;
#pragma unroll
    for (int n = 0; n < kUnitRows; n += kRowsAtOnce) {
      const int row = n + lane / kChunks, chunk = lane % kChunks;
      const int from = __shfl_sync(~0u, token, row);
      ptx::CopyAsync16(&smem.q[row][8 * SwizzledChunk(row, chunk)],
                       args.q + TokenOffset(args, kHeadDim, max(from, 0), task.head) + 8 * chunk,
                       from >= 0);
    }
  }

  // kbar (even items, with c) or vbar (odd) of the next keys; keys past the end are zero.
  __device__ void LoadItem(int item) {
    if (item < items) {
      Slot& slot = smem.slots[item % kAcrossSlots];
      const int key_begin = item / 2 * kAcrossKeys;
      constexpr int kRowsAtOnce = 32 / kChunks;
      const int row = lane / kChunks, chunk = lane % kChunks;
      const Bf16* from = means + (key_begin * 2 + item % 2) * kHeadDim;
      const Bf16* source = from + row * 2 * kHeadDim + 8 * chunk;
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
    Bf16* begin = means + key_begin * 2 * kHeadDim;
    for (int line = lane; line < lines; line += 32) ptx::DiscardLine(begin + 64 * line);
  }

  // x [i, n] = q [i, d] . kbar [n, d], with d in the order of the means: 32 channels of a row of q
  // are 16 bytes of each lane.
  __device__ void Score(const Slot& slot, float (&x)[kRowTiles][2][4]) {
#pragma unroll
    for (int block = 0; block < kHeadDim / 32; ++block) {
      uint4 low[kRowTiles], high[kRowTiles];  // rows g and g + 8
#pragma unroll
      for (int t = 0; t < kRowTiles; ++t) {
        const int row = 16 * t + lane / 4;
        const int chunk = SwizzledChunk(row, 4 * block + lane % 4);
        low[t] = *reinterpret_cast<const uint4*>(&smem.q[row][8 * chunk]);
        high[t] = *reinterpret_cast<const uint4*>(&smem.q[row + 8][8 * chunk]);
      }
#pragma unroll
      for (int step = 0; step < 2; ++step) {
        uint32_t b[4];
        ptx::LoadMatrix(
            b, &slot.means[lane % 8 + lane / 16 * 8][32 * block + 16 * step + lane / 8 % 2 * 8]);
#pragma unroll
        for (int t = 0; t < kRowTiles; ++t) {
          const uint32_t a[4] = {step == 0 ? low[t].x : low[t].z, step == 0 ? high[t].x : high[t].z,
                                 step == 0 ? low[t].y : low[t].w,
                                 step == 0 ? high[t].y : high[t].w};
          ptx::Mma(x[t][0], a, b[0], b[1]);
          ptx::Mma(x[t][1], a, b[2], b[3]);
        }
      }
    }
  }

  // x = s * log2(e) * x - c, and nothing for keys past the end.
  __device__ void Logits(const Slot& slot, int keys_left, float (&x)[kRowTiles][2][4]) {
#pragma unroll
    for (int n = 0; n < 2; ++n)
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        const int key = 8 * n + 2 * (lane % 4) + e;
        const float c = slot.entropies[key];
#pragma unroll
        for (int t = 0; t < kRowTiles; ++t)
#pragma unroll
          for (int half = 0; half < 2; ++half) {
            float& logit = x[t][n][2 * half + e];
            logit = key < keys_left ? fmaf(logit, args.scale_log2, -c) : kMaskedLogit;
          }
      }
  }

  // x -> weights 2^(x - max); rescales what was summed up before if the maximum moved.
  __device__ void Softmax(float (&x)[kRowTiles][2][4], Running& running) {
    float tile_max[2 * kRowTiles];
    bool moves = false;
#pragma unroll
    for (int row = 0; row < 2 * kRowTiles; ++row) {
      const float(&y)[2][4] = x[row / 2];
      const int h = row % 2 * 2;
      tile_max[row] = QuadMax(fmaxf(fmaxf(y[0][h], y[0][h + 1]), fmaxf(y[1][h], y[1][h + 1])));
      moves |= tile_max[row] > running.max[row] + kMaxLag;
    }
    if (__any_sync(~0u, moves)) Rescale(tile_max, running);
#pragma unroll
    for (int row = 0; row < 2 * kRowTiles; ++row)
#pragma unroll
      for (int n = 0; n < 2; ++n)
#pragma unroll
        for (int e = 0; e < 2; ++e) {
          float& p = x[row / 2][n][row % 2 * 2 + e];
          p = ptx::Exp2(p - running.max[row]);
          running.sum[row] += p;
        }
  }

  __device__ void Rescale(const float (&tile_max)[2 * kRowTiles], Running& running) {
#pragma unroll
    for (int row = 0; row < 2 * kRowTiles; ++row) {
      const float moved = fmaxf(running.max[row], tile_max[row]);
      const float factor = ptx::Exp2(running.max[row] - moved);
      running.max[row] = moved;
      running.sum[row] *= factor;
#pragma unroll
      for (int n = 0; n < kOutTiles; ++n)
#pragma unroll
        for (int e = 0; e < 2; ++e) running.out[row / 2][n][row % 2 * 2 + e] *= factor;
    }
  }

  // out [i, d] += weights [i, n] . vbar [n, d]
  __device__ void Accumulate(const Slot& slot, const float (&x)[kRowTiles][2][4],
                             Running& running) {
    uint32_t a[kRowTiles][4];
#pragma unroll
    for (int t = 0; t < kRowTiles; ++t)
#pragma unroll
      for (int r = 0; r < 4; ++r)
        a[t][r] = PackBf16(x[t][r / 2][r % 2 * 2], x[t][r / 2][r % 2 * 2 + 1]);
#pragma unroll
    for (int n = 0; n < kOutTiles; n += 2) {
      uint32_t b[4];
      ptx::LoadMatrixTransposed(b, &slot.means[lane % 16][8 * n + lane / 16 * 8]);
#pragma unroll
      for (int t = 0; t < kRowTiles; ++t) {
        ptx::Mma(running.out[t][n], a[t], b[0], b[1]);
        ptx::Mma(running.out[t][n + 1], a[t], b[2], b[3]);
      }
    }
  }

  // A lane holds of each 32 channels 8 consecutive ones: see tile.cuh.
  __device__ void WriteOutput(Running& running) {
    const int a = args.by_b2.Quotient(column);
#pragma unroll
    for (int row = 0; row < 2 * kRowTiles; ++row) {
      const float inverse_sum = 1 / QuadSum(running.sum[row]);
      const int i = row_begin + 16 * (row / 2) + lane / 4 + row % 2 * 8;
      if (i >= args.b1) continue;
      const int token = QueryToken(args, task.group_begin + a, i, column - a * args.b2);
      Bf16* to = args.out + TokenOffset(args, kHeadDim, token, task.head);
#pragma unroll
      for (int block = 0; block < kHeadDim / 32; ++block) {
        uint32_t packed[4];
#pragma unroll
        for (int u = 0; u < 4; ++u) {
          const float(&y)[4] = running.out[row / 2][4 * block + u];
          packed[u] = PackBf16(y[row % 2 * 2] * inverse_sum, y[row % 2 * 2 + 1] * inverse_sum);
        }
        *reinterpret_cast<uint4*>(to + 32 * block + lane % 4 * 8) =
            make_uint4(packed[0], packed[1], packed[2], packed[3]);
      }
    }
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
