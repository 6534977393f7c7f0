#include "kernels/dense/cuda/dense_cuda.h"

#include <cmath>
#include <limits>
#include <numbers>
#include <string>

#include "kernels/common/cuda/status.h"
#include "kernels/dense/cuda/dense.cuh"

namespace mrt {
namespace {

constexpr int kHeadsMax = 65535;  // the second dimension of a grid

Status Range(const char* what, int64_t got, int64_t max) {
  if (got >= 1 && got <= max) return {};
  return InvalidArgument(std::string("[dense] got ") + what + " " + std::to_string(got) +
                         ", need 1 to " + std::to_string(max));
}

Status Pointer(const char* what, const void* p, uintptr_t alignment) {
  if (p != nullptr && reinterpret_cast<uintptr_t>(p) % alignment == 0) return {};
  return InvalidArgument(std::string("[dense] got ") + what +
                         (p == nullptr ? " null" : " misaligned") + ", need a multiple of " +
                         std::to_string(alignment) + " bytes");
}

DenseKernelArgs KernelArgs(const DenseCudaArgs& args) {
  DenseKernelArgs k;
  k.heads = args.heads;
  k.tokens_q = static_cast<int>(args.tokens_q);
  k.tokens_per_frame = static_cast<int>(args.tokens_per_frame);
  k.tokens_kv = static_cast<int>(args.frames_kv * args.tokens_per_frame);
  k.scale_log2 = static_cast<float>(args.scale * std::numbers::log2e);
  k.q = static_cast<const Bits16*>(args.q);
  k.out = static_cast<Bits16*>(args.out);
  k.bias = args.bias;
  k.bias_head_stride = args.bias_head_stride;
  k.bias_query_stride = args.bias_query_stride;
  for (int f = 0; f < args.frames_kv; ++f) {
    k.k_frames[f] = static_cast<const Bits16*>(args.k_frames[f]);
    k.v_frames[f] = static_cast<const Bits16*>(args.v_frames[f]);
  }
  return k;
}

template <int kHeadDim, bool kQueryBias, StorageType kType>
Status Launch(const DenseCudaArgs& args, cudaStream_t stream) {
  using Tile = DenseTile<kHeadDim, kQueryBias, kType>;
  const auto kernel = DenseKernel<kHeadDim, kQueryBias, kType>;
  constexpr int kSmemBytes = sizeof(typename Tile::Smem);
  static_assert(kSmemBytes <= 99 * 1024);  // what every GPU since 8.6 has
  MRT_RETURN_IF_ERROR(FromCuda(
      "dense", "cudaFuncSetAttribute",
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kSmemBytes)));
  const int64_t blocks = (args.tokens_q + Tile::kBlockRows - 1) / Tile::kBlockRows;
  const dim3 grid(static_cast<unsigned>(blocks), static_cast<unsigned>(args.heads));
  kernel<<<grid, kDenseCudaThreads, kSmemBytes, stream>>>(KernelArgs(args));
  return FromCuda("dense", "the kernel launch", cudaGetLastError());
}

template <int kHeadDim, StorageType kType>
Status Launch(const DenseCudaArgs& args, cudaStream_t stream) {
  const bool key_bias = args.bias_head_stride == 0 && args.bias_query_stride == 0;
  return args.bias == nullptr || key_bias ? Launch<kHeadDim, false, kType>(args, stream)
                                          : Launch<kHeadDim, true, kType>(args, stream);
}

template <StorageType kType>
Status LaunchOf(const DenseCudaArgs& args, cudaStream_t stream) {
  switch (args.head_dim) {
    case 64: return Launch<64, kType>(args, stream);
    case 96: return Launch<96, kType>(args, stream);
    default: return Launch<128, kType>(args, stream);
  }
}

}  // namespace

Status ValidateDenseCuda(const DenseCudaArgs& args) {
  if (args.head_dim != 64 && args.head_dim != 96 && args.head_dim != 128)
    return Unavailable("[dense] the CUDA kernel needs head_dim 64, 96 or 128, got " +
                       std::to_string(args.head_dim));
  if (args.storage != StorageType::kBF16 && args.storage != StorageType::kF16)
    return Unavailable("[dense] the CUDA kernel stores bf16 and f16 only");
  constexpr int64_t kTokensMax = std::numeric_limits<int>::max() / 2;
  MRT_RETURN_IF_ERROR(Range("heads", args.heads, kHeadsMax));
  MRT_RETURN_IF_ERROR(Range("query tokens", args.tokens_q, kTokensMax));
  MRT_RETURN_IF_ERROR(Range("key frames", args.frames_kv, kDenseCudaFramesMax));
  MRT_RETURN_IF_ERROR(Range("tokens of a frame", args.tokens_per_frame, kTokensMax));
  MRT_RETURN_IF_ERROR(Range("key tokens", args.frames_kv * args.tokens_per_frame, kTokensMax));
  if (!std::isfinite(args.scale)) return InvalidArgument("[dense] got a scale that is not finite");
  MRT_RETURN_IF_ERROR(Pointer("q", args.q, 16));
  MRT_RETURN_IF_ERROR(Pointer("out", args.out, 16));
  MRT_RETURN_IF_ERROR(Pointer("k_frames", args.k_frames, 1));
  MRT_RETURN_IF_ERROR(Pointer("v_frames", args.v_frames, 1));
  for (int f = 0; f < args.frames_kv; ++f) {
    MRT_RETURN_IF_ERROR(Pointer("a frame of keys", args.k_frames[f], 16));
    MRT_RETURN_IF_ERROR(Pointer("a frame of values", args.v_frames[f], 16));
  }
  if (args.bias != nullptr) MRT_RETURN_IF_ERROR(Pointer("bias", args.bias, 4));
  return {};
}

Status RunDenseCuda(const DenseCudaArgs& args, CUstream_st* stream) {
  MRT_RETURN_IF_ERROR(ValidateDenseCuda(args));
  return args.storage == StorageType::kF16 ? LaunchOf<StorageType::kF16>(args, stream)
                                           : LaunchOf<StorageType::kBF16>(args, stream);
}

}  // namespace mrt
