// Element by element: eight of them for each thread.
#include <algorithm>

#include "base/check.h"
#include "ops/cuda/check.h"
#include "ops/cuda/rowwise_kernels.h"
#include "ops/cuda/vectors.cuh"

namespace mrt::ops::cuda {
namespace {

using Bf16 = __nv_bfloat16;
constexpr int kThreads = 256;

unsigned BlocksFor(int64_t threads) {
  MRT_CHECK(threads < int64_t{1} << 32);  // kernels count them in 32 bits
  return static_cast<unsigned>((threads + kThreads - 1) / kThreads);
}

int64_t VectorsOf(int64_t count) { return (count + kVector - 1) / kVector; }

__device__ __forceinline__ uint32_t ThreadIndex() { return blockIdx.x * kThreads + threadIdx.x; }

/// Calls body(X*, Y*) with pointers of the storages' element types.
template <typename Body>
void WithElements(const void* x, StorageType x_storage, void* y, StorageType y_storage, Body body) {
  const auto with_y = [&](auto* typed_x) {
    if (y_storage == StorageType::kF32) return body(typed_x, static_cast<float*>(y));
    body(typed_x, static_cast<Bf16*>(y));
  };
  if (x_storage == StorageType::kF32) return with_y(static_cast<const float*>(x));
  with_y(static_cast<const Bf16*>(x));
}

template <BinaryOp kOp>
__device__ __forceinline__ float Combine(float x, float y) {
  if constexpr (kOp == BinaryOp::kMultiply) return x * y;
  const float sum = x + y;
  return kOp == BinaryOp::kAddRelu && sum < 0.0f ? 0.0f : sum;
}

template <BinaryOp kOp, typename X, typename Y>
__global__ void __launch_bounds__(kThreads)
    BinaryKernel(X* x, const Y* y, int64_t count, bool aligned) {
  const int64_t begin = int64_t{ThreadIndex()} * kVector, left = count - begin;
  if (left <= 0) return;
  const bool whole = aligned && left >= kVector;
  float a[kVector], b[kVector];
  Load(x + begin, left, whole, a);
  Load(y + begin, left, whole, b);
#pragma unroll
  for (int i = 0; i < kVector; ++i) a[i] = Combine<kOp>(a[i], b[i]);
  Store(x + begin, left, whole, a);
}

template <BinaryOp kOp>
void LaunchBinary(const BinaryArgs& args, int64_t count, cudaStream_t stream) {
  const bool aligned = IsAligned(args.x.data) && IsAligned(args.y.data);
  WithElements(args.y.data, args.y.storage, args.x.data, args.x.storage,
               [&]<typename Y, typename X>(const Y* y, X* x) {
                 BinaryKernel<kOp, X, Y>
                     <<<BlocksFor(VectorsOf(count)), kThreads, 0, stream>>>(x, y, count, aligned);
               });
  CheckLaunch("the launch of an addition or a multiplication");
}

template <typename X, typename Y>
__global__ void __launch_bounds__(kThreads)
    CastKernel(const X* x, Y* y, int64_t count, bool aligned) {
  const int64_t begin = int64_t{ThreadIndex()} * kVector, left = count - begin;
  if (left <= 0) return;
  const bool whole = aligned && left >= kVector;
  float v[kVector];
  Load(x + begin, left, whole, v);
  Store(y + begin, left, whole, v);
}

/// The place of a vector: rows are cut into vectors, the last of each may be a part.
struct Place {
  int64_t row = 0, column = 0, left = 0;
  bool inside = false;
};

__device__ __forceinline__ Place PlaceOf(int64_t rows, int64_t width) {
  const auto vectors = static_cast<uint32_t>((width + kVector - 1) / kVector);
  const uint32_t index = ThreadIndex(), row = index / vectors;
  const int64_t column = int64_t{index % vectors} * kVector;
  return {row, column, width - column, row < rows};
}

template <typename X, typename Y>
__global__ void __launch_bounds__(kThreads)
    ScaleBiasKernel(const X* x, Y* y, const float* scale, const float* bias, int64_t rows,
                    int64_t width, bool aligned) {
  const Place at = PlaceOf(rows, width);
  if (!at.inside) return;
  const bool whole = aligned && at.left >= kVector;
  float v[kVector], s[kVector], b[kVector];
  Load(x + at.row * width + at.column, at.left, whole, v);
  Load(scale + at.column, at.left, whole, s);
  Load(bias + at.column, at.left, whole, b);
#pragma unroll
  for (int i = 0; i < kVector; ++i) v[i] = v[i] * s[i] + b[i];
  Store(y + at.row * width + at.column, at.left, whole, v);
}

__device__ __forceinline__ float Activate(Activation activation, float x) {
  constexpr float kTwiceRootTwoOverPi = 1.59576912f;  // 1 + tanh(u / 2) = 2 / (1 + exp(-u))
  switch (activation) {
    case Activation::kNone: return x;
    case Activation::kGeluTanh:
      return x / (1.0f + __expf(x * -kTwiceRootTwoOverPi * (x * x * 0.044715f + 1.0f)));
    case Activation::kSilu: return Silu(x);
    case Activation::kRelu: return x < 0.0f ? 0.0f : x;
  }
  return x;
}

template <typename Y>
__global__ void __launch_bounds__(kThreads)
    FinishProductKernel(const FinishProductArgs args, bool aligned) {
  const Place at = PlaceOf(args.rows, args.width);
  if (!at.inside) return;
  const bool whole = aligned && at.left >= kVector;
  const int64_t offset = at.row * args.width + at.column;
  Y* const y = static_cast<Y*>(args.y.data) + offset;
  float v[kVector], other[kVector];
  Load(args.product + offset, at.left, whole, v);
  if (args.bias != nullptr) {
    Load(args.bias + at.column, at.left, whole, other);
#pragma unroll
    for (int i = 0; i < kVector; ++i) v[i] += other[i];
  }
  if (args.gate != nullptr) {
    const int64_t group =
        static_cast<uint32_t>(at.row) / static_cast<uint32_t>(args.rows_per_group);
    Load(args.gate + group * args.width + at.column, at.left, whole, other);
#pragma unroll
    for (int i = 0; i < kVector; ++i) v[i] *= other[i];
  }
  if (args.add) {
    Load(y, at.left, whole, other);
#pragma unroll
    for (int i = 0; i < kVector; ++i) v[i] += other[i];
  }
#pragma unroll
  for (int i = 0; i < kVector; ++i) v[i] = Activate(args.activation, v[i]);
  Store(y, at.left, whole, v);
}

template <typename Unit>
__global__ void __launch_bounds__(kThreads)
    UpsampleKernel(const UpsampleArgs args, uint32_t units) {
  // One thread for each unit of x: it writes four of y.
  const auto row_units = static_cast<uint32_t>(args.cols) * units;
  const uint32_t index = ThreadIndex();
  if (index >= args.frames * args.rows * row_units) return;
  const int64_t row = index / row_units, col = index % row_units / units, unit = index % units;
  const Unit value = static_cast<const Unit*>(args.x)[index];
  Unit* const y = static_cast<Unit*>(args.y) + (4 * row * args.cols + 2 * col) * units + unit;
  y[0] = value;
  y[units] = value;
  y[2 * row_units] = value;
  y[2 * row_units + units] = value;
}

}  // namespace

void Binary(BinaryOp op, const BinaryArgs& args, int64_t count, cudaStream_t stream) {
  if (count == 0) return;
  switch (op) {
    case BinaryOp::kAdd: return LaunchBinary<BinaryOp::kAdd>(args, count, stream);
    case BinaryOp::kAddRelu: return LaunchBinary<BinaryOp::kAddRelu>(args, count, stream);
    case BinaryOp::kMultiply: return LaunchBinary<BinaryOp::kMultiply>(args, count, stream);
  }
}

void Cast(const CastArgs& args, int64_t count, cudaStream_t stream) {
  if (count == 0) return;
  const bool aligned = IsAligned(args.x.data) && IsAligned(args.y.data);
  WithElements(args.x.data, args.x.storage, args.y.data, args.y.storage,
               [&]<typename X, typename Y>(const X* x, Y* y) {
                 CastKernel<X, Y>
                     <<<BlocksFor(VectorsOf(count)), kThreads, 0, stream>>>(x, y, count, aligned);
               });
  CheckLaunch("the launch of a cast");
}

void ScaleBias(const ScaleBiasArgs& args, int64_t rows, cudaStream_t stream) {
  if (rows == 0 || args.width == 0) return;
  const bool aligned = args.width % kVector == 0 && IsAligned(args.x.data) &&
                       IsAligned(args.y.data) && IsAligned(args.scale) && IsAligned(args.bias);
  WithElements(args.x.data, args.x.storage, args.y.data, args.y.storage,
               [&]<typename X, typename Y>(const X* x, Y* y) {
                 ScaleBiasKernel<X, Y>
                     <<<BlocksFor(rows * VectorsOf(args.width)), kThreads, 0, stream>>>(
                         x, y, args.scale, args.bias, rows, args.width, aligned);
               });
  CheckLaunch("the launch of a scaling");
}

void FinishProduct(const FinishProductArgs& args, cudaStream_t stream) {
  if (args.rows == 0 || args.width == 0) return;
  MRT_CHECK(!args.add ||
            (args.y.storage == StorageType::kF32 && args.activation == Activation::kNone));
  MRT_CHECK(args.rows_per_group > 0);
  const bool aligned = args.width % kVector == 0 && IsAligned(args.product) &&
                       IsAligned(args.bias) && IsAligned(args.gate) && IsAligned(args.y.data);
  const unsigned blocks = BlocksFor(args.rows * VectorsOf(args.width));
  if (args.y.storage == StorageType::kF32) {
    FinishProductKernel<float><<<blocks, kThreads, 0, stream>>>(args, aligned);
  } else {
    FinishProductKernel<Bf16><<<blocks, kThreads, 0, stream>>>(args, aligned);
  }
  CheckLaunch("the launch that finishes a product");
}

void UpsampleNearest2x(const UpsampleArgs& args, cudaStream_t stream) {
  const int64_t bytes = args.frames * args.rows * args.cols * args.pixel_bytes;
  if (bytes == 0) return;
  const auto launch = [&]<typename Unit>(Unit) {
    const int64_t unit_bytes = sizeof(Unit);
    UpsampleKernel<Unit><<<BlocksFor(bytes / unit_bytes), kThreads, 0, stream>>>(
        args, static_cast<uint32_t>(args.pixel_bytes / unit_bytes));
  };
  if (args.pixel_bytes % 16 == 0 && IsAligned(args.x) && IsAligned(args.y)) {
    launch(uint4{});
  } else {
    MRT_CHECK(args.pixel_bytes % 2 == 0);
    launch(uint16_t{});
  }
  CheckLaunch("the launch of an upsampling");
}

}  // namespace mrt::ops::cuda
