// The backward pass through the attention across rows, for one column over all its keys (of tiles
// of more than 64 rows; others: back_columns.cuh):
//
//   L[i,n] = softmax over n of s q[i] . kbar[n] - c[n]     delta[i] = d_out[i] . out[i]
//   d_x[i,n] = L * (d_out[i] . vbar[n] - delta[i])
//
// BackAcross goes over the keys once, for sums, deltas and what reaches the queries through the
// means: d_q[i] = s sum_n d_x kbar[n] = s (sum_n L e kbar[n] - delta[i] sum_n L kbar[n]), where
// e = d_out[i] . vbar[n]. BackMeans then makes of each item of means what they are the derivatives
// by:
//
//   d_vbar[n] = sum_i L d_out[i]   d_kbar[n] = s sum_i d_x q[i]   d_c[n] = -sum_i d_x
#pragma once

#include "kernels/monarch/cuda/back_args.cuh"
#include "kernels/monarch/cuda/pass_across.cuh"

namespace mrt {

template <int kHeadDim>
struct BackAcross : PassAcross<kHeadDim, 2, false, StorageType::kBF16> {
  using Base = PassAcross<kHeadDim, 2, false, StorageType::kBF16>;
  using Base::kBlocks;
  using Base::kPanels;
  using Base::kScoreTiles;
  using Base::kStages;
  static constexpr int kRows = Base::kThreads / 2;
  static constexpr int kChunks = kHeadDim / 8;  // of 16 bytes

  // Rows in the order of the means.
  using Rows = Bits16[kPanels][kRows][64];
  struct Smem {
    typename Base::Smem forward;
    alignas(1024) Rows q;
    alignas(1024) Rows d_out;
  };

  const MonarchBackKernelArgs& back;
  Smem& smem;
  // With w = 2^(x - max) and e = d_out . vbar - start, of which the base has the sums of w and of
  // w kbar: those of w e and of w e kbar.
  float weighted[2], with_kbar[kPanels][8][4];
  float start[2];  // about delta: what is near it cancels before it is rounded
  float delta[2];  // less `start`

  __device__ BackAcross(const MonarchBackKernelArgs& a, Smem& shared)
      : Base(a.forward, shared.forward, gridDim.x - 1 - blockIdx.x), back(a), smem(shared) {}

  __device__ void Run() {
    if (this->items == 0) return;
    this->Begin();
    CopyRows(this->args.q, smem.q);
    CopyRows(back.d_out, smem.d_out);
    ptx::FenceSharedForWgmma();
    __syncthreads();
    Base::Start();
#pragma unroll
    for (int row = 0; row < 2; ++row) weighted[row] = start[row] = 0;
#pragma unroll
    for (int n = 0; n < kPanels * 32; ++n) with_kbar[n / 32][n / 4 % 8][n % 4] = 0;
    for (int item = 0; item < this->items; ++item) {
      AddItem(item);
      this->Release(item);
    }
    FinishSums();
    WriteQueryGradients();
  }

  __device__ __forceinline__ void CopyRows(const Bits16* tensor, Rows& to) const {
    for (int n = threadIdx.x; n < kRows * kChunks; n += Base::kThreads) {
      const int row = n / kChunks, chunk = n % kChunks, i = this->row_begin + row;
      uint4 x = {};
      if (i < this->args.b1) {
        const int token = QueryToken(this->args, this->place.query_tile, i, this->place.j);
        x = __ldg(reinterpret_cast<const uint4*>(
                      tensor + TokenOffset(this->args, kHeadDim, token, this->place.head)) +
                  chunk);
      }
      StorePermuted(x, row, chunk, kRows, &to[0][0][0]);
    }
  }

  __device__ __forceinline__ void AddItem(int item) {
    const int slot = item % kStages, keys_left = this->keys - this->ItemAt(item) * kPassKeys;
    ptx::BarrierWait(&smem.forward.full[slot], item / kStages % 2);
    if (keys_left < kPassKeys) this->template Clear<0>(slot, keys_left);
    float x[kScoreTiles][4], e[kScoreTiles][4];
    ptx::WgmmaFence();
    ScoreRows(slot, 0, smem.q, x);
    ScoreRows(slot, 1, smem.d_out, e);
    ptx::WgmmaCommit();
    ptx::WgmmaWait<0>();
    ptx::WgmmaResult(x);
    ptx::WgmmaResult(e);
    this->Logits(slot, keys_left, x);
    const float before[2] = {this->max[0], this->max[1]};
    this->Softmax(x);
    if (item == 0) FindStart(x, e);
    if (__any_sync(~0u, before[0] != this->max[0] || before[1] != this->max[1])) Rescale(before);
#pragma unroll
    for (int n = 0; n < kScoreTiles; ++n)
#pragma unroll
      for (int c = 0; c < 4; ++c) {
        e[n][c] = x[n][c] * (e[n][c] - start[c / 2]);
        weighted[c / 2] += e[n][c];
      }
    Accumulate(slot, x, e);
  }

  // x [i, n] = rows [i, d] . half [n, d]
  __device__ __forceinline__ void ScoreRows(int slot, int half, const Rows& rows,
                                            float (&x)[kScoreTiles][4]) {
#pragma unroll
    for (int d = 0; d < kHeadDim; d += 16)
      ptx::Wgmma(x, ptx::SwizzledTile(&rows[d / 64][threadIdx.x / 128 * 64][d % 64]),
                 ptx::SwizzledTile(&smem.forward.slots[slot].means[half][d / 64][0][d % 64]),
                 d > 0);
  }

  __device__ __forceinline__ void FindStart(const float (&w)[kScoreTiles][4],
                                            const float (&e)[kScoreTiles][4]) {
    float dot[2] = {}, sum[2] = {};
#pragma unroll
    for (int n = 0; n < kScoreTiles; ++n)
#pragma unroll
      for (int c = 0; c < 4; ++c) {
        dot[c / 2] = fmaf(w[n][c], e[n][c], dot[c / 2]);
        sum[c / 2] += w[n][c];
      }
#pragma unroll
    for (int row = 0; row < 2; ++row) start[row] = QuadSum(dot[row]) / QuadSum(sum[row]);
  }

  __device__ __forceinline__ void Rescale(const float (&before)[2]) {
    float factor[2];
#pragma unroll
    for (int row = 0; row < 2; ++row) {
      factor[row] = ptx::Exp2(before[row] - this->max[row]);
      weighted[row] *= factor[row];
    }
#pragma unroll
    for (int n = 0; n < kPanels * 32; ++n) with_kbar[n / 32][n / 4 % 8][n % 4] *= factor[n % 4 / 2];
  }

  // Both sums with kbar.
  __device__ __forceinline__ void Accumulate(int slot, const float (&w)[kScoreTiles][4],
                                             const float (&e)[kScoreTiles][4]) {
    uint32_t w_operand[kPassKeys / 16][4], e_operand[kPassKeys / 16][4];
    Base::Operand(w, w_operand);
    Base::Operand(e, e_operand);
    ptx::WgmmaFence();
    this->AddProduct(slot, 0, w_operand, this->out);
    this->AddProduct(slot, 0, e_operand, with_kbar);
    ptx::WgmmaCommit();
    ptx::WgmmaWait<0>();
#pragma unroll
    for (int panel = 0; panel < kPanels; ++panel) {
      ptx::WgmmaResult(this->out[panel]);
      ptx::WgmmaResult(with_kbar[panel]);
    }
  }

  __device__ __forceinline__ void FinishSums() {
#pragma unroll
    for (int row = 0; row < 2; ++row) {
      this->sum[row] = QuadSum(this->sum[row]);
      delta[row] = QuadSum(weighted[row]) / this->sum[row];
      const int i = this->RowOf() + 8 * row;
      if (i < this->args.b1 && this->lane % 4 == 0) {
        PassLogSums(this->args, this->place.column)[i] = this->max[row] + log2f(this->sum[row]);
        PassDeltas(back, this->place.column)[i] = delta[row] + start[row];
      }
    }
  }

  // Written, not added: BackQueries adds the rest.
  __device__ __forceinline__ void WriteQueryGradients() {
#pragma unroll
    for (int row = 0; row < 2; ++row) {
      const int i = this->RowOf() + 8 * row;
      if (i >= this->args.b1) continue;
      const int token = QueryToken(this->args, this->place.query_tile, i, this->place.j);
      float* to = back.d_q + TokenOffset(this->args, kHeadDim, token, this->place.head) +
                  this->lane % 4 * 8;
      const float scale = back.scale / this->sum[row];
#pragma unroll
      for (int block = 0; block < kBlocks; ++block)
#pragma unroll
        for (int u = 0; u < 4; u += 2) {
          float d_q[4];
#pragma unroll
          for (int c = 0; c < 4; ++c) {
            const int n = block % 2 * 4 + u + c / 2, at = 2 * row + c % 2;
            d_q[c] =
                scale * fmaf(-delta[row], this->out[block / 2][n][at], with_kbar[block / 2][n][at]);
          }
          *reinterpret_cast<float4*>(to + 32 * block + 2 * u) =
              make_float4(d_q[0], d_q[1], d_q[2], d_q[3]);
        }
    }
  }
};

template <int kHeadDim>
__global__ void __launch_bounds__(BackAcross<kHeadDim>::kThreads, 1)
    BackAcrossKernel(const __grid_constant__ MonarchBackKernelArgs args) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  using Across = BackAcross<kHeadDim>;
  extern __shared__ __align__(1024) char smem[];
  Across(args, *reinterpret_cast<typename Across::Smem*>(smem)).Run();
#else
  __trap();  // other GPUs are refused
#endif
}

template <int kHeadDim>
struct BackMeans {
  static constexpr int kPanels = kHeadDim / 64;
  static constexpr int kBlocks = kHeadDim / 32;  // of channels
  static constexpr int kChunks = kHeadDim / 8;   // of 16 bytes
  static constexpr int kStages = 1;
  static constexpr int kStepRows = 32;  // query rows at a time
  static constexpr int kRowsMax = 160;  // in shared memory; taller tiles are loaded for every item

  struct Fixed {
    alignas(1024) Bits16 means[kStages][2][kPanels][kPassKeys][64];
    alignas(16) float entropies[kStages][kPassKeys];
    float log_sums[kRowsMax], deltas[kRowsMax];
    uint64_t full[kStages];
  };
  __host__ __device__ static int RowsHeld(int b1) {
    return b1 > kRowsMax ? kRowsMax : (b1 + kStepRows - 1) / kStepRows * kStepRows;
  }
  static int SmemBytes(int b1) {
    return int{sizeof(Fixed)} + 4 * RowsHeld(b1) * kHeadDim * int{sizeof(Bits16)};
  }
  // Queries, or d_out: as they are, and with the channels in the order of the means.
  struct Rows {
    Bits16* natural;
    Bits16* permuted;
  };

  const MonarchBackKernelArgs& back;
  const MonarchKernelArgs& args;
  Fixed& smem;
  PassPlace place;
  int keys = 0, items = 0, rows_held = 0;
  Rows q, d_out;
  int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  float d_kbar[kPanels][8][4], d_vbar[kPanels][8][4];  // of keys g and g + 8 of this warp's 16
  float d_c[2];

  __device__ BackMeans(const MonarchBackKernelArgs& a, char* shared)
      : back(a), args(a.forward), smem(*reinterpret_cast<Fixed*>(shared)) {
    place = FindPassColumn(args, blockIdx.x);
    if (place.query_tile < args.plan.query_tiles)
      keys = VisibleTiles(args, place.query_tile) * args.b1;
    items = (keys + kPassKeys - 1) / kPassKeys;
    rows_held = RowsHeld(args.b1);
    Bits16* rows = reinterpret_cast<Bits16*>(shared + sizeof(Fixed));
    const int elements = rows_held * kHeadDim;
    q = {rows, rows + elements};
    d_out = {rows + 2 * elements, rows + 3 * elements};
  }

  __device__ void Run() {
    if (items == 0) return;
    if (threadIdx.x == 0) {
      for (uint64_t& barrier : smem.full) ptx::BarrierInit(&barrier, 1);
      ptx::BarrierInitFence();
      for (int n = 0; n < kStages; ++n) LoadItem(n);
    }
    const bool all_held = args.b1 <= rows_held;
    if (all_held) LoadRows(0);
    __syncthreads();
    for (int item = 0; item < items; ++item) {
      ptx::BarrierWait(&smem.full[item % kStages], item / kStages % 2);
      Start();
      for (int begin = 0; begin < args.b1; begin += rows_held) {
        if (!all_held) {
          __syncthreads();  // nobody reads those before
          LoadRows(begin);
          __syncthreads();
        }
        AddRows(item % kStages);
      }
      ptx::FenceSharedForWgmma();  // entropies are read before a copy takes their place
      __syncthreads();
      if (threadIdx.x == 0) LoadItem(item + kStages);
      Store(items - 1 - item);
    }
  }

  __device__ void LoadItem(int item) {
    if (item >= items) return;
    const int slot = item % kStages, key = (items - 1 - item) * kPassKeys;
    constexpr int kMeansBytes = 2 * kPassKeys * kHeadDim * 2, kEntropyBytes = kPassKeys * 4;
    ptx::BarrierArriveExpect(&smem.full[slot], kMeansBytes + kEntropyBytes);
    ptx::BulkCopy(smem.means[slot], PassHalf<kHeadDim>(args, place.column, key, 0), kMeansBytes,
                  &smem.full[slot]);
    ptx::BulkCopy(smem.entropies[slot], PassEntropies(args, place.column) + key, kEntropyBytes,
                  &smem.full[slot]);
  }

  // Rows past the end are zero and weigh nothing.
  __device__ void LoadRows(int begin) {
    CopyRows(args.q, begin, q);
    CopyRows(back.d_out, begin, d_out);
    for (int row = threadIdx.x; row < rows_held; row += kMonarchCudaThreads) {
      const bool exists = begin + row < args.b1;
      smem.log_sums[row] = exists ? PassLogSums(args, place.column)[begin + row] : INFINITY;
      smem.deltas[row] = exists ? PassDeltas(back, place.column)[begin + row] : 0;
    }
    ptx::FenceSharedForWgmma();
  }

  __device__ void CopyRows(const Bits16* tensor, int begin, const Rows& to) {
    for (int n = threadIdx.x; n < rows_held * kChunks; n += kMonarchCudaThreads) {
      const int row = n / kChunks, chunk = n % kChunks, i = begin + row;
      uint4 x = {};
      if (i < args.b1) {
        const int token = QueryToken(args, place.query_tile, i, place.j);
        x = __ldg(reinterpret_cast<const uint4*>(tensor +
                                                 TokenOffset(args, kHeadDim, token, place.head)) +
                  chunk);
      }
      StoreBothOrders(x, row, chunk, rows_held, to.natural, to.permuted);
    }
  }

  __device__ void Start() {
#pragma unroll
    for (int panel = 0; panel < kPanels; ++panel)
#pragma unroll
      for (int n = 0; n < 8; ++n)
#pragma unroll
        for (int e = 0; e < 4; ++e) d_kbar[panel][n][e] = d_vbar[panel][n][e] = 0;
    d_c[0] = d_c[1] = 0;
  }

  // z [n, i] = means . rows, which lie in the order of the means.
  __device__ __forceinline__ void Score(int slot, int which, const Bits16* rows, int row,
                                        float (&z)[kStepRows / 8][4]) {
    ptx::WgmmaFence();
#pragma unroll
    for (int d = 0; d < kHeadDim; d += 16)
      ptx::Wgmma(z, ptx::SwizzledTile(&smem.means[slot][which][d / 64][0][d % 64]),
                 ptx::SwizzledTile(rows + (d / 64 * rows_held + row) * 64 + d % 64), d > 0);
    ptx::WgmmaCommit();
  }

  // y [n, d] += weights [n, i] . rows [i, d]
  __device__ __forceinline__ void Add(const uint32_t (&weights)[kStepRows / 16][4],
                                      const Bits16* rows, int row, float (&y)[kPanels][8][4]) {
    ptx::WgmmaFence();
#pragma unroll
    for (int step = 0; step < kStepRows / 16; ++step)
#pragma unroll
      for (int panel = 0; panel < kPanels; ++panel)
        ptx::WgmmaRowsOfB(y[panel], weights[step],
                          ptx::SwizzledTile(rows + (panel * rows_held + row + 16 * step) * 64),
                          true);
    ptx::WgmmaCommit();
  }

  __device__ void AddRows(int slot) {
    const float c[2] = {smem.entropies[slot][16 * warp + lane / 4],
                        smem.entropies[slot][16 * warp + lane / 4 + 8]};
    for (int row = 0; row < rows_held; row += kStepRows) {
      float x[kStepRows / 8][4], d_x[kStepRows / 8][4];
      Score(slot, 0, q.permuted, row, x);
      Score(slot, 1, d_out.permuted, row, d_x);
      ptx::WgmmaWait<0>();
      ptx::WgmmaResult(x);
      ptx::WgmmaResult(d_x);
      uint32_t left[kStepRows / 16][4], d_left[kStepRows / 16][4];
      Weigh(row, c, x, d_x, left, d_left);
      Add(left, d_out.natural, row, d_vbar);
      Add(d_left, q.natural, row, d_kbar);
    }
    ptx::WgmmaWait<0>();
#pragma unroll
    for (int panel = 0; panel < kPanels; ++panel) {
      ptx::WgmmaResult(d_kbar[panel]);
      ptx::WgmmaResult(d_vbar[panel]);
    }
  }

  // L and d_x as operands.
  __device__ void Weigh(int row, const float (&c)[2], const float (&x)[kStepRows / 8][4],
                        const float (&d_left)[kStepRows / 8][4],
                        uint32_t (&weights)[kStepRows / 16][4],
                        uint32_t (&d_weights)[kStepRows / 16][4]) {
#pragma unroll
    for (int n = 0; n < kStepRows / 8; ++n) {
      const int i = row + 8 * n + lane % 4 * 2;
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        float w[2], d[2];
#pragma unroll
        for (int e = 0; e < 2; ++e) {
          w[e] =
              ptx::Exp2(fmaf(x[n][2 * half + e], args.scale_log2, -c[half]) - smem.log_sums[i + e]);
          d[e] = w[e] * (d_left[n][2 * half + e] - smem.deltas[i + e]);
          d_c[half] -= d[e];
        }
        weights[n / 2][n % 2 * 2 + half] = PackBf16(w[0], w[1]);
        d_weights[n / 2][n % 2 * 2 + half] = PackBf16(d[0], d[1]);
      }
    }
  }

  // In natural order, into the places of what they are the derivatives by.
  __device__ void Store(int item) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int key = item * kPassKeys + 16 * warp + lane / 4 + 8 * half;
      StoreNatural<kHeadDim>(d_kbar, half, back.scale, key < keys,
                             PassHalf<kHeadDim>(args, place.column, key, 0), key);
      StoreNatural<kHeadDim>(d_vbar, half, 1, key < keys,
                             PassHalf<kHeadDim>(args, place.column, key, 1), key);
      const float sum = QuadSum(d_c[half]);
      if (key < keys && lane % 4 == 0) PassEntropies(args, place.column)[key] = sum;
    }
  }
};

template <int kHeadDim>
cudaError_t LaunchBackAcross(const MonarchBackKernelArgs& args, int pairs, cudaStream_t stream) {
  using Across = BackAcross<kHeadDim>;
  const MonarchCudaPlan& plan = args.forward.plan;
  const int columns = pairs * plan.group_tiles * args.forward.b2;
  return LaunchPass(BackAcrossKernel<kHeadDim>, columns * plan.unit_blocks, Across::kThreads,
                    int{sizeof(typename Across::Smem)}, args, stream);
}

template <int kHeadDim>
__global__ void __launch_bounds__(kMonarchCudaThreads, 2)
    BackMeansKernel(const __grid_constant__ MonarchBackKernelArgs args) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  extern __shared__ __align__(1024) char smem[];
  BackMeans<kHeadDim>(args, smem).Run();
#else
  __trap();  // other GPUs are refused
#endif
}

template <int kHeadDim>
cudaError_t LaunchBackMeans(const MonarchBackKernelArgs& args, int pairs, cudaStream_t stream) {
  const int columns = pairs * args.forward.plan.group_tiles * args.forward.b2;
  return LaunchPass(BackMeansKernel<kHeadDim>, columns, kMonarchCudaThreads,
                    BackMeans<kHeadDim>::SmemBytes(args.forward.b1), args, stream);
}

}  // namespace mrt
