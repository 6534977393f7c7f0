// The operations on rows: tensors to the kernels' arguments.
#include "ops/cuda/rowwise_kernels.h"

#include <algorithm>
#include <span>

#include "base/check.h"
#include "ops/cuda/cuda_backend.h"
#include "ops/storage.h"

namespace mrt::ops {
namespace {

/// Keys and values lie token by token, as the attention kernels of the device read them.
RmsNormRopeArgs TokenMajorArgs(const ConstTensorView& x, const RotaryNorm& norm, void* y) {
  const int64_t heads = x.shape[1], head_dim = x.shape[2];
  return {.x = In(x),
          .y = {y, StorageType::kBF16},
          .y_strides = StridesOf(KvLayout::kTokenMajor, x.shape[0], heads, head_dim),
          .weight = norm.weight.as<float>(),
          .cos = norm.cos.as<float>(),
          .sin = norm.sin.as<float>(),
          .heads = heads,
          .head_dim = head_dim,
          .eps = norm.eps};
}

/// Calls body(first, count, where they lie) for each run of frames that lie one after the other.
template <typename Body>
void ForEachRun(std::span<void* const> frames, int64_t frame_bytes, Body body) {
  for (size_t first = 0, end = 1; first < frames.size(); first = end++) {
    while (end < frames.size() &&
           frames[end] == static_cast<const char*>(frames[end - 1]) + frame_bytes)
      ++end;
    body(static_cast<int64_t>(first), static_cast<int64_t>(end - first), frames[first]);
  }
}

}  // namespace

void CudaBackend::LayerNormModulate(Context&, const ConstTensorView& x,
                                    const ConstTensorView& scale, const ConstTensorView& shift,
                                    float eps, const TensorView& y) {
  const int64_t rows = x.shape.rows(), groups = scale.shape.rows();
  MRT_CHECK(groups > 0 && rows % groups == 0);
  cuda::LayerNorm({.x = In(x),
                   .y = Out(y),
                   .scale = scale.as<float>(),
                   .shift = shift.as<float>(),
                   .width = x.shape.back(),
                   .rows_per_group = std::max<int64_t>(1, rows / groups),
                   .scale_offset = 1,
                   .eps = eps},
                  rows, stream());
}

void CudaBackend::LayerNorm(Context&, const ConstTensorView& x, const ConstTensorView& weight,
                            const ConstTensorView& bias, float eps, const TensorView& y) {
  const int64_t rows = x.shape.rows();
  cuda::LayerNorm({.x = In(x),
                   .y = Out(y),
                   .scale = weight.as<float>(),
                   .shift = bias.as<float>(),
                   .width = x.shape.back(),
                   .rows_per_group = std::max<int64_t>(1, rows),
                   .eps = eps},
                  rows, stream());
}

void CudaBackend::RmsNorm(Context&, const ConstTensorView& x, const ConstTensorView& weight,
                          float eps, const TensorView& y) {
  cuda::RmsNorm({In(x), Out(y), weight.as<float>(), x.shape.back(), eps}, x.shape.rows(), stream());
}

void CudaBackend::ChannelNorm(Context&, const ConstTensorView& x, const ConstTensorView& gamma,
                              bool silu, const TensorView& y) {
  cuda::ChannelNorm({In(x), Out(y), gamma.as<float>(), x.shape.back(), silu}, x.shape.rows(),
                    stream());
}

void CudaBackend::Add(Context&, const TensorView& x, const ConstTensorView& y, bool relu) {
  cuda::Binary(relu ? cuda::BinaryOp::kAddRelu : cuda::BinaryOp::kAdd, {Out(x), In(y), 1},
               x.shape.elements(), stream());
}

void CudaBackend::Multiply(Context&, const TensorView& x, const ConstTensorView& y) {
  cuda::Binary(cuda::BinaryOp::kMultiply, {Out(x), In(y), 1}, x.shape.elements(), stream());
}

void CudaBackend::RmsNormRope(Context&, const TensorView& x, const RotaryNorm& norm) {
  cuda::RmsNormRope(TokenMajorArgs(x, norm, x.data), x.shape[0], stream());
}

void CudaBackend::StoreKeys(Context&, const ConstTensorView& x, const RotaryNorm& norm,
                            const KvFrames& kv) {
  MRT_CHECK(kv.dtype == DType::kBF16 && x.dtype == DType::kBF16);
  const auto count = static_cast<int64_t>(kv.size());
  const int64_t tokens = x.shape[0] / count;
  ForEachRun(kv.keys, x.bytes() / count, [&](int64_t first, int64_t frames, void* to) {
    const int64_t begin = first * tokens, end = begin + frames * tokens;
    const RotaryNorm of_frames{.weight = norm.weight,
                               .cos = norm.cos.Slice(begin, end),
                               .sin = norm.sin.Slice(begin, end),
                               .eps = norm.eps};
    cuda::RmsNormRope(TokenMajorArgs(x.Slice(begin, end), of_frames, to), end - begin, stream());
  });
}

void CudaBackend::StoreValues(Context&, const ConstTensorView& x, const KvFrames& kv) {
  MRT_CHECK(kv.dtype == DType::kBF16 && x.dtype == DType::kBF16);
  const int64_t frame_bytes = x.bytes() / static_cast<int64_t>(kv.size());
  if (frame_bytes == 0) return;
  ForEachRun(kv.values, frame_bytes, [&](int64_t first, int64_t frames, void* to) {
    const char* const from = static_cast<const char*>(x.data) + first * frame_bytes;
    CheckCuda("cudaMemcpyAsync of values",
              cudaMemcpyAsync(to, from, static_cast<size_t>(frames * frame_bytes),
                              cudaMemcpyDeviceToDevice, stream()));
  });
}

void CudaBackend::Cast(Context&, const ConstTensorView& x, const TensorView& y) {
  cuda::Cast({In(x), Out(y), 1}, x.shape.elements(), stream());
}

void CudaBackend::ScaleBias(Context&, const ConstTensorView& x, const ConstTensorView& scale,
                            const ConstTensorView& bias, const TensorView& y) {
  cuda::ScaleBias({In(x), Out(y), scale.as<float>(), bias.as<float>(), x.shape.back()},
                  x.shape.rows(), stream());
}

void CudaBackend::Softmax(Context&, const TensorView& x, float scale) {
  cuda::Softmax({Out(x), x.shape.back(), scale}, x.shape.rows(), stream());
}

void CudaBackend::Clamp(Context&, const TensorView& x, float low, float high) {
  cuda::Clamp({x.as<float>(), low, high, x.shape.elements()}, stream());
}

void CudaBackend::ToBytes(Context&, const ConstTensorView& x, float low, float high,
                          const TensorView& y) {
  cuda::ToBytes({.x = x.as<float>(),
                 .y = static_cast<uint8_t*>(y.data),
                 .low = low,
                 .scale = 255.0f / (high - low),
                 .count = x.shape.elements()},
                stream());
}

void CudaBackend::UpsampleNearest2x(Context&, const ConstTensorView& x, const TensorView& y) {
  cuda::UpsampleNearest2x({.x = x.data,
                           .y = y.data,
                           .frames = x.shape[0],
                           .rows = x.shape[1],
                           .cols = x.shape[2],
                           .pixel_bytes = x.shape[3] * DTypeSize(x.dtype)},
                          stream());
}

}  // namespace mrt::ops
