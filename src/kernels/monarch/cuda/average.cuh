// The average task: attention along one key row k, for all columns of a group of query tiles.
//
//   z[m,l] = q[m] . K[l]   r = softmax_l   kbar[m] = sum_l r K[l]   vbar[m] = sum_l r V[l]
//   c[m] = sum_l r log2 r
//
// m = (query tile, column j) of the group, at row k of the tile. A block has kRowTiles tiles of 64
// rows m; warp w owns rows 16w to 16w + 15 of each. The products are wgmma on sm_90a, else
// mma.sync.
#pragma once

#include "kernels/common/cuda/wgmma.cuh"
#include "kernels/monarch/cuda/pass_layout.cuh"
#include "kernels/monarch/cuda/queue.cuh"
#include "kernels/monarch/cuda/tile.cuh"

namespace mrt {

// kQueryRows: of which shared memory holds queries, if a group has no more. The last tile then
// reads what lies behind them, for rows that nobody stores.
template <int kHeadDim, int kScoreTiles, int kRowTiles,
          int kStages = MonarchCudaKernel{kHeadDim, kScoreTiles, kRowTiles, 1}.Stages(),
          int kQueryRows = 64 * kRowTiles, AverageKind kKind = AverageKind::kRing,
          StorageType kType = StorageType::kBF16>
struct AverageTask {
  static constexpr MonarchCudaKernel kKernel = {kHeadDim, kScoreTiles, kRowTiles, 1};
  static constexpr int kKeyRows = kKernel.KeyRows();
  static constexpr int kTileRows = 64;
  static constexpr int kBlockRows = kKernel.BlockRows();
  static_assert(kBlockRows == kRowTiles * kTileRows);
  static_assert(kQueryRows % 16 == 0 && kQueryRows > kBlockRows - kTileRows &&
                kQueryRows <= kBlockRows);
  static constexpr bool kValues = kKind != AverageKind::kPassKbar;
  static constexpr bool kRefined = kKind == AverageKind::kPassRefined;
  // An f16 holds r times 2^15, and of it more of what is small. c does not change.
  static constexpr float kRowShift = kType == StorageType::kF16 ? 15 : 0;
  // Else 168 registers would not be enough.
  static constexpr int kTilesUnrolled =
      kQueryRows < kBlockRows || kRefined || !kValues ? 1 : kRowTiles;
  static constexpr int kChunks = kHeadDim / 8;     // of 16 bytes in a row
  static constexpr int kPanels = kHeadDim / 64;    // of 128 bytes in a row
  static constexpr int kKeySteps = kKeyRows / 16;  // k-steps of the second product

  // [rows, head_dim] in panels of 64 channels, each in the 128-byte swizzle: see ptx::SwizzledTile.
  // Eight rows of a matrix then lie in different banks, and wgmma can read it.
  template <int kRows>
  struct Panels {
    alignas(1024) Bits16 x[kPanels][kRows][64];
    __device__ Bits16* At(int row, int channel) {
      return &x[channel / 64][row][((channel / 8 % 8) ^ (row % 8)) * 8];
    }
  };
  struct Smem {
    alignas(1024) Bits16 q[kQueryRows * kHeadDim];  // tiles as Panels
    Panels<kKeyRows> k[kStages];
    Panels<kKeyRows> v[kStages];
  };
  static_assert(sizeof(Smem) == (kQueryRows + kStages * 2 * kKeyRows) * 2 * kHeadDim);

  const MonarchKernelArgs& args;
  Smem& smem;
  const MonarchTask& task;
  int lane = threadIdx.x % 32;
  int warp = threadIdx.x / 32;
  int k = 0;            // key row
  int block_begin = 0;  // first row of this block within the group
  int rows_end = 0;     // columns of the group
  int tiles_begin = 0;  // key tiles of this task
  int tiles = 0;

  __device__ AverageTask(const MonarchKernelArgs& a, Smem& shared, const MonarchTask& t)
      : args(a), smem(shared), task(t) {
    const MonarchCudaPlan& plan = args.plan;
    const int row = task.index / plan.row_blocks, row_block = task.index - row * plan.row_blocks;
    const int part = args.by_b1.Quotient(row);
    k = row - part * args.b1;
    tiles_begin = task.tiles_begin + part * plan.task_tiles;
    rows_end = task.group_tiles * args.b2;
    block_begin = row_block * kBlockRows;
    // The last query tile of the block sees most.
    const int last_row = min(block_begin + kBlockRows, rows_end) - 1;
    const int visible = VisibleTiles(args, task.group_begin + args.by_b2.Quotient(last_row));
    const int tiles_end = min(min(tiles_begin + plan.task_tiles, task.tiles_end), visible);
    tiles = block_begin < rows_end ? max(tiles_end - tiles_begin, 0) : 0;
  }

  // Rows of query tile t in shared memory, and where one of its elements lies.
  __device__ static constexpr int QueryRows(int t) {
    return kQueryRows - t * kTileRows < kTileRows ? kQueryRows - t * kTileRows : kTileRows;
  }
  __device__ Bits16* QueryPanel(int t, int panel) const {
    return &smem.q[t * kTileRows * kHeadDim + panel * QueryRows(t) * 64];
  }
  __device__ Bits16* QueryAt(int t, int row, int channel) const {
    return QueryPanel(t, channel / 64) + row * 64 + ((channel / 8 % 8) ^ (row % 8)) * 8;
  }

  // Row of the group that this lane holds in registers 0 and 1 of tile t; 2 and 3: 8 rows on.
  __device__ int RowOf(int t) const { return block_begin + kTileRows * t + 16 * warp + lane / 4; }

  __device__ void Run() {
    if (tiles == 0) return;
    if (!kRefined) LoadQueries();
    if (kStages == 2) LoadKeys(0);
    for (int n = 0; n < (kRefined ? 1 : tiles); ++n) {  // refined: a task has one tile
      if (kRefined) LoadRefinedQueries(tiles_begin);
      LoadKeys(kStages == 2 ? n + 1 : n);
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
      RunTileWgmma(n, [](int) {});
#else
      RunTileMma(n);
#endif
      __syncthreads();
    }
  }

  // The keys, or the values, of the tile at hand are in shared memory.
  __device__ void WaitForKeys() { WaitForCopies<2 * kStages - 1>(); }
  __device__ void WaitForValues() { WaitForCopies<2 * kStages - 2>(); }
  template <int kPending>
  __device__ void WaitForCopies() {
    ptx::CopyAsyncWait<kPending>();
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
    ptx::FenceSharedForWgmma();
#endif
    __syncthreads();
  }

  // Each warp its own rows; the group of copies is that of the first keys.
  __device__ void LoadQueries() {
    constexpr int kRowsAtOnce = 32 / kChunks;
#pragma unroll
    for (int t = 0; t < kRowTiles; ++t) {
      if (16 * warp >= QueryRows(t)) continue;
      int token = -1;  // of row `lane` of these 16
      const int m = block_begin + kTileRows * t + 16 * warp + lane;
      if (lane < 16 && m < rows_end) {
        const int a = args.by_b2.Quotient(m);
        token = QueryToken(args, task.group_begin + a, k, m - a * args.b2);
      }
#pragma unroll
      for (int n = 0; n < 16; n += kRowsAtOnce) {
        const int row = n + lane / kChunks, chunk = lane % kChunks;
        const int from = __shfl_sync(~0u, token, row);
        ptx::CopyAsync16(QueryAt(t, 16 * warp + row, 8 * chunk),
                         args.q + TokenOffset(args, kHeadDim, max(from, 0), task.head) + 8 * chunk,
                         from >= 0);
      }
    }
  }

  // The same of what PassRefine left for row k of this key tile.
  __device__ void LoadRefinedQueries(int tile) {
    constexpr int kRowsAtOnce = 32 / kChunks;
    const int key = tile * args.b1 + k, chunk = lane % kChunks;
    const int first_row = 16 * warp + lane / kChunks, m_begin = block_begin + first_row;
    const Bits16* from =
        PassChunk(PassHalf<kHeadDim>(args, PassColumn(m_begin), key, 0), key, chunk);
    const int64_t pitch = int64_t{args.plan.items} * 2 * kPassKeys * kHeadDim;
#pragma unroll
    for (int t = 0; t < kRowTiles; ++t) {
      if (16 * warp >= QueryRows(t)) continue;
#pragma unroll
      for (int n = 0; n < 16; n += kRowsAtOnce) {
        const int row = kTileRows * t + n;
        const bool valid = m_begin + row < rows_end;
        ptx::CopyAsync16(QueryAt(t, first_row + n, 8 * chunk),
                         valid ? from + row * pitch : args.means, valid);
      }
    }
  }

  // Key row k of tile n of this task: one group of copies for keys, one for values. Rows past b2
  // are zero, because 0 times anything but a number is not 0.
  __device__ void LoadKeys(int n) {
    const int stage = n % kStages;
    LoadTensor(smem.k[stage], args.k_frames, n);
    LoadTensor(smem.v[stage], args.v_frames, kValues ? n : tiles);
  }
  __device__ void LoadTensor(Panels<kKeyRows>& to, const Bits16* const* frames, int n) {
    if (n < tiles) {
      const DeviceTileRow row = TileRowOf(args, tiles_begin + n, k);
      const int64_t token_pitch = int64_t{args.heads} * kHeadDim;
      const int64_t begin = row.token * token_pitch + int64_t{task.head} * kHeadDim;
      CopyRows(to, frames[row.frame] + begin, token_pitch);
    }
    ptx::CopyAsyncCommit();
  }

  __device__ void CopyRows(Panels<kKeyRows>& to, const Bits16* from, int64_t token_pitch) {
    // Each thread its chunk of every eighth (or sixteenth) row: the swizzle is the same in all.
    constexpr int kRowsAtOnce = kMonarchCudaThreads / kChunks;
    static_assert(kRowsAtOnce % 8 == 0 && kKeyRows % kRowsAtOnce == 0);
    const int row = threadIdx.x / kChunks, chunk = threadIdx.x % kChunks;
    const Bits16* source = from + row * token_pitch + 8 * chunk;
    Bits16* target = to.At(row, 8 * chunk);
    // Read once: let them not push the means out of L2.
    const uint64_t policy = args.plan.groups == 1 && args.plan.row_blocks == 1
                                ? ptx::PolicyEvictFirst()
                                : ptx::PolicyEvictNormal();
#pragma unroll
    for (int n = 0; n < kKeyRows; n += kRowsAtOnce) {
      const bool valid = n + row < args.b2;
      ptx::CopyAsync16(target + n * 64, valid ? source : from, valid, policy);
      source += kRowsAtOnce * token_pitch;
    }
  }

#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  // The scores of the next tile of 64 rows are computed while the means of one are stored. Tiles
  // past the last row of a short group are computed for nothing: a branch would stop the overlap.
  // `at_end(0)` is called a few thousand cycles before the end, `at_end(1)` a few hundred, each
  // while a product is under way.
  template <typename AtEnd>
  __device__ void RunTileWgmma(int n, AtEnd&& at_end) {
    const int stage = n % kStages, tile = tiles_begin + n;
    float z[kScoreTiles][4];
    WaitForKeys();
    ScoreWgmma(0, stage, z);
#pragma unroll kTilesUnrolled
    for (int t = 0; t < kRowTiles; ++t) {
      uint32_t r[kKeySteps][4];
      float inverse_sum[2], y[kPanels][8][4];
      if (t + 1 == kRowTiles) at_end(0);
      ptx::WgmmaWait<0>();
      Softmax(tile, t, z, r, inverse_sum);
      AverageWgmma(smem.k[stage], r, y);
      if (t + 1 < kRowTiles) {
        ScoreWgmma(t + 1, stage, z);
        ptx::WgmmaWait<1>();
      } else {
        ptx::WgmmaWait<0>();
      }
      if (kValues && t == 0) WaitForValues();
      StoreMeans(t, y, inverse_sum, tile, 0);
      if (!kValues) continue;
      AverageWgmma(smem.v[stage], r, y);
      if (t + 1 == kRowTiles) at_end(1);
      ptx::WgmmaWait<0>();
      StoreMeans(t, y, inverse_sum, tile, 1);
    }
  }

  // z [m, l] = q [m, d] . K [l, d]
  __device__ void ScoreWgmma(int t, int stage, float (&z)[kScoreTiles][4]) {
    ptx::WgmmaFence();
#pragma unroll
    for (int d = 0; d < kHeadDim; d += 16)
      ptx::Wgmma<kType>(z, ptx::SwizzledTile(QueryPanel(t, d / 64) + d % 64),
                        ptx::SwizzledTile(&smem.k[stage].x[d / 64][0][d % 64]), d > 0);
    ptx::WgmmaCommit();
  }

  // y [m, d] = r [m, l] . x [l, d]
  __device__ void AverageWgmma(const Panels<kKeyRows>& x, const uint32_t (&r)[kKeySteps][4],
                               float (&y)[kPanels][8][4]) {
    ptx::WgmmaFence();
#pragma unroll
    for (int step = 0; step < kKeySteps; ++step)
#pragma unroll
      for (int panel = 0; panel < kPanels; ++panel)
        ptx::WgmmaRowsOfB<kType>(y[panel], r[step], ptx::SwizzledTile(&x.x[panel][16 * step][0]),
                                 step > 0);
    ptx::WgmmaCommit();
  }
#else
  __device__ void RunTileMma(int n) {
    const int stage = n % kStages, tile = tiles_begin + n;
    uint32_t r[kRowTiles][kKeySteps][4];
    float inverse_sum[kRowTiles][2];
    WaitForKeys();
    {
      float z[kRowTiles][kScoreTiles][4] = {};
      ScoreMma(stage, z);
#pragma unroll
      for (int t = 0; t < kRowTiles; ++t) Softmax(tile, t, z[t], r[t], inverse_sum[t]);
    }
    AverageMma(smem.k[stage], r, inverse_sum, tile, 0);
    WaitForValues();
    AverageMma(smem.v[stage], r, inverse_sum, tile, 1);
  }

  // z [m, l] = q [m, d] . K [l, d]
  __device__ void ScoreMma(int stage, float (&z)[kRowTiles][kScoreTiles][4]) {
#pragma unroll
    for (int d = 0; d < kHeadDim; d += 16) {
      uint32_t a[kRowTiles][4];
#pragma unroll
      for (int t = 0; t < kRowTiles; ++t)
        ptx::LoadMatrix(a[t], QueryAt(t, 16 * warp + lane % 16, d + lane / 16 * 8));
#pragma unroll
      for (int n = 0; n < kScoreTiles; n += 2) {
        uint32_t b[4];
        ptx::LoadMatrix(b,
                        smem.k[stage].At(8 * n + lane % 8 + lane / 16 * 8, d + lane / 8 % 2 * 8));
#pragma unroll
        for (int t = 0; t < kRowTiles; ++t) {
          ptx::Mma<kType>(z[t][n], a[t], b[0], b[1]);
          if (n + 1 < kScoreTiles) ptx::Mma<kType>(z[t][n + 1], a[t], b[2], b[3]);
        }
      }
    }
  }

  // means [m, d] = r [m, l] . x [l, d] / sum, 64 channels at a time.
  __device__ void AverageMma(Panels<kKeyRows>& x, const uint32_t (&r)[kRowTiles][kKeySteps][4],
                             const float (&inverse_sum)[kRowTiles][2], int tile, int which) {
#pragma unroll 1  // both at a time would spill
    for (int panel = 0; panel < kPanels; ++panel) {
      float y[kRowTiles][1][8][4] = {};
#pragma unroll
      for (int step = 0; step < kKeySteps; ++step)
#pragma unroll
        for (int n = 0; n < 8; n += 2) {
          uint32_t b[4];
          ptx::LoadMatrixTransposed(
              b, x.At(16 * step + lane % 16, 64 * panel + 8 * n + lane / 16 * 8));
#pragma unroll
          for (int t = 0; t < kRowTiles; ++t) {
            ptx::Mma<kType>(y[t][0][n], r[t][step], b[0], b[1]);
            ptx::Mma<kType>(y[t][0][n + 1], r[t][step], b[2], b[3]);
          }
        }
#pragma unroll
      for (int t = 0; t < kRowTiles; ++t) StoreMeans(t, y[t], inverse_sum[t], tile, which, panel);
    }
  }
#endif

  // z of tile t -> r as operand of the next product, not yet divided by its sum; 1 / sum; and c to
  // global memory.
  __device__ void Softmax(int tile, int t, float (&z)[kScoreTiles][4], uint32_t (&r)[kKeySteps][4],
                          float (&inverse_sum)[2]) {
#pragma unroll
    for (int row = 0; row < 2; ++row) {
      float z_max = kMaskedLogit;
#pragma unroll
      for (int n = 0; n < kScoreTiles; ++n) {
        if (8 * n + 8 > args.b2)
          MaskKeys(args.b2 - 8 * n - 2 * (lane % 4), z[n][2 * row], z[n][2 * row + 1]);
        z_max = fmaxf(z_max, fmaxf(z[n][2 * row], z[n][2 * row + 1]));
      }
      const float max_log2 = QuadMax(z_max) * args.scale_log2 - kRowShift;
      float sum = 0, weighted = 0;
#pragma unroll
      for (int n = 0; n < kScoreTiles; ++n)
#pragma unroll
        for (int e = 0; e < 2; ++e) {
          float& x = z[n][2 * row + e];
          const float log2_p = fmaf(x, args.scale_log2, -max_log2);
          x = ptx::Exp2(log2_p);
          sum += x;
          weighted = fmaf(x, log2_p, weighted);
        }
      sum = QuadSum(sum);
      weighted = QuadSum(weighted);
      inverse_sum[row] = 1 / sum;
      const int m = RowOf(t) + 8 * row;
      if (lane % 4 == 0 && m < rows_end)
        *EntropyOf(tile, m) = weighted * inverse_sum[row] - log2f(sum);
    }
#pragma unroll
    for (int n = 0; n < 2 * kKeySteps; ++n)
#pragma unroll
      for (int row = 0; row < 2; ++row)
        r[n / 2][n % 2 * 2 + row] =
            n < kScoreTiles ? Pack<kType>(z[n][2 * row], z[n][2 * row + 1]) : 0;
  }

  // Of two keys, those that exist.
  __device__ static void MaskKeys(int existing, float& first, float& second) {
    if (existing < 1) first = kMaskedLogit;
    if (existing < 2) second = kMaskedLogit;
  }

  // 16 bytes per lane: channels 8p + 2u + e of 32 at 8u + 2p + e, where u = lane % 4. `first` is
  // the first panel of those in y.
  template <int kStorePanels>
  __device__ void StoreMeans(int t, const float (&y)[kStorePanels][8][4],
                             const float (&inverse_sum)[2], int tile, int which, int first = 0) {
    if constexpr (kKind != AverageKind::kRing) {
      StorePassMeans(t, y, inverse_sum, tile, which);
      return;
    }
    const uint64_t policy =
        args.plan.means_last ? ptx::PolicyEvictLast() : ptx::PolicyEvictNormal();
    Bits16* means = MeansOf(tile, which) + 64 * first;
#pragma unroll
    for (int row = 0; row < 2; ++row) {
      const int m = RowOf(t) + 8 * row;
      if (m >= rows_end) continue;
      Bits16* to = means + m * MeansPitch() + lane % 4 * 8;
#pragma unroll
      for (int block = 0; block < 2 * kStorePanels; ++block) {
        uint32_t packed[4];
        PackBlock(y, block, row, inverse_sum[row], packed);
        ptx::Store16(to + 32 * block, packed, policy);
      }
    }
  }

  // 32 channels of a row: what this lane holds of them.
  template <int kStorePanels>
  __device__ static void PackBlock(const float (&y)[kStorePanels][8][4], int block, int row,
                                   float scale, uint32_t (&packed)[4]) {
#pragma unroll
    for (int p = 0; p < 4; ++p) {
      const float(&pair)[4] = y[block / 2][block % 2 * 4 + p];
      packed[p] = Pack<kType>(pair[2 * row] * scale, pair[2 * row + 1] * scale);
    }
  }

  __device__ void StorePassMeans(int t, const float (&y)[kPanels][8][4],
                                 const float (&inverse_sum)[2], int tile, int which) {
    const int key = tile * args.b1 + k;
#pragma unroll
    for (int row = 0; row < 2; ++row) {
      const int m = RowOf(t) + 8 * row;
      if (m >= rows_end) continue;
      Bits16* half = PassHalf<kHeadDim>(args, PassColumn(m), key, which);
      const uint64_t policy =
          PassColumn(m) >= args.first_kept ? ptx::PolicyEvictLast() : ptx::PolicyEvictNormal();
#pragma unroll
      for (int block = 0; block < 2 * kPanels; ++block) {
        uint32_t packed[4];
        PackBlock(y, block, row, inverse_sum[row], packed);
        Bits16* to = PassChunk(half, key, 4 * block + lane % 4);
        // More columns leave no registers for a policy, and a branch would stop the overlap.
        if constexpr (kScoreTiles <= 7) {
          ptx::Store16(to, packed, policy);
        } else {
          *reinterpret_cast<uint4*>(to) = make_uint4(packed[0], packed[1], packed[2], packed[3]);
        }
      }
    }
  }

  // Of row m of the group, among those of the pass.
  __device__ int PassColumn(int m) const {
    return task.ring_slot * args.plan.group_tiles * args.b2 + m;
  }

  // Elements between the same key of two columns.
  __device__ int64_t MeansPitch() const {
    return int64_t{args.plan.slice_tiles} * args.b1 * 2 * kHeadDim;
  }
  __device__ int KeyOf(int tile) const { return (tile - task.tiles_begin) * args.b1 + k; }
  // kbar (0) or vbar (1) of row k of a key tile, column 0 of the group.
  __device__ Bits16* MeansOf(int tile, int which) const {
    const int64_t columns = int64_t{args.plan.group_tiles} * args.b2;
    return args.means + task.ring_slot * columns * MeansPitch() +
           (int64_t{KeyOf(tile)} * 2 + which) * kHeadDim;
  }
  __device__ float* EntropyOf(int tile, int m) const {
    if constexpr (kKind != AverageKind::kRing)
      return PassEntropies(args, PassColumn(m)) + tile * args.b1 + k;
    const int keys = args.plan.slice_tiles * args.b1;
    const int pitch = (keys + kAcrossKeys - 1) / kAcrossKeys * kAcrossKeys;
    const int columns = args.plan.group_tiles * args.b2;
    return args.entropies + (int64_t{task.ring_slot} * columns + m) * pitch + KeyOf(tile);
  }
};

}  // namespace mrt
