// The kernels on rows: launchers for the contracts of kernels/rowwise/rowwise.h. Pointers lie on
// the device, rows one after the other. Each puts its work on the stream and throws like
// ops/cuda/check.h if it is refused.
#pragma once

#include <cuda_runtime.h>

#include "kernels/rowwise/rowwise.h"
#include "ops/linear.h"

namespace mrt::ops::cuda {

/// Whether this program has code for the current device.
bool HaveKernels();

/// The widest row of a norm.
inline constexpr int64_t kNormWidthMax = 12288;

/// x F32, y BF16.
void LayerNorm(const LayerNormArgs& args, int64_t rows, cudaStream_t stream);
void RmsNorm(const RmsNormArgs& args, int64_t rows, cudaStream_t stream);
/// x, y BF16.
void ChannelNorm(const ChannelNormArgs& args, int64_t rows, cudaStream_t stream);
/// x, y BF16; y token by token.
void RmsNormRope(const RmsNormRopeArgs& args, int64_t tokens, cudaStream_t stream);

enum class BinaryOp { kAdd, kAddRelu, kMultiply };
/// args.width is not looked at: `count` elements.
void Binary(BinaryOp op, const BinaryArgs& args, int64_t count, cudaStream_t stream);
void Cast(const CastArgs& args, int64_t count, cudaStream_t stream);
void ScaleBias(const ScaleBiasArgs& args, int64_t rows, cudaStream_t stream);
void Softmax(const SoftmaxArgs& args, int64_t rows, cudaStream_t stream);

/// y = activation(product + bias), or with `add` y += gate[row / rows_per_group] * (product +
/// bias): then y is F32 and the activation kNone.
struct FinishProductArgs {
  const float* product = nullptr;  // [rows, width]
  const float* bias = nullptr;     // [width] or null
  const float* gate = nullptr;     // [groups, width] or null; only with `add`
  RowsOut y;                       // any [rows, width]
  int64_t rows = 0, width = 0, rows_per_group = 1;
  Activation activation = Activation::kNone;
  bool add = false;
};
void FinishProduct(const FinishProductArgs& args, cudaStream_t stream);

/// x [count] = min(max(x, low), high).
struct ClampArgs {
  float* x = nullptr;
  float low = 0, high = 0;
  int64_t count = 0;
};
void Clamp(const ClampArgs& args, cudaStream_t stream);

/// y [count] = rint((x - low) * scale), clamped to [0, 255]; NaN becomes 0.
struct ToBytesArgs {
  const float* x = nullptr;
  uint8_t* y = nullptr;
  float low = 0, scale = 0;
  int64_t count = 0;
};
void ToBytes(const ToBytesArgs& args, cudaStream_t stream);

/// y [frames, 2 rows, 2 cols, pixel] = x [frames, rows, cols, pixel].
struct UpsampleArgs {
  const void* x = nullptr;
  void* y = nullptr;
  int64_t frames = 0, rows = 0, cols = 0, pixel_bytes = 0;  // the latter even
};
void UpsampleNearest2x(const UpsampleArgs& args, cudaStream_t stream);

}  // namespace mrt::ops::cuda
