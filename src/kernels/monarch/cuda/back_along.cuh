// The backward pass through the attention along rows. For key row k of key tile f and a row m =
// (query tile, column j) of the same head:
//
//   r = softmax over l of s q[m] . K[l]     d_r = d_kbar[m] . K + d_vbar[m] . V + d_c[m] log r
//   d_z = r * (d_r - sum_l r * d_r)
//
// BackQueries adds what reaches the queries: d_q[m] += s sum_{f,l} d_z K[l]. BackKeys makes d_V[l]
// = sum_m r d_vbar[m] and d_K[l] = sum_m (r d_kbar[m] + s d_z q[m]). Each gradient is written by
// one block, which adds in a fixed order.
#pragma once

#include <algorithm>

#include "kernels/common/cuda/wgmma.cuh"
#include "kernels/monarch/cuda/back_args.cuh"
#include "kernels/monarch/cuda/tile.cuh"

namespace mrt {

// What a warpgroup computes of 64 rows m.
template <int kHeadDim, int kScoreTiles>
struct BackRows {
  static constexpr int kPanels = kHeadDim / 64;
  static constexpr int kChunks = kHeadDim / 8;  // of 16 bytes
  static constexpr int kKeyRows = (kScoreTiles + 1) / 2 * 16;
  static constexpr int kTileRows = 64;

  struct Keys {
    alignas(1024) Bits16 k[kPanels][kKeyRows][64];
    alignas(1024) Bits16 v[kPanels][kKeyRows][64];
  };
  struct Rows {
    alignas(1024) Bits16 q[kPanels][kTileRows][64];
    alignas(1024) Bits16 d_kbar[kPanels][kTileRows][64];
    alignas(1024) Bits16 d_vbar[kPanels][kTileRows][64];
  };

  const MonarchBackKernelArgs& back;
  const MonarchKernelArgs& args;
  int head = 0;
  int k = 0;  // key row
  int group_begin = 0, pair_of_pass = 0;
  int rows_end = 0;  // columns of the group
  int m_begin = 0;   // of the tile of rows
  int thread = threadIdx.x % 128, lane = threadIdx.x % 32, warp = threadIdx.x / 32 % 4;

  __device__ explicit BackRows(const MonarchBackKernelArgs& a) : back(a), args(a.forward) {}

  __device__ void SetPair(int of_pass) {
    const MonarchCudaPlan& plan = args.plan;
    pair_of_pass = of_pass;
    const int pair = args.first_pair + of_pass;
    head = pair / plan.groups;
    group_begin = (pair - head * plan.groups) * plan.group_tiles;
    rows_end = min(plan.group_tiles, plan.query_tiles - group_begin) * args.b2;
  }
  __device__ int ColumnOf(int m) const {
    return pair_of_pass * args.plan.group_tiles * args.b2 + m;
  }
  // The first row m that sees the tile; all after it do too.
  __device__ int FirstSeeing(int tile) const {
    if (args.causal_block_tiles == 0) return 0;
    const int first = tile / args.causal_block_tiles * args.causal_block_tiles;
    return max(first - group_begin, 0) * args.b2;
  }
  __device__ int TokenOf(int m) const {
    const int a = args.by_b2.Quotient(m);
    return QueryToken(args, group_begin + a, k, m - a * args.b2);
  }

  template <int kRows>
  __device__ static Bits16* At(Bits16 (&panels)[kPanels][kRows][64], int row, int chunk) {
    return &panels[chunk / 8][row][(chunk % 8 ^ row % 8) * 8];
  }

  // Of the copies: each thread its chunk of every so many rows, of which the swizzle is the same.
  static constexpr int kRowsAtOnce = 128 / kChunks;
  static_assert(kRowsAtOnce % 8 == 0 && kKeyRows % kRowsAtOnce == 0);
  __device__ int Chunk() const { return thread % kChunks; }
  __device__ int FirstRow() const { return thread / kChunks; }

  // Rows past b2 are zero. Of two warpgroups the second copies the values.
  template <int kWarpgroups>
  __device__ __forceinline__ void LoadKeys(Keys& to, int tile) {
    const DeviceTileRow row = TileRowOf(args, tile, k);
    const int64_t pitch = int64_t{args.heads} * kHeadDim;
    const int64_t begin = (row.token + FirstRow()) * pitch + int64_t{head} * kHeadDim + 8 * Chunk();
    if (kWarpgroups == 1 || threadIdx.x < 128)
      CopyKeyRows(At(to.k, FirstRow(), Chunk()), args.k_frames[row.frame], begin, pitch);
    if (kWarpgroups == 1 || threadIdx.x >= 128)
      CopyKeyRows(At(to.v, FirstRow(), Chunk()), args.v_frames[row.frame], begin, pitch);
  }
  __device__ __forceinline__ void CopyKeyRows(Bits16* to, const Bits16* frame, int64_t begin,
                                              int64_t pitch) {
#pragma unroll
    for (int n = 0; n < kKeyRows; n += kRowsAtOnce) {
      const bool valid = n + FirstRow() < args.b2;
      ptx::CopyAsync16(to + n * 64, valid ? frame + begin + n * pitch : frame, valid);
    }
  }

  // `tokens` of the rows m of the group.
  __device__ __forceinline__ void LoadQueries(Rows& to, const int* tokens) {
    Bits16* target = At(to.q, FirstRow(), Chunk());
#pragma unroll
    for (int n = 0; n < kTileRows; n += kRowsAtOnce) {
      const int m = m_begin + n + FirstRow();
      const bool valid = m < rows_end;
      const int token = valid ? tokens[m] : 0;
      ptx::CopyAsync16(target + n * 64,
                       args.q + TokenOffset(args, kHeadDim, token, head) + 8 * Chunk(), valid);
    }
  }

  // Rows that do not see the tile are zero, and so is all that follows from them.
  __device__ __forceinline__ void LoadGradients(Rows& to, int tile) {
    const int key = tile * args.b1 + k, first_row = FirstSeeing(tile);
    const int row_begin = m_begin + FirstRow();
    const Bits16* from =
        PassChunk(PassHalf<kHeadDim>(args, ColumnOf(row_begin), key, 0), key, Chunk());
    const int64_t pitch = int64_t{args.plan.items} * 2 * kPassKeys * kHeadDim;
    Bits16* d_kbar = At(to.d_kbar, FirstRow(), Chunk());
    Bits16* d_vbar = At(to.d_vbar, FirstRow(), Chunk());
#pragma unroll
    for (int n = 0; n < kTileRows; n += kRowsAtOnce) {
      const bool valid = row_begin + n >= first_row && row_begin + n < rows_end;
      const Bits16* source = valid ? from + n * pitch : args.means;
      ptx::CopyAsync16(d_kbar + n * 64, source, valid);
      ptx::CopyAsync16(d_vbar + n * 64, source + kPassKeys * kHeadDim, valid);
    }
  }

  // r and d_z of the rows in shared memory, once their copies have come: queries and keys are one
  // group of them, gradients the next.
  __device__ __forceinline__ void Differentiate(Rows& rows, Keys& keys, int tile,
                                                float (&r)[kScoreTiles][4],
                                                float (&d_z)[kScoreTiles][4]) {
    WaitForCopies<1>();
    ptx::WgmmaFence();
    Score(rows.q, keys.k, false, r);
    ptx::WgmmaCommit();
    WaitForCopies<0>();
    ptx::WgmmaFence();
    Score(rows.d_kbar, keys.k, false, d_z);
    Score(rows.d_vbar, keys.v, true, d_z);
    ptx::WgmmaCommit();
    float d_c[2];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int m = m_begin + 16 * warp + lane / 4 + 8 * half;
      const bool sees = m >= FirstSeeing(tile) && m < rows_end;
      d_c[half] = sees ? PassEntropies(args, ColumnOf(m))[tile * args.b1 + k] : 0.0f;
    }
    ptx::WgmmaWait<1>();
    ptx::WgmmaResult(r);
#pragma unroll
    for (int half = 0; half < 2; ++half) LogSoftmax(half, r);
    ptx::WgmmaWait<0>();
    ptx::WgmmaResult(d_z);
#pragma unroll
    for (int half = 0; half < 2; ++half) BackSoftmax(half, d_c[half], r, d_z);
  }

  template <int kPending>
  __device__ static void WaitForCopies() {
    ptx::CopyAsyncWait<kPending>();
    ptx::FenceSharedForWgmma();
    __syncthreads();
  }

  // z [m, l] (+)= rows [m, d] . keys [l, d]
  __device__ __forceinline__ static void Score(const Bits16 (&rows)[kPanels][kTileRows][64],
                                               const Bits16 (&keys)[kPanels][kKeyRows][64],
                                               bool adds, float (&z)[kScoreTiles][4]) {
#pragma unroll
    for (int d = 0; d < kHeadDim; d += 16)
      ptx::Wgmma(z, ptx::SwizzledTile(&rows[d / 64][0][d % 64]),
                 ptx::SwizzledTile(&keys[d / 64][0][d % 64]), adds || d > 0);
  }

  // Of one row: scores -> log2 r.
  __device__ __forceinline__ void LogSoftmax(int half, float (&r)[kScoreTiles][4]) {
    float z_max = kMaskedLogit;
#pragma unroll
    for (int n = 0; n < kScoreTiles; ++n)
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        float& x = r[n][2 * half + e];
        if (8 * n + 8 > args.b2 && 8 * n + 2 * (lane % 4) + e >= args.b2) x = kMaskedLogit;
        z_max = fmaxf(z_max, x);
      }
    const float max_log2 = QuadMax(z_max) * args.scale_log2;
    float sum = 0;
#pragma unroll
    for (int n = 0; n < kScoreTiles; ++n)
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        float& x = r[n][2 * half + e];
        x = fmaf(x, args.scale_log2, -max_log2);
        sum += ptx::Exp2(x);
      }
    const float log_sum = log2f(QuadSum(sum));
#pragma unroll
    for (int n = 0; n < kScoreTiles; ++n)
#pragma unroll
      for (int e = 0; e < 2; ++e) r[n][2 * half + e] -= log_sum;
  }

  // log2 r -> r, and d_r without c's part -> d_z.
  __device__ __forceinline__ void BackSoftmax(int half, float d_c, float (&r)[kScoreTiles][4],
                                              float (&d_z)[kScoreTiles][4]) {
    constexpr float kLn2 = 0.6931471805599453f;
    const float by_log2 = d_c * kLn2;
    float mean = 0;
#pragma unroll
    for (int n = 0; n < kScoreTiles; ++n)
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        float &x = r[n][2 * half + e], &d = d_z[n][2 * half + e];
        d = fmaf(by_log2, x, d);
        x = ptx::Exp2(x);
        mean = fmaf(x, d, mean);
      }
    mean = QuadSum(mean);
#pragma unroll
    for (int n = 0; n < kScoreTiles; ++n)
#pragma unroll
      for (int e = 0; e < 2; ++e)
        d_z[n][2 * half + e] = r[n][2 * half + e] * (d_z[n][2 * half + e] - mean);
  }
};

// One block per head, key tile and key row. A warpgroup differentiates 64 rows m and leaves r and
// s d_z in shared memory; then warpgroup w makes rows l 64w to 64w + 63 of both gradients.
template <int kHeadDim, int kScoreTiles>
struct BackKeys : BackRows<kHeadDim, kScoreTiles> {
  using Base = BackRows<kHeadDim, kScoreTiles>;
  using Base::args;
  using Base::kKeyRows;
  using Base::kPanels;
  using Base::kTileRows;
  using Base::lane;
  static constexpr int kKeyPanels = (kScoreTiles + 7) / 8;  // of 64 columns l
  static constexpr int kWarpgroups = kKeyPanels, kThreads = 128 * kWarpgroups;

  static constexpr int kColumnsMax = 640;  // of a group

  struct Smem {
    typename Base::Keys keys;
    typename Base::Rows rows[kWarpgroups];
    alignas(1024) Bits16 r[kWarpgroups][kKeyPanels][kTileRows][64];
    alignas(1024) Bits16 d_z[kWarpgroups][kKeyPanels][kTileRows][64];
    int tokens[kColumnsMax];
  };

  Smem& smem;
  int warpgroup = threadIdx.x / 128;
  float d_v[kPanels][8][4], d_k[kPanels][8][4];

  __device__ BackKeys(const MonarchBackKernelArgs& a, Smem& shared) : Base(a), smem(shared) {}

  __device__ void Run() {
    const int of_head = args.plan.key_tiles * args.b1;
    const int nth = blockIdx.x / of_head, index = blockIdx.x - nth * of_head;
    // In the opposite direction of the pass before.
    const int head_of_pass = this->back.one_pass ? nth : gridDim.x / of_head - 1 - nth;
    const int tile = args.by_b1.Quotient(index);
    this->k = index - tile * args.b1;
    // All groups of the head, or the one of this launch.
    const int pairs = min(args.plan.groups, args.plan.pass_pairs);
    const int first = head_of_pass * pairs;
    this->SetPair(first);
    this->template LoadKeys<kWarpgroups>(smem.keys, tile);
    Clear();
    for (int pair = first; pair < first + pairs; ++pair) {
      this->SetPair(pair);
      for (int m = threadIdx.x; m < this->rows_end; m += kThreads)
        smem.tokens[m] = this->TokenOf(m);
      __syncthreads();
      for (int m = 0; m < this->rows_end; m += kWarpgroups * kTileRows) {
        this->m_begin = m + warpgroup * kTileRows;
        this->LoadQueries(smem.rows[warpgroup], smem.tokens);
        ptx::CopyAsyncCommit();
        this->LoadGradients(smem.rows[warpgroup], tile);
        ptx::CopyAsyncCommit();
        uint32_t operand[kKeyRows / 16][4];
        StoreWeights(tile, operand);
        __syncthreads();
        Multiply(tile, operand);
        __syncthreads();
      }
    }
    const bool adds = this->group_begin >= pairs * args.plan.group_tiles;
    Write(tile, adds);
  }

  __device__ void Clear() {
#pragma unroll
    for (int panel = 0; panel < kPanels; ++panel)
#pragma unroll
      for (int n = 0; n < 8; ++n)
#pragma unroll
        for (int e = 0; e < 4; ++e) d_v[panel][n][e] = d_k[panel][n][e] = 0;
    // Columns past those that are scored stay zero.
    uint4* zeros = reinterpret_cast<uint4*>(smem.r);
    constexpr int kVectors = int{sizeof(smem.r) + sizeof(smem.d_z)} / 16;
    for (int n = threadIdx.x; n < kVectors; n += kThreads) zeros[n] = {};
    __syncthreads();
  }

  // r and s d_z into shared memory; `operand` is s d_z.
  __device__ __forceinline__ void StoreWeights(int tile, uint32_t (&operand)[kKeyRows / 16][4]) {
    float r[kScoreTiles][4], d_z[kScoreTiles][4];
    this->Differentiate(smem.rows[warpgroup], smem.keys, tile, r, d_z);
#pragma unroll
    for (int n = 0; n < kKeyRows / 8; ++n)
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        uint32_t& pair = operand[n / 2][n % 2 * 2 + half];
        pair = 0;
        if (n >= kScoreTiles) continue;
        const int row = 16 * this->warp + lane / 4 + 8 * half;
        const int at = (n % 8 ^ row % 8) * 8 + lane % 4 * 2;
        pair =
            PackBf16(d_z[n][2 * half] * this->back.scale, d_z[n][2 * half + 1] * this->back.scale);
        *reinterpret_cast<uint32_t*>(&smem.d_z[warpgroup][n / 8][row][at]) = pair;
        *reinterpret_cast<uint32_t*>(&smem.r[warpgroup][n / 8][row][at]) =
            PackBf16(r[n][2 * half], r[n][2 * half + 1]);
      }
    ptx::FenceSharedForWgmma();
  }

  // s d_z . K, what this key row adds to d_q, goes to the places of d_kbar while the gradients of
  // keys and values are summed up.
  __device__ __forceinline__ void Multiply(int tile, const uint32_t (&operand)[kKeyRows / 16][4]) {
    float y[kPanels][8][4];
    ptx::WgmmaFence();
#pragma unroll
    for (int step = 0; step < kKeyRows / 16; ++step)
#pragma unroll
      for (int panel = 0; panel < kPanels; ++panel)
        ptx::WgmmaRowsOfB(y[panel], operand[step],
                          ptx::SwizzledTile(&smem.keys.k[panel][16 * step][0]), step > 0);
    ptx::WgmmaCommit();
#pragma unroll
    for (int from = 0; from < kWarpgroups; ++from) {
      const auto& rows = smem.rows[from];
      Add(smem.r[from][warpgroup], rows.d_vbar, d_v);
      Add(smem.r[from][warpgroup], rows.d_kbar, d_k);
      Add(smem.d_z[from][warpgroup], rows.q, d_k);
    }
    ptx::WgmmaCommit();
    ptx::WgmmaWait<1>();
#pragma unroll
    for (int panel = 0; panel < kPanels; ++panel) ptx::WgmmaResult(y[panel]);
    const int key = tile * args.b1 + this->k;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int m = this->m_begin + 16 * this->warp + lane / 4 + 8 * half;
      StoreNatural<kHeadDim>(y, half, 1, m < this->rows_end,
                             PassHalf<kHeadDim>(args, this->ColumnOf(m), key, 0), key);
    }
    ptx::WgmmaWait<0>();
#pragma unroll
    for (int p = 0; p < kPanels; ++p) {
      ptx::WgmmaResult(d_v[p]);
      ptx::WgmmaResult(d_k[p]);
    }
  }

  // y [l, d] += weights [m, l]^T . rows [m, d]
  __device__ __forceinline__ void Add(const Bits16 (&weights)[kTileRows][64],
                                      const Bits16 (&rows)[kPanels][kTileRows][64],
                                      float (&y)[kPanels][8][4]) {
#pragma unroll
    for (int step = 0; step < kTileRows / 16; ++step)
#pragma unroll
      for (int panel = 0; panel < kPanels; ++panel)
        ptx::WgmmaRowsOfBoth(y[panel], ptx::SwizzledTile(&weights[16 * step][0]),
                             ptx::SwizzledTile(&rows[panel][16 * step][0]), true);
  }

  __device__ void Write(int tile, bool adds) {
    const DeviceTileRow row = TileRowOf(args, tile, this->k);
    const int64_t pitch = int64_t{args.heads} * kHeadDim;
    const int64_t begin = row.token * pitch + int64_t{this->head} * kHeadDim;
    const int l_begin = 64 * warpgroup;
    WriteRows(this->back.d_v_frames[row.frame] + begin, l_begin, pitch, d_v, adds);
    WriteRows(this->back.d_k_frames[row.frame] + begin, l_begin, pitch, d_k, adds);
  }

  __device__ __forceinline__ void WriteRows(float* to, int l_begin, int64_t pitch,
                                            const float (&y)[kPanels][8][4], bool adds) const {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int l = l_begin + 16 * this->warp + lane / 4 + 8 * half;
      if (l >= args.b2) continue;
#pragma unroll
      for (int panel = 0; panel < kPanels; ++panel)
#pragma unroll
        for (int n = 0; n < 8; ++n) {
          float2* at =
              reinterpret_cast<float2*>(to + l * pitch + 64 * panel + 8 * n + lane % 4 * 2);
          float2 sum = adds ? *at : make_float2(0, 0);
          sum.x += y[panel][n][2 * half], sum.y += y[panel][n][2 * half + 1];
          *at = sum;
        }
    }
  }
};

// A thread per 8 channels of a row m at key row k.
template <int kHeadDim>
__global__ void __launch_bounds__(256)
    BackQueriesKernel(const __grid_constant__ MonarchBackKernelArgs back, int columns) {
  constexpr int kChunks = kHeadDim / 8;
  const MonarchKernelArgs& args = back.forward;
  const int row = (blockIdx.x * 256 + threadIdx.x) / kChunks, chunk = threadIdx.x % kChunks;
  const int column = row / args.b1, k = row - column * args.b1;
  if (column >= columns) return;
  const PassPlace place = FindPassColumn(args, column);
  if (place.query_tile >= args.plan.query_tiles) return;
  const int tiles = VisibleTiles(args, place.query_tile);
  float sum[8] = {};
  for (int tile = 0; tile < tiles; ++tile) {
    const int key = tile * args.b1 + k;
    const uint4 x = *reinterpret_cast<const uint4*>(
        PassChunk(PassHalf<kHeadDim>(args, column, key, 0), key, chunk));
    const uint32_t pairs[4] = {x.x, x.y, x.z, x.w};
#pragma unroll
    for (int n = 0; n < 4; ++n) {
      sum[2 * n] += __uint_as_float(pairs[n] << 16);
      sum[2 * n + 1] += __uint_as_float(pairs[n] & 0xFFFF0000u);
    }
  }
  const int token = QueryToken(args, place.query_tile, k, place.j);
  float4* to = reinterpret_cast<float4*>(back.d_q + TokenOffset(args, kHeadDim, token, place.head) +
                                         8 * chunk);
#pragma unroll
  for (int n = 0; n < 2; ++n) {
    float4 y = to[n];
    y.x += sum[4 * n], y.y += sum[4 * n + 1], y.z += sum[4 * n + 2], y.w += sum[4 * n + 3];
    to[n] = y;
  }
}

template <int kHeadDim, int kScoreTiles>
__global__ void __launch_bounds__(BackKeys<kHeadDim, kScoreTiles>::kThreads,
                                  2 / BackKeys<kHeadDim, kScoreTiles>::kWarpgroups)
    BackKeysKernel(const __grid_constant__ MonarchBackKernelArgs args) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  using Keys = BackKeys<kHeadDim, kScoreTiles>;
  extern __shared__ __align__(1024) char smem[];
  Keys(args, *reinterpret_cast<typename Keys::Smem*>(smem)).Run();
#else
  __trap();  // other GPUs are refused
#endif
}

template <int kHeadDim, int kScoreTiles>
cudaError_t LaunchBackAlong(const MonarchBackKernelArgs& args, int pairs, cudaStream_t stream) {
  using Keys = BackKeys<kHeadDim, kScoreTiles>;
  const MonarchKernelArgs& forward = args.forward;
  const int heads = std::max(1, pairs / forward.plan.groups);
  const cudaError_t error =
      LaunchPass(BackKeysKernel<kHeadDim, kScoreTiles>, heads * forward.plan.key_tiles * forward.b1,
                 Keys::kThreads, int{sizeof(typename Keys::Smem)}, args, stream);
  if (error != cudaSuccess) return error;
  constexpr int kRowsPerBlock = 256 / (kHeadDim / 8);
  const int columns = pairs * forward.plan.group_tiles * forward.b2;
  const int blocks = (columns * forward.b1 + kRowsPerBlock - 1) / kRowsPerBlock;
  BackQueriesKernel<kHeadDim><<<blocks, 256, 0, stream>>>(args, columns);
  return cudaGetLastError();
}

}  // namespace mrt
