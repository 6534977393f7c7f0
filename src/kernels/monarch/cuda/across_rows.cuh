// What one warp computes of the attention across rows: 16 * kRowTiles rows i of one column j of one
// query tile, over keys n whose means are in shared memory.
//
//   x[i,n] = q[i] . kbar[n] - c[n]   L = running softmax over n   o[i] += L vbar[n]
#pragma once

#include "kernels/common/cuda/ptx.cuh"
#include "kernels/monarch/cuda/tile.cuh"

namespace mrt {

// Where a warp's rows lie.
struct UnitPlace {
  int head = 0;
  int group_begin = 0;  // first query tile of the group
  int column = 0;       // of the group
  int row_begin = 0;    // of the query tile
};

template <int kHeadDim, int kRowTiles>
struct AcrossRows {
  static constexpr int kRows = 16 * kRowTiles;
  static constexpr int kPitch = MonarchCudaKernel{kHeadDim}.PaddedRowBytes() / 2;
  static constexpr int kChunks = kHeadDim / 8;  // of 16 bytes in a row
  static constexpr int kOutTiles = kHeadDim / 8;
  // The running maximum follows only when it grows by more than a factor of 2^8: the sums have
  // room, and the output is rescaled a few times instead of at every tile.
  static constexpr float kMaxLag = 8;

  // kbar or vbar of kAcrossKeys keys.
  struct Slot {
    alignas(16) Bits16 means[kAcrossKeys][kPitch];
    alignas(16) float entropies[kAcrossKeys];
  };

  struct Running {
    float out[kRowTiles][kOutTiles][4];
    float max[2 * kRowTiles];
    float sum[2 * kRowTiles];  // of this lane's keys
  };
  __device__ static void Start(Running& running) {
    running = {};
#pragma unroll
    for (float& m : running.max) m = -INFINITY;
  }

  const MonarchKernelArgs& args;
  int lane = threadIdx.x % 32;

  __device__ explicit AcrossRows(const MonarchKernelArgs& a) : args(a) {}

  // Chunk c of row i lies at c with bit 2 flipped in odd rows: eight lanes that read 4 chunks of
  // two rows then touch every bank once.
  __device__ static int SwizzledChunk(int row, int chunk) { return chunk ^ (row % 2 * 4); }

  // Copies this warp's queries; rows past the end are zero.
  __device__ void LoadQueries(const UnitPlace& place, Bits16 (*q)[kHeadDim]) const {
    const int i = place.row_begin + lane;
    int token = -1;  // of row `lane` of the unit
    if (lane < kRows && i < args.b1) {
      const int a = args.by_b2.Quotient(place.column);
      token = QueryToken(args, place.group_begin + a, i, place.column - a * args.b2);
    }
    constexpr int kRowsAtOnce = 32 / kChunks;
#pragma unroll
    for (int n = 0; n < kRows; n += kRowsAtOnce) {
      const int row = n + lane / kChunks, chunk = lane % kChunks;
      const int from = __shfl_sync(~0u, token, row);
      ptx::CopyAsync16(&q[row][8 * SwizzledChunk(row, chunk)],
                       args.q + TokenOffset(args, kHeadDim, max(from, 0), place.head) + 8 * chunk,
                       from >= 0);
    }
  }

  // x [i, n] = q [i, d] . kbar [n, d], with d in the order of the means: 32 channels of a row of q
  // are 16 bytes of each lane.
  __device__ void Score(const Bits16 (*q)[kHeadDim], const Slot& slot,
                        float (&x)[kRowTiles][2][4]) {
#pragma unroll
    for (int block = 0; block < kHeadDim / 32; ++block) {
      uint4 low[kRowTiles], high[kRowTiles];  // rows g and g + 8
#pragma unroll
      for (int t = 0; t < kRowTiles; ++t) {
        const int row = 16 * t + lane / 4;
        const int chunk = SwizzledChunk(row, 4 * block + lane % 4);
        low[t] = *reinterpret_cast<const uint4*>(&q[row][8 * chunk]);
        high[t] = *reinterpret_cast<const uint4*>(&q[row + 8][8 * chunk]);
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
  __device__ void WriteOutput(const UnitPlace& place, Running& running) const {
    const int a = args.by_b2.Quotient(place.column);
#pragma unroll
    for (int row = 0; row < 2 * kRowTiles; ++row) {
      const float inverse_sum = 1 / QuadSum(running.sum[row]);
      const int i = place.row_begin + 16 * (row / 2) + lane / 4 + row % 2 * 8;
      if (i >= args.b1) continue;
      const int token = QueryToken(args, place.group_begin + a, i, place.column - a * args.b2);
      Bits16* to = args.out + TokenOffset(args, kHeadDim, token, place.head);
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
};

}  // namespace mrt
