// The backward pass through the attention across rows for tiles of at most 64 rows: what BackAcross
// and BackMeans (back_across.cuh) do, in one pass over the means. A block takes one column after
// another:
//
//   up:    over the items of means, for the log sums and the deltas of its query rows
//   down:  over the items again, from the last: d_vbar, d_kbar and d_c, which take the places of
//          what they are the derivatives by, and d_q[i] = s sum_n d_x kbar[n]
//
// Keys are rows of all products, so that few query rows waste little. The last items of a column
// are still in shared memory when the way down begins, and the others in L2. A slot that the way
// down leaves gets the next column's items.
#pragma once

#include <algorithm>

#include "kernels/common/cuda/wgmma.cuh"
#include "kernels/monarch/cuda/back_args.cuh"
#include "kernels/monarch/cuda/tile.cuh"

namespace mrt {

// kRows: of a query tile, with padding.
template <int kHeadDim, int kRows>
struct BackColumns {
  static constexpr int kWarpgroups = 2, kThreads = 128 * kWarpgroups;
  static constexpr int kPanels = kHeadDim / 64;
  static constexpr int kChunks = kHeadDim / 8;  // of 16 bytes
  static constexpr int kRowTiles = kRows / 8;
  static constexpr int kTaken = kRows * kChunks / kThreads;
  static_assert(kRows * kChunks % kThreads == 0);
  // Slot s belongs to warpgroup s % kWarpgroups: nobody else waits for it or fills it.
  static constexpr int kSlots = kRows == 32 ? 6 : 4;
  static_assert(kSlots % kWarpgroups == 0);
  // Warpgroups whose d_x are beside one another: a product takes 64 rows, of which each wants its
  // own.
  static constexpr int kPartners = 64 / kRows;
  // Items that L2 is asked to keep until the way down: 17 MB of all blocks.
  static constexpr int kKept = 4;

  using Rows = Bits16[kPanels][kRows][64];
  using Sums = float[3][kRows];  // maximum, sum of weights, weighted sum of each query row
  struct Smem {
    alignas(1024) Bits16 means[kSlots][2][kPanels][kPassKeys][64];
    alignas(1024) Rows rows[2];  // queries and d_out, channels in the order of the means
    alignas(1024) Bits16 d_x[kWarpgroups / kPartners][kPassKeys][64];
    alignas(16) float entropies[kSlots][kPassKeys];
    float log_sums[kRows], deltas[kRows];
    uint64_t full[kSlots];
  };
  static_assert(sizeof(Sums) * 4 * kWarpgroups <= sizeof(Smem::d_x));
  static_assert(sizeof(float) * kRows * kHeadDim <= sizeof(Smem::rows));
  static_assert(sizeof(Smem) <= 227 * 1024);

  struct Column {
    int index = 0;            // among those of the pass
    int keys = 0, items = 0;  // no items: there is no such column
  };

  const MonarchBackKernelArgs& back;
  const MonarchKernelArgs& args;
  Smem& smem;
  Column now, next;
  uint4 taken[2][kTaken];  // of q and d_out
  bool mirrored = false;
  uint32_t parities = 0;  // of the load of each slot that is waited for next
  int warpgroup = threadIdx.x / 128, thread = threadIdx.x % 128;
  int warp = thread / 32, lane = threadIdx.x % 32;
  // On the way up, of query rows i = 8n + 2 (lane % 4) + e over this lane's keys.
  float max[kRowTiles][2], sum[kRowTiles][2], weighted[kRowTiles][2];
  // Of rows g and g + 8 of this warp's 16, over this warpgroup's keys. Row 0 is the first of d_x.
  float d_q[kPanels][8][4];

  __device__ BackColumns(const MonarchBackKernelArgs& a, Smem& shared)
      : back(a), args(a.forward), smem(shared) {}

  __device__ void Run(int columns) {
    now = FindFrom(columns - 1 - static_cast<int>(blockIdx.x));
    if (threadIdx.x == 0) {
      for (uint64_t& barrier : smem.full) ptx::BarrierInit(&barrier, 1);
      ptx::BarrierInitFence();
    }
    __syncthreads();
    if (thread == 0)
      for (int p = 0; p < kSlots; ++p)
        if (SlotOf(p) % kWarpgroups == warpgroup) LoadItem(now, p, SlotOf(p));
    TakeRows(now);
    while (now.items > 0) {
      next = FindFrom(now.index - static_cast<int>(gridDim.x));
      PutRows();
      ptx::FenceSharedForWgmma();
      __syncthreads();
      GoUp();
      MergeSums();
      FetchNextRows();
      GoDown();
      TakeRows(next);
      WriteQueryGradients();
      now = next;
      mirrored = !mirrored;
    }
  }

  // From the last column to the first: what the average wrote last is still in L2.
  __device__ Column FindFrom(int index) const {
    for (; index >= 0; index -= static_cast<int>(gridDim.x)) {
      Column column;
      const int tile = FindPassColumn(args, index).query_tile;
      if (tile >= args.plan.query_tiles) continue;
      column.index = index;
      column.keys = VisibleTiles(args, tile) * args.b1;
      column.items = (column.keys + kPassKeys - 1) / kPassKeys;
      return column;
    }
    return {};
  }

  // Where item p of a column lies. Slots become free in the order in which the next column, which
  // is the other way round, needs them.
  __device__ int SlotOf(int p) const { return mirrored ? kSlots - 1 - p % kSlots : p % kSlots; }

  // If the column has that item.
  __device__ void LoadItem(const Column& column, int p, int slot, bool again = false) {
    if (p >= column.items) return;
    constexpr int kMeansBytes = 2 * kPassKeys * kHeadDim * 2, kEntropyBytes = kPassKeys * 4;
    const int to_reload = column.items - kSlots;
    const bool keep = !again && p < to_reload && p >= to_reload - kKept;
    const int key = p * kPassKeys;
    ptx::BarrierArriveExpect(&smem.full[slot], kMeansBytes + kEntropyBytes);
    ptx::BulkCopy(smem.means[slot], PassHalf<kHeadDim>(args, column.index, key, 0), kMeansBytes,
                  &smem.full[slot], keep ? ptx::PolicyEvictLast() : ptx::PolicyEvictFirst());
    ptx::BulkCopy(smem.entropies[slot], PassEntropies(args, column.index) + key, kEntropyBytes,
                  &smem.full[slot]);
  }
  __device__ void WaitForItem(int slot) {
    ptx::BarrierWait(&smem.full[slot], parities >> slot & 1);
    parities ^= 1u << slot;
  }
  __device__ void WarpgroupBarrier() const { ptx::NamedBarrier(1 + warpgroup, 128); }

  // Both warpgroups come to as many barriers of their own, with an item or without: where one has
  // fewer, compute-sanitizer's racecheck forgets the next barrier of the block.
  __device__ int EvenItems() const { return (now.items + 1) / kWarpgroups * kWarpgroups; }
  __device__ int FirstItem() const { return mirrored ? kWarpgroups - 1 - warpgroup : warpgroup; }

  // This thread's part of the rows of a column, which is on its way while the gradients of the one
  // before are written. Rows past the end are zero and weigh nothing.
  __device__ void TakeRows(const Column& column) {
    if (column.items == 0) return;
    const PassPlace place = FindPassColumn(args, column.index);
#pragma unroll
    for (int n = 0; n < kTaken; ++n) {
      const int at = threadIdx.x + n * kThreads, i = at / kChunks, chunk = at % kChunks;
      taken[0][n] = taken[1][n] = {};
      if (i >= args.b1) continue;
      const int token = QueryToken(args, place.query_tile, i, place.j);
      const int64_t offset = TokenOffset(args, kHeadDim, token, place.head);
      taken[0][n] = __ldg(reinterpret_cast<const uint4*>(args.q + offset) + chunk);
      taken[1][n] = __ldg(reinterpret_cast<const uint4*>(back.d_out + offset) + chunk);
    }
  }
  __device__ void PutRows() const {
#pragma unroll
    for (int which = 0; which < 2; ++which)
#pragma unroll
      for (int n = 0; n < kTaken; ++n) {
        const int at = threadIdx.x + n * kThreads;
        StorePermuted(taken[which][n], at / kChunks, at % kChunks, kRows,
                      &smem.rows[which][0][0][0]);
      }
  }

  // Into L2, so that TakeRows() waits less.
  __device__ void FetchNextRows() const {
    if (next.items == 0) return;
    constexpr int kLines = kHeadDim / 64;  // of a row
    const PassPlace place = FindPassColumn(args, next.index);
    for (int n = threadIdx.x; n < 2 * kLines * args.b1; n += kThreads) {
      const int line = n % kLines, i = n / kLines % args.b1;
      const int token = QueryToken(args, place.query_tile, i, place.j);
      const Bits16* tensor = n < kLines * args.b1 ? args.q : back.d_out;
      ptx::FetchLine(tensor + TokenOffset(args, kHeadDim, token, place.head) + 64 * line);
    }
  }

  __device__ __forceinline__ void GoUp() {
#pragma unroll
    for (int n = 0; n < kRowTiles; ++n)
#pragma unroll
      for (int e = 0; e < 2; ++e) max[n][e] = kMaskedLogit, sum[n][e] = weighted[n][e] = 0;
    const bool cut = now.keys < now.items * kPassKeys;
    for (int p = FirstItem(); p < EvenItems(); p += kWarpgroups) {
      const int slot = SlotOf(p);
      if (p < now.items) WaitForItem(slot);
      if (cut && p + kWarpgroups >= EvenItems()) {
        if (p + 1 == now.items) ClearKeys(slot, now.keys - p * kPassKeys);
        WarpgroupBarrier();
      }
      if (p < now.items) AddSums(slot);
      ptx::FenceSharedForWgmma();  // entropies are read before a copy takes their place
      WarpgroupBarrier();
      if (thread == 0) LoadItem(now, p + kSlots, slot);
    }
  }

  // x [n, i] = kbar [n, d] . q [i, d], e [n, i] = vbar [n, d] . d_out [i, d]: two products under
  // way, of which x comes first.
  __device__ __forceinline__ void Score(int slot, float (&x)[kRowTiles][4],
                                        float (&e)[kRowTiles][4]) {
    const uint64_t means = ptx::SwizzledTile(smem.means[slot]);
    const uint64_t rows = ptx::SwizzledTile(smem.rows);
    ptx::WgmmaFence();
#pragma unroll
    for (int which = 0; which < 2; ++which) {
#pragma unroll
      for (int d = 0; d < kHeadDim; d += 16)
        ptx::Wgmma(which == 0 ? x : e,
                   ptx::Later(means, (which * kPanels + d / 64) * kPassKeys * 128 + d % 64 * 2),
                   ptx::Later(rows, (which * kPanels + d / 64) * kRows * 128 + d % 64 * 2), d > 0);
      ptx::WgmmaCommit();
    }
  }

  __device__ int KeyOf(int half) const { return 16 * warp + lane / 4 + 8 * half; }

  // Keys behind the last one: 2^(0 - c) is 0, and all else is a number.
  __device__ void ClearKeys(int slot, int keys_left) {
#pragma unroll
    for (int part = 0; part < 2 * kPanels; ++part) {
      uint4* to =
          reinterpret_cast<uint4*>(&smem.means[slot][part / kPanels][part % kPanels][keys_left][0]);
      for (int n = thread; n < (kPassKeys - keys_left) * 8; n += 128) to[n] = {};
    }
    if (thread >= keys_left && thread < kPassKeys) smem.entropies[slot][thread] = INFINITY;
    ptx::FenceSharedForWgmma();
  }

  __device__ __forceinline__ void AddSums(int slot) {
    float x[kRowTiles][4], e[kRowTiles][4];
    Score(slot, x, e);
    const float c[2] = {smem.entropies[slot][KeyOf(0)], smem.entropies[slot][KeyOf(1)]};
    ptx::WgmmaWait<1>();
    ptx::WgmmaResult(x);
#pragma unroll
    for (int n = 0; n < kRowTiles; ++n)
#pragma unroll
      for (int at = 0; at < 2; ++at) {
        const float first = fmaf(x[n][at], args.scale_log2, -c[0]);
        const float second = fmaf(x[n][at + 2], args.scale_log2, -c[1]);
        const float before = max[n][at];
        max[n][at] = fmaxf(before, fmaxf(first, second));
        const float factor = ptx::Exp2(before - max[n][at]);
        x[n][at] = ptx::Exp2(first - max[n][at]);
        x[n][at + 2] = ptx::Exp2(second - max[n][at]);
        sum[n][at] = fmaf(sum[n][at], factor, x[n][at] + x[n][at + 2]);
        weighted[n][at] *= factor;
      }
    ptx::WgmmaWait<0>();
    ptx::WgmmaResult(e);
#pragma unroll
    for (int n = 0; n < kRowTiles; ++n)
#pragma unroll
      for (int at = 0; at < 2; ++at)
        weighted[n][at] =
            fmaf(x[n][at], e[n][at], fmaf(x[n][at + 2], e[n][at + 2], weighted[n][at]));
  }

  // Of all lanes and warps.
  __device__ __forceinline__ void MergeSums() {
    Sums* parts = reinterpret_cast<Sums*>(smem.d_x);
#pragma unroll
    for (int n = 0; n < kRowTiles; ++n)
#pragma unroll
      for (int at = 0; at < 2; ++at) {
        float all = max[n][at];
        for (int lanes = 4; lanes < 32; lanes *= 2)
          all = fmaxf(all, __shfl_xor_sync(~0u, all, lanes));
        const float factor = ptx::Exp2(max[n][at] - all);
        float total = sum[n][at] * factor, dot = weighted[n][at] * factor;
        for (int lanes = 4; lanes < 32; lanes *= 2) {
          total += __shfl_xor_sync(~0u, total, lanes);
          dot += __shfl_xor_sync(~0u, dot, lanes);
        }
        if (lane >= 4) continue;
        Sums& part = parts[threadIdx.x / 32];
        const int i = 8 * n + 2 * lane + at;
        part[0][i] = all, part[1][i] = total, part[2][i] = dot;
      }
    __syncthreads();
    const int i = threadIdx.x;
    if (i < kRows) {
      float all = kMaskedLogit, total = 0, dot = 0;
      for (int n = 0; n < kThreads / 32; ++n) all = fmaxf(all, parts[n][0][i]);
      for (int n = 0; n < kThreads / 32; ++n) {
        const float factor = ptx::Exp2(parts[n][0][i] - all);
        total = fmaf(parts[n][1][i], factor, total), dot = fmaf(parts[n][2][i], factor, dot);
      }
      smem.log_sums[i] = i < args.b1 ? all + log2f(total) : INFINITY;
      smem.deltas[i] = i < args.b1 ? dot / total : 0;
    }
    __syncthreads();
  }

  __device__ __forceinline__ void GoDown() {
#pragma unroll
    for (int n = 0; n < kPanels * 32; ++n) d_q[n / 32][n / 4 % 8][n % 4] = 0;
    const int all = now.items > kSlots ? now.items : kSlots;
    const int even = now.items > kSlots ? EvenItems() : kSlots;
    for (int p = even - kWarpgroups + FirstItem(); p >= 0; p -= kWarpgroups) {
      const int slot = SlotOf(p);
      if (p < now.items) {
        if (p + kSlots < now.items) WaitForItem(slot);  // else it is still there
        Differentiate(p, slot);
        WarpgroupBarrier();
      } else if (p < EvenItems()) {
        WarpgroupBarrier();
        WarpgroupBarrier();
      }
      if (thread == 0 && p < all) Refill(p, slot);
    }
  }

  // The slot of item p, on the way down.
  __device__ void Refill(int p, int slot) {
    if (p >= kSlots) {
      LoadItem(now, p - kSlots, slot, true);
    } else {
      LoadItem(next, kSlots - 1 - p, slot);
    }
  }

  __device__ __forceinline__ void Differentiate(int p, int slot) {
    const int keys_left = now.keys - p * kPassKeys;
    float d_c[2];
    uint32_t left[kRows / 16][4], d_left[kRows / 16][4];
    {
      float x[kRowTiles][4], e[kRowTiles][4];
      Score(slot, x, e);
      const float c[2] = {smem.entropies[slot][KeyOf(0)], smem.entropies[slot][KeyOf(1)]};
      ptx::WgmmaWait<1>();
      ptx::WgmmaResult(x);
      Weigh(c, x, left);
      ptx::WgmmaWait<0>();
      ptx::WgmmaResult(e);
#pragma unroll
      for (int half = 0; half < 2; ++half) d_c[half] = WeighGradients(half, x, e, d_left);
    }
    ptx::FenceSharedForWgmma();
    WarpgroupBarrier();
    Multiply(p, slot, left, d_left);
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const float total = QuadSum(d_c[half]);
      if (KeyOf(half) < keys_left && lane % 4 == 0)
        PassEntropies(args, now.index)[p * kPassKeys + KeyOf(half)] = total;
    }
  }

  // x -> L, as operand too.
  __device__ __forceinline__ void Weigh(const float (&c)[2], float (&x)[kRowTiles][4],
                                        uint32_t (&left)[kRows / 16][4]) const {
#pragma unroll
    for (int n = 0; n < kRowTiles; ++n) {
      const float2 log_sum =
          *reinterpret_cast<const float2*>(&smem.log_sums[8 * n + 2 * (lane % 4)]);
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        float(&w)[4] = x[n];
        const int at = 2 * half;
        w[at] = ptx::Exp2(fmaf(w[at], args.scale_log2, -c[half]) - log_sum.x);
        w[at + 1] = ptx::Exp2(fmaf(w[at + 1], args.scale_log2, -c[half]) - log_sum.y);
        left[n / 2][n % 2 * 2 + half] = PackBf16(w[at], w[at + 1]);
      }
    }
  }

  // d_x of this lane's key g or g + 8 as operand and in shared memory; its part of d_c.
  __device__ __forceinline__ float WeighGradients(int half, const float (&w)[kRowTiles][4],
                                                  const float (&e)[kRowTiles][4],
                                                  uint32_t (&d_left)[kRows / 16][4]) {
    float d_c = 0;
    const int key = KeyOf(half), at = 2 * half;
#pragma unroll
    for (int n = 0; n < kRowTiles; ++n) {
      const float2 delta = *reinterpret_cast<const float2*>(&smem.deltas[8 * n + 2 * (lane % 4)]);
      const float first = w[n][at] * (e[n][at] - delta.x);
      const float second = w[n][at + 1] * (e[n][at + 1] - delta.y);
      d_c -= first + second;
      const uint32_t pair = PackBf16(first, second);
      d_left[n / 2][n % 2 * 2 + half] = pair;
      const int chunk = n + warpgroup % kPartners * kRowTiles;
      *reinterpret_cast<uint32_t*>(
          &smem.d_x[warpgroup / kPartners][key][(chunk ^ key % 8) * 8 + 2 * (lane % 4)]) = pair;
    }
    return d_c;
  }

  // d_vbar [n, d] = L [n, i] . d_out [i, d], d_kbar [n, d] = s d_x [n, i] . q [i, d], and
  // d_q [i, d] += d_x [n, i] . kbar [n, d] without s.
  __device__ __forceinline__ void Multiply(int p, int slot, const uint32_t (&left)[kRows / 16][4],
                                           const uint32_t (&d_left)[kRows / 16][4]) {
    float y[kPanels][8][4];
    ptx::WgmmaFence();
    Product(left, smem.rows[1], y);
    ptx::WgmmaCommit();
    AddToQueries(slot);
    ptx::WgmmaCommit();
    ptx::WgmmaWait<1>();
    Store(y, p, 1, 1);
    ptx::WgmmaFence();
    Product(d_left, smem.rows[0], y);
    ptx::WgmmaCommit();
    ptx::WgmmaWait<0>();
    Store(y, p, 0, back.scale);
#pragma unroll
    for (int panel = 0; panel < kPanels; ++panel) ptx::WgmmaResult(d_q[panel]);
  }

  __device__ __forceinline__ void AddToQueries(int slot) {
    const uint64_t d_x = ptx::SwizzledTile(smem.d_x[warpgroup / kPartners]);
    const uint64_t kbar = ptx::SwizzledTile(smem.means[slot]);
#pragma unroll
    for (int step = 0; step < kPassKeys / 16; ++step)
#pragma unroll
      for (int panel = 0; panel < kPanels; ++panel)
        ptx::WgmmaRowsOfBoth(d_q[panel], ptx::Later(d_x, step * 16 * 128),
                             ptx::Later(kbar, (panel * kPassKeys + step * 16) * 128), true);
  }

  // y [n, d] = weights [n, i] . rows [i, d]
  __device__ __forceinline__ void Product(const uint32_t (&weights)[kRows / 16][4],
                                          const Rows& rows, float (&y)[kPanels][8][4]) {
    const uint64_t begin = ptx::SwizzledTile(rows);
#pragma unroll
    for (int step = 0; step < kRows / 16; ++step)
#pragma unroll
      for (int panel = 0; panel < kPanels; ++panel)
        ptx::WgmmaRowsOfB(y[panel], weights[step],
                          ptx::Later(begin, (panel * kRows + 16 * step) * 128), step > 0);
  }

  // Into the places of what they are the derivatives by.
  __device__ __forceinline__ void Store(float (&y)[kPanels][8][4], int p, int which, float scale) {
#pragma unroll
    for (int panel = 0; panel < kPanels; ++panel) ptx::WgmmaResult(y[panel]);
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int key = p * kPassKeys + KeyOf(half);
      StoreReordered<kHeadDim>(y, half, scale, key < now.keys,
                               PassHalf<kHeadDim>(args, now.index, key, which), key);
    }
  }

  // Both warpgroups' parts, through the place of the rows. Written, not added: what comes through
  // the keys is added later.
  __device__ __forceinline__ void WriteQueryGradients() {
    constexpr int kHolders = 2 * kRows;  // threads of a warpgroup that hold rows
    const int holder = thread - warpgroup % kPartners * kHolders;
    const bool holds = holder >= 0 && holder < kHolders;
    float* parts = reinterpret_cast<float*>(smem.rows) + holder;
    __syncthreads();
    if (warpgroup == 1 && holds)
#pragma unroll
      for (int n = 0; n < kPanels * 32; ++n) parts[n * kHolders] = d_q[n / 32][n / 4 % 8][n % 4];
    __syncthreads();
    if (warpgroup == 0 && holds) {
#pragma unroll
      for (int n = 0; n < kPanels * 32; ++n) d_q[n / 32][n / 4 % 8][n % 4] += parts[n * kHolders];
#pragma unroll
      for (int half = 0; half < 2; ++half) WriteQueryRow(half);
    }
    __syncthreads();
  }

  __device__ __forceinline__ void WriteQueryRow(int half) const {
    const PassPlace place = FindPassColumn(args, now.index);
    const int i = 16 * warp + lane / 4 + 8 * half;
    if (i >= args.b1) return;
    const int token = QueryToken(args, place.query_tile, i, place.j);
    float* to = back.d_q + TokenOffset(args, kHeadDim, token, place.head) + lane % 4 * 8;
#pragma unroll
    for (int block = 0; block < kHeadDim / 32; ++block)
#pragma unroll
      for (int u = 0; u < 4; u += 2) {
        const float(&first)[4] = d_q[block / 2][block % 2 * 4 + u];
        const float(&second)[4] = d_q[block / 2][block % 2 * 4 + u + 1];
        *reinterpret_cast<float4*>(to + 32 * block + 2 * u) =
            make_float4(back.scale * first[2 * half], back.scale * first[2 * half + 1],
                        back.scale * second[2 * half], back.scale * second[2 * half + 1]);
      }
  }
};

template <int kHeadDim, int kRows>
__global__ void __launch_bounds__(BackColumns<kHeadDim, kRows>::kThreads, 1)
    BackColumnsKernel(const __grid_constant__ MonarchBackKernelArgs args) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  using Columns = BackColumns<kHeadDim, kRows>;
  extern __shared__ __align__(1024) char smem[];
  Columns(args, *reinterpret_cast<typename Columns::Smem*>(smem)).Run(args.columns);
#else
  __trap();  // other GPUs are refused
#endif
}

template <int kHeadDim, int kRows>
cudaError_t LaunchBackColumns(const MonarchBackKernelArgs& args, int pairs, cudaStream_t stream) {
  using Columns = BackColumns<kHeadDim, kRows>;
  const MonarchCudaPlan& plan = args.forward.plan;
  MonarchBackKernelArgs of_pairs = args;
  of_pairs.columns = pairs * plan.group_tiles * args.forward.b2;
  return LaunchPass(BackColumnsKernel<kHeadDim, kRows>, std::min(plan.blocks, of_pairs.columns),
                    Columns::kThreads, int{sizeof(typename Columns::Smem)}, of_pairs, stream);
}

}  // namespace mrt
