#include "kernels/conv/cuda/conv_cuda.h"

#include <cstdint>

#include "kernels/common/cuda/status.h"
#include "kernels/conv/cuda/conv.cuh"

namespace mrt {
namespace {

bool IsAligned(const void* p, uintptr_t bytes) {
  return reinterpret_cast<uintptr_t>(p) % bytes == 0;
}

ConvKernelArgs KernelArgs(const ConvCudaArgs& args, const ConvCudaPacking& packing) {
  const ConvCudaShape& s = args.shape;
  const auto number = [](int64_t x) { return static_cast<int>(x); };
  ConvKernelArgs k;
  k.x = static_cast<const __nv_bfloat16*>(args.x);
  k.weight = static_cast<const __nv_bfloat16*>(args.weight);
  k.bias = args.bias;
  k.y = args.y;
  k.activation = args.activation;
  k.y_f32 = args.y_f32;
  k.pairs = s.out % 2 == 0 && IsAligned(args.y, args.y_f32 ? 8 : 4);
  k.rows = number(s.rows), k.cols = number(s.cols), k.in = number(s.in);
  k.channels = number(packing.channels);
  k.out = number(s.out);
  k.out_rows = number(s.out_rows()), k.out_cols = number(s.out_cols());
  k.pixels = number(s.out_time()) * k.out_rows * k.out_cols;
  k.kernel_time = number(s.kernel_time);
  k.kernel_rows = number(s.kernel_rows), k.kernel_cols = number(s.kernel_cols);
  k.stride_time = number(s.stride_time), k.stride_space = number(s.stride_space);
  k.pad_top = number(s.pad_top), k.pad_left = number(s.pad_left);
  k.pitch = number(packing.pitch);
  k.column_blocks = number(packing.rows / packing.block_columns);
  return k;
}

template <int kColumns, bool kWhole>
Status Launch(const ConvKernelArgs& args, cudaStream_t stream) {
  using Tile = ConvTile<kColumns, kWhole>;
  const auto kernel = ConvKernel<kColumns, kWhole>;
  constexpr int kSmemBytes = sizeof(typename Tile::Smem);
  static_assert(kSmemBytes <= 99 * 1024);  // what every GPU since 8.6 has
  MRT_RETURN_IF_ERROR(FromCuda(
      "conv", "cudaFuncSetAttribute",
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kSmemBytes)));
  const int blocks = (args.pixels + Tile::kPixels - 1) / Tile::kPixels * args.column_blocks;
  kernel<<<blocks, kConvCudaThreads, kSmemBytes, stream>>>(args);
  return FromCuda("conv", "the kernel launch", cudaGetLastError());
}

template <bool kWhole>
Status LaunchWithColumns(int columns, const ConvKernelArgs& args, cudaStream_t stream) {
  switch (columns) {
    case 32: return Launch<32, kWhole>(args, stream);
    case 64: return Launch<64, kWhole>(args, stream);
    case 96: return Launch<96, kWhole>(args, stream);
    default: return Launch<128, kWhole>(args, stream);
  }
}

}  // namespace

Status RunConvCuda(const ConvCudaArgs& args, CUstream_st* stream) {
  const ConvCudaShape& s = args.shape;
  MRT_RETURN_IF_ERROR(ValidateConvCuda(s));
  if (args.x == nullptr || args.weight == nullptr || args.y == nullptr ||
      !IsAligned(args.weight, 16))
    return InvalidArgument("[conv] got a null tensor or a misaligned weight, need 16 bytes");
  const ConvCudaPacking packing = ConvCudaPackingOf(s.out, s.in, s.taps());
  const ConvKernelArgs kernel_args = KernelArgs(args, packing);
  if (s.in % 8 == 0 && IsAligned(args.x, 16))
    return LaunchWithColumns<true>(packing.block_columns, kernel_args, stream);
  return LaunchWithColumns<false>(packing.block_columns, kernel_args, stream);
}

}  // namespace mrt
