// Dense attention on an NVIDIA GPU: the operation of kernels/dense/dense.h, bf16 or f16, head_dim
// 64, 96 or 128, compute capability 8.0 or higher. Built only with MRT_CUDA.
#pragma once

#include <cstdint>

#include "base/status.h"
#include "kernels/storage_type.h"

struct CUstream_st;  // cudaStream_t is a pointer to it

namespace mrt {

// Pointers of both tensors are kernel parameters.
inline constexpr int kDenseCudaFramesMax = 1024;

/// Self-attention over frames of a cache, or cross-attention to one block of tokens (frames_kv = 1,
/// any number of tokens). Tensors are in device memory, 16-byte aligned; k_frames and v_frames
/// themselves are host arrays, read before RunDenseCuda returns.
struct DenseCudaArgs {
  int heads = 1;
  int head_dim = 128;
  int64_t tokens_q = 1;
  int64_t tokens_per_frame = 1;  // key tokens in one frame
  int frames_kv = 1;
  StorageType storage = StorageType::kBF16;  // or kF16, of all tensors
  float scale = 1;                           // usually 1/sqrt(head_dim)
  const void* q = nullptr;                   // [tokens_q, heads, head_dim]
  const void* const* k_frames =
      nullptr;  // frames_kv pointers to [tokens_per_frame, heads, head_dim]
  const void* const* v_frames = nullptr;  // the same for the values
  const float* bias = nullptr;  // in device memory, added to the scaled scores; or null. Of a head,
                                // a query and a key: bias[head * bias_head_stride + query *
                                // bias_query_stride + key]; strides may be 0 or negative
  int64_t bias_head_stride = 0, bias_query_stride = 0;
  void* out = nullptr;  // [tokens_q, heads, head_dim]; may be q, must not alias k or v
};

/// Ok, InvalidArgument with got and need, or Unavailable if no kernel takes this head_dim. Looks at
/// the pointers too, not at the GPU.
Status ValidateDenseCuda(const DenseCudaArgs& args);

/// Puts the operation on the stream and returns; needs no scratch, and the result does not change
/// from run to run. Errors: as above; Unavailable if there is no device that has the kernel;
/// Internal with the CUDA call's own words.
Status RunDenseCuda(const DenseCudaArgs& args, CUstream_st* stream);

}  // namespace mrt
