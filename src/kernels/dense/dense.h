// Plain softmax attention without ever storing the attention map: contract of every implementation.
//
//   o[i] = sum over l of softmax over l (scale * q[i] . k[l] + bias[i,l]) * v[l]     for each head
#pragma once

#include <cstdint>
#include <span>

#include "base/cpu_features.h"
#include "base/status.h"
#include "kernels/storage_type.h"

namespace mrt {

struct DenseShape {
  int heads = 1;
  int64_t tokens_q = 1;
  int64_t tokens_per_frame = 1;  // key tokens in one frame
  int frames_kv = 1;
  int head_dim = 128;
  // Block-causal, as in MonarchShape: n > 0 means a query frame (tokens_per_frame tokens) sees the
  // key frames of its own block of n frames and before.
  int causal_block_frames = 0;
  float scale = 1;  // usually 1/sqrt(head_dim)
  StorageType storage = StorageType::kF32;
  KvLayout kv_layout = KvLayout::kTokenMajor;
  bool kv_bf16 = false;  // keys and values are bfloat16, whatever `storage` is

  TokenStrides q_strides() const {
    return StridesOf(KvLayout::kTokenMajor, tokens_q, heads, head_dim);
  }
  StorageType kv_storage() const { return kv_bf16 ? StorageType::kBF16 : storage; }
  TokenStrides kv_strides() const {
    return StridesOf(kv_layout, tokens_per_frame, heads, head_dim);
  }
};

struct DenseArgs {
  DenseShape shape;
  const void* q = nullptr;                // [tokens_q, heads, head_dim]
  const void* const* k_frames = nullptr;  // frames_kv pointers to kv_layout
  const void* const* v_frames = nullptr;
  const float* bias = nullptr;  // [heads, tokens_q, keys], or [keys] if key_bias, where keys are
                                // frames_kv * tokens_per_frame; or null
  bool key_bias = false;        // all heads and queries have the same bias
  void* out = nullptr;          // [tokens_q, heads, head_dim]; must not alias the inputs
  void* scratch = nullptr;      // scratch_bytes of the shape and ThreadCount(), 64-byte aligned
};

/// Where the biases of a head's query begin: the first element in `bias`, and how far the next
/// query's are.
struct BiasPlace {
  int64_t first = 0;
  int64_t query_stride = 0;
};
BiasPlace FindBias(const DenseArgs& args, int64_t head, int64_t query);

/// Ok, or InvalidArgument with got and need.
Status ValidateDense(const DenseShape& shape);

/// Query token `token` sees the key frames [0, VisibleKeyFrames(shape, token)).
int64_t VisibleKeyFrames(const DenseShape& shape, int64_t token);

/// Floating point operations of the two matrix products, a multiplication and an addition counted
/// as two.
double DenseFlop(const DenseShape& shape);

struct DenseImpl {
  const char* name;
  const char* (*refuses)(const DenseShape& shape, const CpuFeatures& cpu);
  int64_t (*scratch_bytes)(const DenseShape& shape, int threads);
  void (*run)(const DenseArgs& args);
  /// The operands of its matrix products are rounded to bfloat16: Rounding::kBf16Operands says what
  /// that costs.
  bool bf16_products = false;
};

std::span<const DenseImpl> DenseImpls();

/// As PickMonarch; the environment variable is MRT_DENSE_IMPL.
Result<const DenseImpl*> PickDense(const DenseShape& shape, const char* forced = "");

}  // namespace mrt
