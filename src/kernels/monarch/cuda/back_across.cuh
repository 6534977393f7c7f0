// The backward pass through the attention across rows, for one column over all its keys:
//
//   L[i,n] = softmax over n of s q[i] . kbar[n] - c[n]     delta[i] = d_out[i] . out[i]
//   d_x[i,n] = L * (d_out[i] . vbar[n] - delta[i])
//
// BackAcross goes over the keys twice, first for sums and deltas, then for what reaches the queries
// through the means: d_q[i] = s sum_n d_x kbar[n]. BackMeans then makes of each item of means what
// they are the derivatives by:
//
//   d_vbar[n] = sum_i L d_out[i]   d_kbar[n] = s sum_i d_x q[i]   d_c[n] = -sum_i d_x
#pragma once

#include "kernels/monarch/cuda/back_args.cuh"
#include "kernels/monarch/cuda/pass_across.cuh"

namespace mrt {

template <int kHeadDim, int kWarpgroups>
struct BackAcross : PassAcross<kHeadDim, kWarpgroups, false, 2> {
  using Base = PassAcross<kHeadDim, kWarpgroups, false, 2>;
  using Base::kBlocks;
  using Base::kPanels;
  using Base::kScoreTiles;
  using Base::kStages;
  using typename Base::Bf16;
  using typename Base::Queries;

  const MonarchBackKernelArgs& back;
  Queries d_out;
  float log_sum[2], delta[2];

  __device__ BackAcross(const MonarchBackKernelArgs& a, typename Base::Smem& shared)
      : Base(a.forward, shared), back(a) {}

  __device__ void Run() {
    if (this->items == 0) return;
    this->Begin();
    this->LoadQueries(this->args.q, this->q);
    this->LoadQueries(back.d_out, d_out);
    __syncthreads();
    this->Forward();
    FinishSums();
    this->Start();
    for (int n = this->items; n < 2 * this->items; ++n) {
      const int slot = n % kStages;
      const int keys_left = this->keys - (n - this->items) * kPassKeys;
      ptx::BarrierWait(&this->smem.full[slot], n / kStages % 2);
      if (keys_left < kPassKeys) this->template Clear<0>(slot, keys_left);
      float x[kScoreTiles][4], d_x[kScoreTiles][4];
      this->Score(slot, 0, this->q, x);
      this->Score(slot, 1, d_out, d_x);
      ptx::WgmmaWait<0>();
      ptx::WgmmaResult(x);
      ptx::WgmmaResult(d_x);
      this->Logits(slot, keys_left, x);
#pragma unroll
      for (int tile = 0; tile < kScoreTiles; ++tile)
#pragma unroll
        for (int e = 0; e < 4; ++e)
          d_x[tile][e] = ptx::Exp2(x[tile][e] - log_sum[e / 2]) * (d_x[tile][e] - delta[e / 2]);
      this->Accumulate(slot, 0, d_x);
      this->Release(n);
    }
    WriteQueryGradients();
  }

  __device__ __forceinline__ void FinishSums() {
#pragma unroll
    for (int row = 0; row < 2; ++row) {
      const float sum = QuadSum(this->sum[row]);
      float dot = 0;
#pragma unroll
      for (int block = 0; block < kBlocks; ++block)
#pragma unroll
        for (int u = 0; u < 4; ++u) {
          // Pair u of this lane's 16 bytes: see Base::LoadQueries.
          const uint32_t pair = d_out[block][u / 2][u % 2 * 2 + row];
          const float(&y)[4] = this->out[block / 2][block % 2 * 4 + u];
          dot += __uint_as_float(pair << 16) * y[2 * row] +
                 __uint_as_float(pair & 0xFFFF0000u) * y[2 * row + 1];
        }
      delta[row] = QuadSum(dot) / sum;
      log_sum[row] = this->max[row] + log2f(sum);
      const int i = this->RowOf() + 8 * row;
      if (i < this->args.b1 && this->lane % 4 == 0) {
        PassLogSums(this->args, this->place.column)[i] = log_sum[row];
        PassDeltas(back, this->place.column)[i] = delta[row];
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
#pragma unroll
      for (int block = 0; block < kBlocks; ++block)
#pragma unroll
        for (int u = 0; u < 4; u += 2) {
          const float(&y)[4] = this->out[block / 2][block % 2 * 4 + u];
          const float(&z)[4] = this->out[block / 2][block % 2 * 4 + u + 1];
          *reinterpret_cast<float4*>(to + 32 * block + 2 * u) =
              make_float4(y[2 * row] * back.scale, y[2 * row + 1] * back.scale,
                          z[2 * row] * back.scale, z[2 * row + 1] * back.scale);
        }
    }
  }
};

template <int kHeadDim, int kWarpgroups>
__global__ void __launch_bounds__(128 * kWarpgroups, kWarpgroups == 1 ? 2 : 1)
    BackAcrossKernel(const __grid_constant__ MonarchBackKernelArgs args) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  using Across = BackAcross<kHeadDim, kWarpgroups>;
  extern __shared__ __align__(1024) char smem[];
  Across(args, *reinterpret_cast<typename Across::Smem*>(smem)).Run();
#else
  __trap();  // other GPUs are refused
#endif
}

template <int kHeadDim, int kStages>
struct BackMeans {
  using Bf16 = __nv_bfloat16;
  static constexpr int kPanels = kHeadDim / 64;
  static constexpr int kBlocks = kHeadDim / 32;  // of channels
  static constexpr int kChunks = kHeadDim / 8;   // of 16 bytes
  static constexpr int kStepRows = 32;           // query rows at a time
  static constexpr int kRowsMax = 160;  // in shared memory; taller tiles are loaded for every item

  struct Fixed {
    alignas(1024) Bf16 means[kStages][2][kPanels][kPassKeys][64];
    alignas(16) float entropies[kStages][kPassKeys];
    float log_sums[kRowsMax], deltas[kRowsMax];
    uint64_t full[kStages];
  };
  __host__ __device__ static int RowsHeld(int b1) {
    return b1 > kRowsMax ? kRowsMax : (b1 + kStepRows - 1) / kStepRows * kStepRows;
  }
  static int SmemBytes(int b1) {
    return int{sizeof(Fixed)} + 4 * RowsHeld(b1) * kHeadDim * int{sizeof(Bf16)};
  }
  // Queries, or d_out: as they are, and with the channels in the order of the means.
  struct Rows {
    Bf16* natural;
    Bf16* permuted;
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
    Bf16* rows = reinterpret_cast<Bf16*>(shared + sizeof(Fixed));
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
      __syncthreads();
      if (threadIdx.x == 0) LoadItem(item + kStages);
      Store(item);
    }
  }

  __device__ void LoadItem(int item) {
    if (item >= items) return;
    const int slot = item % kStages, key = item * kPassKeys;
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

  __device__ void CopyRows(const Bf16* tensor, int begin, const Rows& to) {
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
  __device__ __forceinline__ void Score(int slot, int which, const Bf16* rows, int row,
                                        float (&z)[kStepRows / 8][4]) {
    ptx::WgmmaFence();
#pragma unroll
    for (int d = 0; d < kHeadDim; d += 16)
      ptx::Wgmma<kStepRows>(z, ptx::SwizzledTile(&smem.means[slot][which][d / 64][0][d % 64]),
                            ptx::SwizzledTile(rows + (d / 64 * rows_held + row) * 64 + d % 64),
                            d > 0);
    ptx::WgmmaCommit();
  }

  // y [n, d] += weights [n, i] . rows [i, d]
  __device__ __forceinline__ void Add(const uint32_t (&weights)[kStepRows / 16][4],
                                      const Bf16* rows, int row, float (&y)[kPanels][8][4]) {
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

template <int kHeadDim, int kWarpgroups>
cudaError_t LaunchBackAcross(const MonarchBackKernelArgs& args, int pairs, cudaStream_t stream) {
  using Across = BackAcross<kHeadDim, kWarpgroups>;
  const MonarchCudaPlan& plan = args.forward.plan;
  const int columns = pairs * plan.group_tiles * args.forward.b2;
  return LaunchPass(BackAcrossKernel<kHeadDim, kWarpgroups>, columns * plan.unit_blocks,
                    Across::kThreads, int{sizeof(typename Across::Smem)}, args, stream);
}

template <int kHeadDim, int kStages>
__global__ void __launch_bounds__(kMonarchCudaThreads, 2)
    BackMeansKernel(const __grid_constant__ MonarchBackKernelArgs args) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  extern __shared__ __align__(1024) char smem[];
  BackMeans<kHeadDim, kStages>(args, smem).Run();
#else
  __trap();  // other GPUs are refused
#endif
}

template <int kHeadDim>
cudaError_t LaunchBackMeans(const MonarchBackKernelArgs& args, int pairs, cudaStream_t stream) {
  const int b1 = args.forward.b1;
  const int columns = pairs * args.forward.plan.group_tiles * args.forward.b2;
  // Two stages where two blocks then still fit on a multiprocessor.
  if (BackMeans<kHeadDim, 1>::RowsHeld(b1) == BackMeans<kHeadDim, 1>::kStepRows)
    return LaunchPass(BackMeansKernel<kHeadDim, 2>, columns, kMonarchCudaThreads,
                      BackMeans<kHeadDim, 2>::SmemBytes(b1), args, stream);
  return LaunchPass(BackMeansKernel<kHeadDim, 1>, columns, kMonarchCudaThreads,
                    BackMeans<kHeadDim, 1>::SmemBytes(b1), args, stream);
}

}  // namespace mrt
