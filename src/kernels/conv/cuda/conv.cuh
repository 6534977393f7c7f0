// The convolution kernel: a matrix product of [output pixels, taps * channels] with the packed
// weight, whose left side is gathered from the input while it is copied to shared memory.
//
// A block owns 128 output pixels and kColumns output channels, and takes 64 columns of the weight
// at a time; with three stages, two steps of copies are under way. The products are wgmma on
// sm_90a, else mma.sync.
#pragma once

#include "kernels/common/cuda/fragment.cuh"
#include "kernels/common/cuda/wgmma.cuh"
#include "kernels/conv/cuda/conv_cuda.h"

namespace mrt {

// The one parameter of the kernel.
struct ConvKernelArgs {
  const __nv_bfloat16* x = nullptr;
  const __nv_bfloat16* weight = nullptr;
  const float* bias = nullptr;
  void* y = nullptr;
  ConvCudaActivation activation = ConvCudaActivation::kNone;
  bool y_f32 = false;
  bool pairs = false;  // two neighbouring channels of y are one aligned store
  int rows = 0, cols = 0, in = 0;
  int channels = 0;  // in, padded
  int out = 0;
  int pixels = 0;  // of y, of all times
  int out_rows = 0, out_cols = 0;
  int kernel_time = 0, kernel_rows = 0, kernel_cols = 0;
  int stride_time = 0, stride_space = 0;
  int pad_top = 0, pad_left = 0;
  int pitch = 0;          // of the weight
  int column_blocks = 0;  // of kColumns output channels
};

inline constexpr int kConvCudaThreads = 128;

// kWhole: `in` is a multiple of 8 and x 16-byte aligned, so that 8 channels are one copy.
template <int kColumns, bool kWhole>
struct ConvTile {
  using Bf16 = __nv_bfloat16;
  static constexpr int kRowTiles = 2;             // of 64 pixels
  static constexpr int kPixels = 64 * kRowTiles;  // of a block
  static constexpr int kStep = 64;                // columns of the weight
  static constexpr int kStages = 3;
  static constexpr int kChunks = kStep / 8;  // of 16 bytes in a row
  static constexpr int kRowsAtOnce = kConvCudaThreads / kChunks;
  static constexpr int kRowsPerThread = kPixels / kRowsAtOnce;
  static constexpr int kColumnTiles = kColumns / 8;
  static_assert(kRowsAtOnce % 8 == 0 && kColumns % kRowsAtOnce == 0);

  // Rows of 128 bytes in the 128-byte swizzle: see ptx::SwizzledTile.
  struct Stage {
    alignas(1024) Bf16 pixels[kPixels][kStep];
    alignas(1024) Bf16 weight[kColumns][kStep];
  };
  struct Smem {
    Stage stages[kStages];
  };
  using Sums = float[kRowTiles][kColumnTiles][4];

  const ConvKernelArgs& args;
  Smem& smem;
  int lane = threadIdx.x % 32;
  int warp = threadIdx.x / 32;
  int pixel_begin = 0, column_begin = 0;
  // Each thread copies one chunk of every sixteenth row: the swizzle is the same in all.
  int row = threadIdx.x / kChunks;
  int chunk = threadIdx.x % kChunks;
  // Of the rows that this thread copies: where the first tap lies in the input, and its offset.
  int first_row[kRowsPerThread], first_col[kRowsPerThread], first_offset[kRowsPerThread];
  // Of this thread's chunk of the next step.
  int channel = 0, tap_time = 0, tap_row = 0, tap_col = 0;
  int steps = 0;

  __device__ ConvTile(const ConvKernelArgs& a, Smem& shared) : args(a), smem(shared) {
    const int pixel_block = blockIdx.x / args.column_blocks;
    pixel_begin = pixel_block * kPixels;
    column_begin = (blockIdx.x - pixel_block * args.column_blocks) * kColumns;
    steps = args.pitch / kStep;
    channel = 8 * chunk;
    WrapChannel();
    FindPixels();
  }

  __device__ void Run() {
    Sums sums = {};
    LoadStep(0);
    LoadStep(1);
    for (int step = 0; step < steps; ++step) {
      const Stage& stage = smem.stages[step % kStages];
      ptx::CopyAsyncWait<kStages - 2>();
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
      ptx::FenceSharedForWgmma();
      __syncthreads();
      MultiplyWgmma(stage, sums);
      LoadStep(step + 2);  // over the stage before, which nobody reads any more
      ptx::WgmmaWait<0>();
#else
      __syncthreads();
      LoadStep(step + 2);
      MultiplyMma(stage, sums);
#endif
    }
    Store(sums);
  }

  __device__ void FindPixels() {
#pragma unroll
    for (int n = 0; n < kRowsPerThread; ++n) {
      const int pixel = pixel_begin + row + n * kRowsAtOnce;
      const int line = pixel / args.out_cols, col = pixel - line * args.out_cols;
      const int time = line / args.out_rows;
      first_row[n] = (line - time * args.out_rows) * args.stride_space - args.pad_top;
      first_col[n] = col * args.stride_space - args.pad_left;
      first_offset[n] =
          ((time * args.stride_time * args.rows + first_row[n]) * args.cols + first_col[n]) *
          args.in;
      constexpr int kNowhere = -(1 << 30);
      if (pixel >= args.pixels) first_row[n] = kNowhere, first_offset[n] = 0;
    }
  }

  // Channels past the last are those of the next tap.
  __device__ void WrapChannel() {
    while (channel >= args.channels) {
      channel -= args.channels;
      if (++tap_col < args.kernel_cols) continue;
      tap_col = 0;
      if (++tap_row < args.kernel_rows) continue;
      tap_row = 0;
      ++tap_time;
    }
  }

  // One group of copies. Steps are loaded in order.
  __device__ void LoadStep(int step) {
    if (step < steps) {
      Stage& stage = smem.stages[step % kStages];
      LoadPixels(stage);
      LoadWeight(stage, step);
      channel += kStep;
      WrapChannel();
    }
    ptx::CopyAsyncCommit();
  }

  __device__ void LoadPixels(Stage& stage) {
    const bool tap_exists = tap_time < args.kernel_time;
    const int tap_offset =
        ((tap_time * args.rows + tap_row) * args.cols + tap_col) * args.in + channel;
    Bf16* to = &stage.pixels[row][8 * (chunk ^ (row % 8))];
#pragma unroll
    for (int n = 0; n < kRowsPerThread; ++n) {
      const bool valid =
          tap_exists &&
          static_cast<unsigned>(first_row[n] + tap_row) < static_cast<unsigned>(args.rows) &&
          static_cast<unsigned>(first_col[n] + tap_col) < static_cast<unsigned>(args.cols);
      const Bf16* from = args.x + (valid ? first_offset[n] + tap_offset : 0);
      if (kWhole) {
        ptx::CopyAsync16ThroughL1(to + n * kRowsAtOnce * kStep, from, valid);
      } else {
        CopyChannels(to + n * kRowsAtOnce * kStep, from, valid ? args.in - channel : 0);
      }
    }
  }

  // Up to 8 channels one by one, and zeros.
  __device__ static void CopyChannels(Bf16* to, const Bf16* from, int count) {
    uint32_t bits[8];
#pragma unroll
    for (int n = 0; n < 8; ++n)
      bits[n] = n < count ? reinterpret_cast<const uint16_t*>(from)[n] : 0;
    *reinterpret_cast<uint4*>(to) = make_uint4(bits[0] | bits[1] << 16, bits[2] | bits[3] << 16,
                                               bits[4] | bits[5] << 16, bits[6] | bits[7] << 16);
  }

  __device__ void LoadWeight(Stage& stage, int step) {
    const Bf16* from =
        args.weight + int64_t{column_begin + row} * args.pitch + step * kStep + 8 * chunk;
    Bf16* to = &stage.weight[row][8 * (chunk ^ (row % 8))];
#pragma unroll
    for (int n = 0; n < kColumns; n += kRowsAtOnce)
      ptx::CopyAsync16(to + n * kStep, from + int64_t{n} * args.pitch, true);
  }

#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  __device__ void MultiplyWgmma(const Stage& stage, Sums& sums) {
    ptx::WgmmaFence();
#pragma unroll
    for (int k = 0; k < kStep; k += 16)
#pragma unroll
      for (int t = 0; t < kRowTiles; ++t)
        ptx::Wgmma(sums[t], ptx::SwizzledTile(&stage.pixels[64 * t][k]),
                   ptx::SwizzledTile(&stage.weight[0][k]), true);
    ptx::WgmmaCommit();
  }
#else
  __device__ static const Bf16* Swizzled(const Bf16 (*x)[kStep], int row, int column) {
    return &x[row][(column / 8 ^ (row % 8)) * 8];
  }

  __device__ void MultiplyMma(const Stage& stage, Sums& sums) {
#pragma unroll
    for (int k = 0; k < kStep; k += 16) {
      uint32_t a[kRowTiles][4];
#pragma unroll
      for (int t = 0; t < kRowTiles; ++t)
        ptx::LoadMatrix(a[t],
                        Swizzled(stage.pixels, 64 * t + 16 * warp + lane % 16, k + lane / 16 * 8));
#pragma unroll
      for (int n = 0; n < kColumnTiles; n += 2) {
        uint32_t b[4];
        ptx::LoadMatrix(
            b, Swizzled(stage.weight, 8 * n + lane % 8 + lane / 16 * 8, k + lane / 8 % 2 * 8));
#pragma unroll
        for (int t = 0; t < kRowTiles; ++t) {
          ptx::Mma(sums[t][n], a[t], b[0], b[1]);
          ptx::Mma(sums[t][n + 1], a[t], b[2], b[3]);
        }
      }
    }
  }
#endif

  __device__ float Activate(float x) const {
    switch (args.activation) {
      case ConvCudaActivation::kRelu: return x < 0 ? 0 : x;  // a NaN stays
      case ConvCudaActivation::kSilu: return x / (1 + expf(-x));
      case ConvCudaActivation::kGeluTanh:
        return 0.5f * x * (1 + tanhf(0.7978845608f * (x + 0.044715f * x * x * x)));
      default: return x;
    }
  }

  __device__ void Store(const Sums& sums) {
#pragma unroll
    for (int n = 0; n < kColumnTiles; ++n) {
      const int column = column_begin + 8 * n + 2 * (lane % 4);
      if (column >= args.out) break;
      const bool second = column + 1 < args.out;
      const float bias_0 = args.bias == nullptr ? 0 : args.bias[column];
      const float bias_1 = args.bias == nullptr || !second ? 0 : args.bias[column + 1];
#pragma unroll
      for (int t = 0; t < kRowTiles; ++t)
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          const int pixel = pixel_begin + 64 * t + 16 * warp + lane / 4 + 8 * half;
          if (pixel >= args.pixels) continue;
          const float y_0 = Activate(sums[t][n][2 * half] + bias_0);
          const float y_1 = Activate(sums[t][n][2 * half + 1] + bias_1);
          StoreTwo(int64_t{pixel} * args.out + column, y_0, y_1, second);
        }
    }
  }

  __device__ void StoreTwo(int64_t offset, float y_0, float y_1, bool second) const {
    if (args.y_f32) {
      float* to = static_cast<float*>(args.y) + offset;
      if (args.pairs) {
        *reinterpret_cast<float2*>(to) = make_float2(y_0, y_1);
      } else {
        to[0] = y_0;
        if (second) to[1] = y_1;
      }
    } else {
      Bf16* to = static_cast<Bf16*>(args.y) + offset;
      if (args.pairs) {
        *reinterpret_cast<uint32_t*>(to) = PackBf16(y_0, y_1);
      } else {
        to[0] = __float2bfloat16_rn(y_0);
        if (second) to[1] = __float2bfloat16_rn(y_1);
      }
    }
  }
};

template <int kColumns, bool kWhole>
__global__ void __launch_bounds__(kConvCudaThreads, 2)
    ConvKernel(const __grid_constant__ ConvKernelArgs args) {
  using Tile = ConvTile<kColumns, kWhole>;
  extern __shared__ __align__(1024) char smem[];
  Tile(args, *reinterpret_cast<typename Tile::Smem*>(smem)).Run();
}

}  // namespace mrt
