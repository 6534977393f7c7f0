// Kernels on the rows of a dense [rows, width] matrix: contract of every implementation.
//
// Each kernel works on the rows [begin, end) only; the caller spreads ranges over threads. Sums and
// arithmetic are float32, whatever the storage. "any" below is F32 or BF16, chosen by the
// StorageType beside the pointer. Pointers need no more alignment than their element.
#pragma once

#include <cstdint>
#include <span>

#include "base/cpu_features.h"
#include "base/status.h"
#include "kernels/storage_type.h"

namespace mrt {

/// A matrix that is read or written: which, the kernel says.
struct RowsIn {
  const void* data = nullptr;
  StorageType storage = StorageType::kF32;
};
struct RowsOut {
  void* data = nullptr;
  StorageType storage = StorageType::kF32;
};

/// y = (x - mean) / sqrt(var + eps) * (scale[g] + scale_offset) + shift[g], g = row /
/// rows_per_group. var is the mean of (x - mean)^2. y may be x.
struct LayerNormArgs {
  RowsIn x;                      // any [rows, width]
  RowsOut y;                     // any [rows, width]
  const float* scale = nullptr;  // [groups, width]
  const float* shift = nullptr;  // [groups, width]
  int64_t width = 0;
  int64_t rows_per_group = 1;
  float scale_offset = 0;  // 1 for the modulation of diffusion transformers
  float eps = 0;
};

/// y = x / sqrt(mean(x^2) + eps) * weight. y may be x.
struct RmsNormArgs {
  RowsIn x;                       // any [rows, width]
  RowsOut y;                      // any [rows, width]
  const float* weight = nullptr;  // [width]
  int64_t width = 0;
  float eps = 0;
};

/// y = x / max(||x||_2, 1e-12) * sqrt(width) * gamma, then y / (1 + exp(-y)) if silu. y may be x.
struct ChannelNormArgs {
  RowsIn x;                      // any [rows, width]
  RowsOut y;                     // any [rows, width]
  const float* gamma = nullptr;  // [width]
  int64_t width = 0;
  bool silu = false;
};

/// x += gate * y.
struct AddGatedArgs {
  float* x = nullptr;           // [rows, width]
  const float* y = nullptr;     // [rows, width]
  const float* gate = nullptr;  // [width]
  int64_t width = 0;
};

/// x = x op y, element by element.
struct BinaryArgs {
  RowsOut x;  // any [rows, width], read and written
  RowsIn y;   // any [rows, width]
  int64_t width = 0;
};

/// y = x * scale + bias. y may be x.
struct ScaleBiasArgs {
  RowsIn x;                      // any [rows, width]
  RowsOut y;                     // any [rows, width]
  const float* scale = nullptr;  // [width]
  const float* bias = nullptr;   // [width]
  int64_t width = 0;
};

/// A row is a token. y = x / sqrt(mean(x^2) + eps) * weight, the mean over all heads; then each
/// head is rotated by the token's angles, on interleaved pairs: (x0, x1) -> (x0 cos - x1 sin, x0
/// sin + x1 cos).
struct RmsNormRopeArgs {
  RowsIn x;   // any [tokens, heads, head_dim]
  RowsOut y;  // any, laid out as y_strides say; may be x if that is as x
  TokenStrides y_strides;
  const float* weight = nullptr;  // [heads, head_dim]
  const float* cos = nullptr;     // [tokens, head_dim / 2]
  const float* sin = nullptr;     // [tokens, head_dim / 2]
  int64_t heads = 0;
  int64_t head_dim = 0;  // even
  float eps = 0;
};

/// y = x, laid out in another way.
struct MoveTokensArgs {
  RowsIn x;   // any [tokens, heads, head_dim]
  RowsOut y;  // any, laid out as y_strides say; never x
  TokenStrides y_strides;
  int64_t heads = 0;
  int64_t head_dim = 0;
};

/// x = softmax over a row of (x * scale). A row needs one finite element at least.
struct SoftmaxArgs {
  RowsOut x;  // any [rows, width], in place
  int64_t width = 0;
  float scale = 1;
};

/// y = x in the other storage; y may be x if the storages are equal.
struct CastArgs {
  RowsIn x;   // any [rows, width]
  RowsOut y;  // any [rows, width]
  int64_t width = 0;
};

/// x = the nearest bfloat16 of x, still float32; ties to even, NaN stays NaN.
struct RoundArgs {
  float* x = nullptr;  // [rows, width], in place
  int64_t width = 0;
};

/// q = x / scale + zero to the nearest integer, ties to even; each row has its own scale = (max -
/// min) / steps and integer zero, where 0 counts as one of x. So 0 is exact, and q is 0 to steps +
/// 1 (two roundings may add up). A row with a scale below 2^-100 gets scale 0, one with NaN or
/// infinity scale NaN; zero and q are 0 in both.
struct QuantizeArgs {
  RowsIn x;                  // any [rows, width]
  uint8_t* q = nullptr;      // [rows, width]; with `q_low` only q / kDigitBase
  uint8_t* q_low = nullptr;  // [rows, width]: q % kDigitBase, or null
  float* scale = nullptr;    // [rows]
  int32_t* zero = nullptr;   // [rows]
  int64_t width = 0;
  int steps = 254;  // at most; with `q_low` kDigitBase^2 - 2
};
inline constexpr int kDigitBase = 128;

enum class Epilogue : uint8_t { kNone, kGeluTanh, kSilu, kRelu };

/// y = epilogue((sum - zero[row] * weight_sum[c]) * scale[c] * row_scale[row] + bias[c]), where sum
/// is sum * kDigitBase + sum_low if there is a sum_low. With `add`, y += gate[c] * that, or y +=
/// that without a gate: then y is F32 and the epilogue kNone.
struct DequantizeArgs {
  const int32_t* sum = nullptr;         // [rows, width]
  const int32_t* sum_low = nullptr;     // [rows, width] or null
  const int32_t* weight_sum = nullptr;  // [width]
  const float* scale = nullptr;         // [width]
  const float* row_scale = nullptr;     // [rows]
  const int32_t* zero = nullptr;        // [rows]
  const float* bias = nullptr;          // [width]
  RowsOut y;                            // any [rows, width]
  int64_t width = 0;
  Epilogue epilogue = Epilogue::kNone;
  bool add = false;
  const float* gate = nullptr;  // [width] or null; only with `add`
};

/// One implementation: the same kernels, compiled for one instruction set.
struct RowwiseKernels {
  void (*layer_norm)(const LayerNormArgs& args, int64_t begin, int64_t end);
  void (*rms_norm)(const RmsNormArgs& args, int64_t begin, int64_t end);
  void (*channel_norm)(const ChannelNormArgs& args, int64_t begin, int64_t end);
  void (*add_gated)(const AddGatedArgs& args, int64_t begin, int64_t end);
  void (*add)(const BinaryArgs& args, int64_t begin, int64_t end);
  void (*add_relu)(const BinaryArgs& args, int64_t begin, int64_t end);
  void (*multiply)(const BinaryArgs& args, int64_t begin, int64_t end);
  void (*scale_bias)(const ScaleBiasArgs& args, int64_t begin, int64_t end);
  void (*rms_norm_rope)(const RmsNormRopeArgs& args, int64_t begin, int64_t end);
  void (*move_tokens)(const MoveTokensArgs& args, int64_t begin, int64_t end);
  void (*softmax)(const SoftmaxArgs& args, int64_t begin, int64_t end);
  void (*cast)(const CastArgs& args, int64_t begin, int64_t end);
  void (*round)(const RoundArgs& args, int64_t begin, int64_t end);
  void (*quantize)(const QuantizeArgs& args, int64_t begin, int64_t end);
  void (*dequantize)(const DequantizeArgs& args, int64_t begin, int64_t end);
};

struct RowwiseImpl {
  const char* name;
  /// Null if it runs on this CPU, else why not, as a sentence.
  const char* (*refuses)(const CpuFeatures& cpu);
  const RowwiseKernels* kernels;
};

/// All implementations, best first; the last one always applies.
std::span<const RowwiseImpl> RowwiseImpls();

/// The first that does not refuse; the one named by `forced` (or by MRT_ROWWISE_IMPL in the
/// environment if `forced` is empty). Unavailable with the reason if the forced one refuses,
/// InvalidArgument with the list of names if there is none of that name.
Result<const RowwiseImpl*> PickRowwise(const char* forced = "");

}  // namespace mrt
