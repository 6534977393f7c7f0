// What back_along.cuh computes, where all query tiles of a head are one group of at most 160
// columns, of at most 56 keys each. A block keeps a head and a key row k, and goes over the key
// tiles f:
//
//   scores:     warpgroup w differentiates rows m 64w to 64w + 63 (back_along.cuh), leaves r and
//               s d_z in shared memory, and adds s d_z K to what it has of d_q[m] in registers
//   gradients:  d_V[l] = sum_m r d_vbar[m] by warpgroup 0, d_K[l] = sum_m (r d_kbar[m] +
//               s d_z q[m]) by the others, 64 channels each; they are written while the next rows
//               are loaded
//
// So a gradient of queries leaves the block once for all tiles, for the place of d_kbar at the
// first of them; SumRunsKernel adds it to what came through the means.
#pragma once

#include <algorithm>
#include <cstddef>

#include "kernels/monarch/cuda/back_along.cuh"

namespace mrt {

// Which key tiles of which (head, key row) a block takes. Whole ones as long as all blocks get as
// many; the rest is one row of tiles, cut into equal parts.
struct BackRunCuts {
  int blocks = 0, tiles = 0, units = 0;  // units: pairs of a head and a key row
  int whole = 0;                         // units that are not cut
  int rest = 0;                          // tiles of all others

  BackRunCuts() = default;
  BackRunCuts(int multiprocessors, int key_tiles, int pairs_of_head_and_row)
      : blocks(std::min(multiprocessors, key_tiles * pairs_of_head_and_row)),
        tiles(key_tiles),
        units(pairs_of_head_and_row),
        whole(units / blocks * blocks),
        rest((units - whole) * tiles) {}
  // Of a block's part of the rest.
  __host__ __device__ int Begin(int block) const {
    return static_cast<int>(int64_t{block} * rest / blocks);
  }
};

struct BackRunArgs {
  MonarchBackKernelArgs back;
  BackRunCuts cuts;
};

template <int kHeadDim>
struct BackRuns : BackRows<kHeadDim, kBackRunKeys / 8> {
  using Base = BackRows<kHeadDim, kBackRunKeys / 8>;
  using Base::args;
  using Base::kChunks;
  using Base::kPanels;
  using Base::lane;
  static constexpr int kKeys = kBackRunKeys, kScoreTiles = kKeys / 8, kPaddedKeys = 64;
  static constexpr int kWarpgroups = 3, kThreads = 128 * kWarpgroups;
  static constexpr int kRows = kBackRunColumns;  // warpgroup 2 reads what lies behind, and drops it
  static constexpr int kRowsCopied = kThreads / kChunks;  // at once
  static_assert(kRowsCopied % 8 == 0 && kPanels < kWarpgroups);

  struct Smem {
    alignas(1024) Bits16 q[kPanels][kRows][64];
    alignas(1024) Bits16 d_kbar[kPanels][kRows][64];
    alignas(1024) Bits16 d_vbar[kPanels][kRows][64];
    alignas(1024) Bits16 v[kPanels][kKeys][64];
    alignas(1024) Bits16 k[2][kPanels][kPaddedKeys][64];  // of this tile and the next one
    alignas(1024) Bits16 d_z[kRows][64];
    alignas(1024) Bits16 r[kRows][64];
  };
  static_assert(sizeof(Smem) <= 227 * 1024);

  // A tile, and where the run of tiles with the same head and key row ends.
  struct Item {
    int unit = -1;  // no item
    int tile = 0, end = 0;
  };

  const BackRunCuts& cuts;
  Smem& smem;
  int warpgroup = threadIdx.x / 128;
  int unit_index = blockIdx.x;       // of the next whole unit
  int rest_begin = 0, rest_end = 0;  // of the rest, after that
  int run_begin = 0;                 // first tile of the run at hand
  float d_q[kPanels][8][4];          // s sum d_z K of this run
  float y[2][8][4];                  // both panels of d_V, or both parts of a panel of d_K

  __device__ BackRuns(const BackRunArgs& a, Smem& shared)
      : Base(a.back), cuts(a.cuts), smem(shared) {
    rest_begin = cuts.Begin(blockIdx.x);
    rest_end = cuts.Begin(blockIdx.x + 1);
  }

  __device__ Item NextRun() {
    Item item;
    if (unit_index < cuts.whole) {
      item.unit = unit_index, item.end = cuts.tiles;
      unit_index += cuts.blocks;
    } else if (rest_begin < rest_end) {
      const int nth = rest_begin / cuts.tiles, first = nth * cuts.tiles;
      item.unit = cuts.whole + nth;
      item.tile = rest_begin - first;
      item.end = min(rest_end - first, cuts.tiles);
      rest_begin = first + item.end;
    }
    return item;
  }
  __device__ Item After(const Item& item) {
    if (item.tile + 1 == item.end) return NextRun();
    return {item.unit, item.tile + 1, item.end};
  }
  __device__ void SetUnit(int unit) {
    const int head_of_pass = unit / args.b1;
    this->k = unit - head_of_pass * args.b1;
    this->SetPair(head_of_pass);
  }

  __device__ void Run() {
    Clear();
    Item now = NextRun();
    if (now.unit < 0) return;
    SetUnit(now.unit);
    run_begin = now.tile;
    LoadQueries();
    LoadKeys(smem.k[0], args.k_frames, now.tile);
    LoadKeys(smem.v, args.v_frames, now.tile);
    LoadGradients(now.tile);
    ptx::CopyAsyncCommit();
    WaitForCopies<0>();
    for (int buffer = 0; now.unit >= 0; buffer ^= 1) {
      const Item next = After(now);
      const bool same = next.unit == now.unit && next.tile == now.tile + 1;
      const int unit = now.unit, tile = now.tile;
      const bool last = next.unit < 0;
      const auto of_next = [&](auto&& load) {
        if (last) return;
        if (!same) SetUnit(next.unit);
        load();
        if (!same) SetUnit(unit);
      };
      // Copies of the next tile, each as soon as its place is free: keys, values, rows.
      of_next([&] {
        FetchGradients(next.tile);
        LoadKeys(smem.k[buffer ^ 1], args.k_frames, next.tile);
      });
      ptx::CopyAsyncCommit();
      Score(tile, buffer);
      of_next([&] { LoadKeys(smem.v, args.v_frames, next.tile); });
      ptx::CopyAsyncCommit();
      Multiply(buffer, tile > run_begin);
      of_next([&] {
        LoadGradients(next.tile);
        if (!same) LoadQueries();
      });
      ptx::CopyAsyncCommit();
      Write(tile);
      if (!same) {
        WriteQueries();
        if (last) return;
        SetUnit(next.unit);
        run_begin = next.tile;
        WaitForCopies<0>();
      }
      now = next;
    }
  }

  // All that is read must be a number, because it may be multiplied by 0.
  __device__ void Clear() {
    uint4* zeros = reinterpret_cast<uint4*>(&smem);
    for (int n = threadIdx.x; n < int{sizeof(Smem) / 16}; n += kThreads) zeros[n] = {};
    ptx::FenceSharedForWgmma();
    __syncthreads();
  }

  template <int kPending>
  __device__ static void WaitForCopies() {
    ptx::CopyAsyncWait<kPending>();
    ptx::FenceSharedForWgmma();
    __syncthreads();
  }

  __device__ int Chunk() const { return threadIdx.x % kChunks; }
  __device__ int FirstRow() const { return threadIdx.x / kChunks; }

  // The copies are loops, which need fewer registers.
  // Rows past b2 are zero.
  template <int kHeld>
  __device__ __forceinline__ void LoadKeys(Bits16 (&to)[kPanels][kHeld][64],
                                           const Bits16* const* frames, int tile) {
    const DeviceTileRow row = TileRowOf(args, tile, this->k);
    const int64_t pitch = int64_t{args.heads} * kHeadDim;
    const Bits16* from = frames[row.frame] + (row.token + FirstRow()) * pitch +
                         int64_t{this->head} * kHeadDim + 8 * Chunk();
    Bits16* target = Base::At(to, FirstRow(), Chunk());
#pragma unroll 1
    for (int l = FirstRow(); l < kKeys; l += kRowsCopied) {
      const bool valid = l < args.b2;
      ptx::CopyAsync16(target, valid ? from : args.q, valid);
      target += kRowsCopied * 64, from += kRowsCopied * pitch;
    }
  }

  __device__ __forceinline__ void LoadQueries() {
    Bits16* target = Base::At(smem.q, FirstRow(), Chunk());
#pragma unroll 1
    for (int m = FirstRow(); m < kRows; m += kRowsCopied) {
      const bool valid = m < this->rows_end;
      const int token = valid ? this->TokenOf(m) : 0;
      ptx::CopyAsync16(
          target, args.q + TokenOffset(args, kHeadDim, token, this->head) + 8 * Chunk(), valid);
      target += kRowsCopied * 64;
    }
  }

  // Rows that do not see the tile are zero, and so is all that follows from them.
  __device__ __forceinline__ void LoadGradients(int tile) {
    const int key = tile * args.b1 + this->k, first_row = this->FirstSeeing(tile);
    const Bits16* from =
        PassChunk(PassHalf<kHeadDim>(args, this->ColumnOf(FirstRow()), key, 0), key, Chunk());
    const int64_t pitch = int64_t{args.plan.items} * 2 * kPassKeys * kHeadDim;
    Bits16* target = Base::At(smem.d_kbar, FirstRow(), Chunk());
    constexpr int kToValues = kPanels * kRows * 64;
    static_assert(offsetof(Smem, d_vbar) - offsetof(Smem, d_kbar) == kToValues * sizeof(Bits16));
#pragma unroll 1
    for (int m = FirstRow(); m < kRows; m += kRowsCopied) {
      const bool valid = m >= first_row && m < this->rows_end;
      const Bits16* source = valid ? from : args.means;
      ptx::CopyAsync16(target, source, valid);
      ptx::CopyAsync16(target + kToValues, source + kPassKeys * kHeadDim, valid);
      target += kRowsCopied * 64, from += kRowsCopied * pitch;
    }
  }

  // Into L2, so that LoadGradients() waits less. Rows that do not see the tile are not needed.
  __device__ __forceinline__ void FetchGradients(int tile) const {
    constexpr int kLines = 2 * kPanels;  // of 128 bytes, of a row
    const int key = tile * args.b1 + this->k;
    for (int n = this->FirstSeeing(tile) * kLines + static_cast<int>(threadIdx.x);
         n < this->rows_end * kLines; n += kThreads) {
      const int m = n / kLines, line = n % kLines;
      const Bits16* half = PassHalf<kHeadDim>(args, this->ColumnOf(m), key, line / kPanels);
      ptx::FetchLine(half + (line % kPanels * kPassKeys + key % kPassKeys) * 64);
    }
  }

  __device__ int RowOf(int half) const {
    return 64 * warpgroup + 16 * this->warp + lane / 4 + 8 * half;
  }

  // z [m, l] (+)= rows [m, d] . keys [l, d]
  template <int kHeld>
  __device__ __forceinline__ void Product(const Bits16 (&rows)[kPanels][kRows][64],
                                          const Bits16 (&keys)[kPanels][kHeld][64], bool adds,
                                          float (&z)[kScoreTiles][4]) const {
    const uint64_t first = ptx::SwizzledTile(&rows[0][0][0] + 64 * 64 * warpgroup);
    const uint64_t first_keys = ptx::SwizzledTile(&keys[0][0][0]);
#pragma unroll
    for (int d = 0; d < kHeadDim; d += 16)
      ptx::Wgmma(z, ptx::Later(first, d / 64 * kRows * 128 + d % 64 * 2),
                 ptx::Later(first_keys, d / 64 * kHeld * 128 + d % 64 * 2), adds || d > 0);
  }

  // r and s d_z to shared memory. Then nobody needs the values.
  __device__ __forceinline__ void Score(int tile, int buffer) {
    float d_c[2];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int m = RowOf(half);
      const bool sees = m >= this->FirstSeeing(tile) && m < this->rows_end;
      d_c[half] = sees ? PassEntropies(args, this->ColumnOf(m))[tile * args.b1 + this->k] : 0.0f;
    }
    float r[kScoreTiles][4], d_z[kScoreTiles][4];
    ptx::WgmmaFence();
    Product(smem.q, smem.k[buffer], false, r);
    ptx::WgmmaCommit();
    ptx::WgmmaWait<0>();
    ptx::WgmmaResult(r);
#pragma unroll
    for (int half = 0; half < 2; ++half) this->LogSoftmax(half, r);
    // Never true. Without a branch the compiler would wait for the copies first.
    if (r[0][0] + r[0][2] > 1) __trap();
    WaitForCopies<1>();  // but for the next keys
    ptx::WgmmaFence();
    Product(smem.d_kbar, smem.k[buffer], false, d_z);
    Product(smem.d_vbar, smem.v, true, d_z);
    ptx::WgmmaCommit();
    ptx::WgmmaWait<0>();
    ptx::WgmmaResult(d_z);
#pragma unroll
    for (int half = 0; half < 2; ++half) this->BackSoftmax(half, d_c[half], r, d_z);
    StoreWeights(r, d_z);
    ptx::FenceSharedForWgmma();
    __syncthreads();
  }

  // Rows that do not exist are zero; columns past kKeys stay so.
  __device__ __forceinline__ void StoreWeights(const float (&r)[kScoreTiles][4],
                                               const float (&d_z)[kScoreTiles][4]) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int m = RowOf(half);
      const float scale = this->back.scale;
      if (m >= kRows) continue;
#pragma unroll
      for (int n = 0; n < kScoreTiles; ++n) {
        const int at = (n ^ m % 8) * 8 + lane % 4 * 2;
        uint32_t weights = PackBf16(r[n][2 * half], r[n][2 * half + 1]);
        uint32_t d_weights = PackBf16(d_z[n][2 * half] * scale, d_z[n][2 * half + 1] * scale);
        if (m >= this->rows_end) weights = d_weights = 0;
        *reinterpret_cast<uint32_t*>(&smem.r[m][at]) = weights;
        *reinterpret_cast<uint32_t*>(&smem.d_z[m][at]) = d_weights;
      }
    }
  }

  // y [l, d] = weights [m, l]^T . rows [m, d], 64 channels
  __device__ __forceinline__ static void Product(const Bits16 (*weights)[64],
                                                 const Bits16 (*rows)[64], float (&y)[8][4]) {
    const uint64_t first = ptx::SwizzledTile(weights), first_rows = ptx::SwizzledTile(rows);
#pragma unroll
    for (int step = 0; step < kRows / 16; ++step)
      ptx::WgmmaRowsOfBoth(y, ptx::Later(first, step * 16 * 128),
                           ptx::Later(first_rows, step * 16 * 128), step > 0);
  }

  // Afterwards nobody needs rows, weights and keys, and the next keys are there. All warpgroups run
  // the same code, because a branch would take the products apart.
  __device__ __forceinline__ void Multiply(int buffer, bool adds) {
    const bool values = warpgroup == 0;
    const int panel = KeyPanel(), second = values ? kPanels - 1 : panel;
    ptx::WgmmaFence();
    const uint64_t weights = ptx::SwizzledTile(&smem.d_z[0][0] + 64 * 64 * warpgroup);
    const uint64_t keys = ptx::SwizzledTile(smem.k[buffer]);
#pragma unroll
    for (int step = 0; step < kPaddedKeys / 16; ++step)
#pragma unroll
      for (int n = 0; n < kPanels; ++n)
        ptx::WgmmaRowsOfB(d_q[n], ptx::Later(weights, step * 16 * 2),
                          ptx::Later(keys, n * kPaddedKeys * 128 + step * 16 * 128),
                          adds || step > 0);
    Product(smem.r, values ? smem.d_vbar[0] : smem.d_kbar[panel], y[0]);
    Product(values ? smem.r : smem.d_z, values ? smem.d_vbar[second] : smem.q[second], y[1]);
    ptx::WgmmaCommit();
    ptx::WgmmaWait<0>();
    ptx::WgmmaResult(y[0]);
    ptx::WgmmaResult(y[1]);
#pragma unroll
    for (int n = 0; n < kPanels; ++n) ptx::WgmmaResult(d_q[n]);
    WaitForCopies<1>();  // but for the next values
  }

  // Of d_K, by this warpgroup. With heads of 64 warpgroup 2 does what 1 does, and drops it.
  __device__ int KeyPanel() const { return warpgroup > 0 ? (warpgroup - 1) % kPanels : 0; }

  __device__ __forceinline__ void Write(int tile) const {
    const DeviceTileRow row = TileRowOf(args, tile, this->k);
    const int64_t pitch = int64_t{args.heads} * kHeadDim;
    const int64_t begin = row.token * pitch + int64_t{this->head} * kHeadDim + lane % 4 * 2;
    const bool values = warpgroup == 0;
    if (warpgroup > kPanels) return;
    float* to = values ? this->back.d_v_frames[row.frame] : this->back.d_k_frames[row.frame];
    to += begin + 64 * KeyPanel();
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int l = 16 * this->warp + lane / 4 + 8 * half;
      if (l >= args.b2) continue;
      float* at = to + l * pitch;
#pragma unroll
      for (int n = 0; n < 8; ++n) {
        const float2 first = make_float2(y[0][n][2 * half], y[0][n][2 * half + 1]);
        const float2 second = make_float2(y[1][n][2 * half], y[1][n][2 * half + 1]);
        const float2 both = make_float2(first.x + second.x, first.y + second.y);
        // Nobody reads them soon.
        __stcs(reinterpret_cast<float2*>(at + 8 * n), values ? first : both);
        if (values && kPanels > 1) __stcs(reinterpret_cast<float2*>(at + 64 + 8 * n), second);
      }
    }
  }

  __device__ __forceinline__ void WriteQueries() const {
    const int key = run_begin * args.b1 + this->k;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int m = RowOf(half);
      StoreNatural<kHeadDim>(d_q, half, 1, m < this->rows_end,
                             PassHalf<kHeadDim>(args, this->ColumnOf(m), key, 0), key);
    }
  }
};

template <int kHeadDim>
__global__ void __launch_bounds__(BackRuns<kHeadDim>::kThreads, 1)
    BackRunsKernel(const __grid_constant__ BackRunArgs args) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  using Runs = BackRuns<kHeadDim>;
  extern __shared__ __align__(1024) char smem[];
  Runs(args, *reinterpret_cast<typename Runs::Smem*>(smem)).Run();
#else
  __trap();  // other GPUs are refused
#endif
}

// A thread per 8 channels of a row m at key row k: what each run of that row left.
template <int kHeadDim>
__global__ void __launch_bounds__(256)
    SumRunsKernel(const __grid_constant__ BackRunArgs runs, int columns) {
  constexpr int kChunks = kHeadDim / 8;
  const MonarchKernelArgs& args = runs.back.forward;
  const BackRunCuts& cuts = runs.cuts;
  const int row = (blockIdx.x * 256 + threadIdx.x) / kChunks, chunk = threadIdx.x % kChunks;
  const int column = row / args.b1, k = row - column * args.b1;
  if (column >= columns) return;
  const PassPlace place = FindPassColumn(args, column);
  float sum[8] = {};
  const auto add = [&](int tile) {
    const int key = tile * args.b1 + k;
    const uint4 x = *reinterpret_cast<const uint4*>(
        PassChunk(PassHalf<kHeadDim>(args, column, key, 0), key, chunk));
    const uint32_t pairs[4] = {x.x, x.y, x.z, x.w};
#pragma unroll
    for (int n = 0; n < 4; ++n) {
      sum[2 * n] += __uint_as_float(pairs[n] << 16);
      sum[2 * n + 1] += __uint_as_float(pairs[n] & 0xFFFF0000u);
    }
  };
  add(0);
  const int unit = (place.head - args.first_pair) * args.b1 + k;
  if (unit >= cuts.whole) {
    // Blocks that begin behind the first tile of the unit.
    const int begin = (unit - cuts.whole) * cuts.tiles;
    int before = begin;
    for (int block = static_cast<int>(int64_t{begin} * cuts.blocks / cuts.rest);
         block < cuts.blocks; ++block) {
      const int at = cuts.Begin(block);
      if (at >= begin + cuts.tiles) break;
      if (at > before) add(at - begin), before = at;
    }
  }
  const int token = QueryToken(args, place.query_tile, k, place.j);
  float4* to = reinterpret_cast<float4*>(
      runs.back.d_q + TokenOffset(args, kHeadDim, token, place.head) + 8 * chunk);
#pragma unroll
  for (int n = 0; n < 2; ++n) {
    float4 y = to[n];
    y.x += sum[4 * n], y.y += sum[4 * n + 1], y.z += sum[4 * n + 2], y.w += sum[4 * n + 3];
    to[n] = y;
  }
}

// Where every head is one group.
template <int kHeadDim>
cudaError_t LaunchBackRuns(const MonarchBackKernelArgs& args, int pairs, cudaStream_t stream) {
  using Runs = BackRuns<kHeadDim>;
  const MonarchKernelArgs& forward = args.forward;
  const BackRunArgs runs = {
      args, BackRunCuts(forward.plan.blocks, forward.plan.key_tiles, pairs * forward.b1)};
  const cudaError_t error = LaunchPass(BackRunsKernel<kHeadDim>, runs.cuts.blocks, Runs::kThreads,
                                       int{sizeof(typename Runs::Smem)}, runs, stream);
  if (error != cudaSuccess) return error;
  constexpr int kRowsPerBlock = 256 / (kHeadDim / 8);
  const int columns = pairs * forward.plan.group_tiles * forward.b2;
  const int blocks = (columns * forward.b1 + kRowsPerBlock - 1) / kRowsPerBlock;
  SumRunsKernel<kHeadDim><<<blocks, 256, 0, stream>>>(runs, columns);
  return cudaGetLastError();
}

}  // namespace mrt
