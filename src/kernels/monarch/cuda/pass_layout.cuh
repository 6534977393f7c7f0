// Where the kernels that run in passes (passes.cuh) keep what one leaves for the next: for each
// column of the pass items of kPassKeys keys, kbar and then vbar of each, as wgmma reads them from
// shared memory: [column, item, (kbar, vbar), panel of 64 channels, key, 64 channels], with chunk c
// of 16 bytes of a panel's row at c ^ (key % 8). So an item is one copy.
#pragma once

#include "kernels/common/cuda/bulk.cuh"
#include "kernels/common/cuda/fragment.cuh"
#include "kernels/monarch/cuda/launch.cuh"

namespace mrt {

// kbar (0) or vbar (1) of the item that holds a key.
template <int kHeadDim>
__device__ Bits16* PassHalf(const MonarchKernelArgs& args, int column, int key, int which) {
  const int64_t item = int64_t{column} * args.plan.items + key / kPassKeys;
  return args.means + (item * 2 + which) * kPassKeys * kHeadDim;
}

// 16 bytes of a row of it.
template <typename T>
__device__ T* PassChunk(T* half, int key, int chunk) {
  return half + chunk / 8 * kPassKeys * 64 + key % kPassKeys * 64 + (chunk % 8 ^ key % 8) * 8;
}

// c of the keys of a column.
__device__ inline float* PassEntropies(const MonarchKernelArgs& args, int column) {
  return args.entropies + int64_t{column} * args.plan.items * kPassKeys;
}

// The logarithm (base 2) of the sum over keys of the weights of L, for each query row of a column.
__device__ inline float* PassLogSums(const MonarchKernelArgs& args, int column) {
  return args.log_sums + int64_t{column} * args.plan.stat_rows;
}

// One (head, group) of the launch at hand, and one of its columns.
struct PassPlace {
  int head = 0;
  int group_begin = 0;  // first query tile
  int query_tile = 0;
  int j = 0;
  int column = 0;  // among those of the pass
};

__device__ inline PassPlace FindPassColumn(const MonarchKernelArgs& args, int column) {
  const int columns = args.plan.group_tiles * args.b2;
  const int pair_of_pass = column / columns, m = column - pair_of_pass * columns;
  const int pair = args.first_pair + pair_of_pass;
  PassPlace place;
  place.head = pair / args.plan.groups;
  place.group_begin = (pair - place.head * args.plan.groups) * args.plan.group_tiles;
  const int a = args.by_b2.Quotient(m);
  place.query_tile = place.group_begin + a;
  place.j = m - a * args.b2;
  place.column = column;
  return place;
}

// Queries in shared memory [panel, row, 64 channels], swizzled: as they are, and with the channels
// in the order of the means, where pair u of chunk p of each 32 channels lies in chunk u at p
// (tile.cuh). `x` is a chunk of 16 bytes of a row.
__device__ inline Bits16* SwizzledChunk(Bits16* panels, int row, int chunk, int rows) {
  return panels + chunk / 8 * rows * 64 + row * 64 + (chunk % 8 ^ row % 8) * 8;
}
__device__ inline void StorePermuted(const uint4& x, int row, int chunk, int rows, Bits16* to) {
  const uint32_t pairs[4] = {x.x, x.y, x.z, x.w};
#pragma unroll
  for (int u = 0; u < 4; ++u)
    *reinterpret_cast<uint32_t*>(SwizzledChunk(to, row, chunk / 4 * 4 + u, rows) + chunk % 4 * 2) =
        pairs[u];
}
__device__ inline void StoreBothOrders(const uint4& x, int row, int chunk, int rows,
                                       Bits16* natural, Bits16* permuted) {
  *reinterpret_cast<uint4*>(SwizzledChunk(natural, row, chunk, rows)) = x;
  StorePermuted(x, row, chunk, rows, permuted);
}

// x[p] of lane u becomes x[u] of lane p, among each four lanes.
__device__ inline void TransposeQuad(uint32_t (&x)[4]) {
  const bool odd = threadIdx.x % 2 != 0, high = threadIdx.x % 4 >= 2;
#pragma unroll
  for (int n = 0; n < 4; n += 2) {
    const uint32_t got = __shfl_xor_sync(~0u, odd ? x[n] : x[n + 1], 1);
    if (odd) {
      x[n] = got;
    } else {
      x[n + 1] = got;
    }
  }
#pragma unroll
  for (int n = 0; n < 2; ++n) {
    const uint32_t got = __shfl_xor_sync(~0u, high ? x[n] : x[n + 2], 2);
    if (high) {
      x[n] = got;
    } else {
      x[n + 2] = got;
    }
  }
}

// Rows g (half 0) or g + 8 of y, times `scale`, into the item at `half_item`: channels in natural
// order, for which the four lanes of a row swap their pairs.
template <int kHeadDim, StorageType kType = StorageType::kBF16>
__device__ void StoreNatural(const float (&y)[kHeadDim / 64][8][4], int half, float scale,
                             bool exists, Bits16* half_item, int key) {
  const int lane = threadIdx.x % 32;
#pragma unroll
  for (int block = 0; block < kHeadDim / 32; ++block) {
    uint32_t pairs[4];
#pragma unroll
    for (int p = 0; p < 4; ++p) {
      const float(&x)[4] = y[block / 2][block % 2 * 4 + p];
      pairs[p] = Pack<kType>(x[2 * half] * scale, x[2 * half + 1] * scale);
    }
    TransposeQuad(pairs);
    if (exists)
      *reinterpret_cast<uint4*>(PassChunk(half_item, key, 4 * block + lane % 4)) =
          make_uint4(pairs[0], pairs[1], pairs[2], pairs[3]);
  }
}

// The same of y whose columns are in the order of the means, so that each lane holds 16 bytes of
// consecutive channels.
template <int kHeadDim>
__device__ void StoreReordered(const float (&y)[kHeadDim / 64][8][4], int half, float scale,
                               bool exists, Bits16* half_item, int key) {
  if (!exists) return;
#pragma unroll
  for (int block = 0; block < kHeadDim / 32; ++block) {
    uint32_t pairs[4];
#pragma unroll
    for (int u = 0; u < 4; ++u) {
      const float(&x)[4] = y[block / 2][block % 2 * 4 + u];
      pairs[u] = PackBf16(x[2 * half] * scale, x[2 * half + 1] * scale);
    }
    *reinterpret_cast<uint4*>(PassChunk(half_item, key, 4 * block + threadIdx.x % 4)) =
        make_uint4(pairs[0], pairs[1], pairs[2], pairs[3]);
  }
}

// First in every kernel of the passes: the next one may take the place of blocks that are done, and
// nothing is read or written before the one before is done.
__device__ inline void FollowGridBefore() {
  ptx::LetNextGridStart();
  ptx::WaitForGridBefore();
}

// `dependent`: the grid before it on the stream is one of the passes.
template <typename Kernel, typename Args>
cudaError_t LaunchPass(Kernel kernel, int blocks, int threads, int smem_bytes, const Args& args,
                       cudaStream_t stream, bool dependent = false) {
  cudaError_t error =
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, smem_bytes);
  if (error != cudaSuccess) return error;
  error = cudaFuncSetAttribute(kernel, cudaFuncAttributePreferredSharedMemoryCarveout,
                               cudaSharedmemCarveoutMaxShared);
  if (error != cudaSuccess) return error;
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(blocks), config.blockDim = dim3(threads);
  config.dynamicSmemBytes = smem_bytes, config.stream = stream;
  cudaLaunchAttribute attribute = {};
  attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attribute.val.programmaticStreamSerializationAllowed = 1;
  config.attrs = &attribute, config.numAttrs = dependent ? 1 : 0;
  return cudaLaunchKernelEx(&config, kernel, args);
}

}  // namespace mrt
