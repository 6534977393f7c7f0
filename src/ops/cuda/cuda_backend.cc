// Memory, copies and matrix products of the backend.
#include "ops/cuda/cuda_backend.h"

#include <algorithm>
#include <stdexcept>
#include <string>
#include <utility>

#include "base/check.h"
#include "ops/cuda/conv.h"
#include "ops/cuda/linear.h"
#include "ops/cuda/rowwise_kernels.h"
#include "ops/storage.h"

namespace mrt::ops {
namespace {

bool IsOnDevice(const void* data) {
  cudaPointerAttributes attributes = {};
  CheckCuda("cudaPointerGetAttributes", cudaPointerGetAttributes(&attributes, data));
  return attributes.type == cudaMemoryTypeDevice || attributes.type == cudaMemoryTypeManaged;
}

}  // namespace

CudaBackend::DeviceMemory::DeviceMemory(int index)
    : pool({.allocate =
                [this, index](int64_t bytes) {
                  CheckCuda("cudaSetDevice", cudaSetDevice(index));
                  return AllocateOnDevice(bytes, meter).release();
                },
            .free =
                [this, index](void* data) {
                  static_cast<void>(cudaSetDevice(index));
                  FreeOnDevice{&meter}(data);
                }}) {}

CudaBackend::CudaBackend(int index)
    : CudaBackend(index, std::make_shared<DeviceMemory>(index), Priority::kLow) {}

CudaBackend::CudaBackend(CudaBackend& first)
    : CudaBackend(first.index_, first.memory_, Priority::kHigh) {}

CudaBackend::CudaBackend(int index, std::shared_ptr<DeviceMemory> memory, Priority priority)
    : index_(index), priority_(priority), memory_(std::move(memory)) {
  CheckCuda("cudaSetDevice", cudaSetDevice(index));
  int low = 0, high = 0;
  CheckCuda("cudaDeviceGetStreamPriorityRange", cudaDeviceGetStreamPriorityRange(&low, &high));
  cudaStream_t made = nullptr;
  CheckCuda("cudaStreamCreate",
            cudaStreamCreateWithPriority(&made, cudaStreamNonBlocking,
                                         priority == Priority::kHigh ? high : low));
  stream_.reset(made);
  uploads_ = std::make_unique<PinnedRing>();
  downloads_ = std::make_unique<PinnedRing>();
  matmul_ = std::make_unique<CublasMatmul>(memory_->meter);
}

CudaBackend::~CudaBackend() {
  // What is destroyed next may still be in use.
  static_cast<void>(cudaSetDevice(index_));
  static_cast<void>(cudaStreamSynchronize(stream_.get()));
}

cudaStream_t CudaBackend::stream() const {
  CheckCuda("cudaSetDevice", cudaSetDevice(index_));
  return stream_.get();
}

void* CudaBackend::Allocate(int64_t bytes) {
  return memory_->pool.Allocate(std::max<int64_t>(bytes, 1), static_cast<int>(priority_));
}

void CudaBackend::Free(void* data) noexcept {
  memory_->pool.Free(data, static_cast<int>(priority_));
}

void CudaBackend::Copy(void* to, const void* from, int64_t bytes) {
  if (bytes == 0) return;
  const cudaStream_t on = stream();
  const bool to_device = IsOnDevice(to), from_device = IsOnDevice(from);
  if (to_device && from_device)
    return CheckCuda(
        "cudaMemcpyAsync on the device",
        cudaMemcpyAsync(to, from, static_cast<size_t>(bytes), cudaMemcpyDeviceToDevice, on));
  MRT_CHECK(to_device || from_device);
  if (to_device) {
    const std::lock_guard<std::mutex> lock(upload_mutex_);
    uploads_->Upload(to, from, bytes, on);
  } else {
    const std::lock_guard<std::mutex> lock(download_mutex_);
    downloads_->Download(to, from, bytes, on);
  }
}

void CudaBackend::Synchronize() { CheckCuda("the device's work", cudaStreamSynchronize(stream())); }

void CudaBackend::Zero(void* data, int64_t bytes) {
  if (bytes == 0) return;
  CheckCuda("cudaMemsetAsync", cudaMemsetAsync(data, 0, static_cast<size_t>(bytes), stream()));
}

int64_t CudaBackend::available_bytes() {
  static_cast<void>(stream());
  size_t available = 0, total = 0;
  CheckCuda("cudaMemGetInfo", cudaMemGetInfo(&available, &total));
  return static_cast<int64_t>(available) + memory_->pool.kept_bytes();
}

DeviceOwner CudaBackend::ToDevice(const ConstTensorView& host, DType dtype) {
  if (host.dtype != DType::kF32 && host.dtype != DType::kBF16)
    return ToDevice(ToFloat32(host), dtype);
  const int64_t count = host.shape.elements();
  MRT_CHECK(count > 0);
  static_cast<void>(stream());
  DeviceOwner copy = AllocateOnDevice(host.bytes(), memory_->meter);
  Copy(copy.get(), host.data, host.bytes());
  if (host.dtype == dtype) return copy;
  DeviceOwner converted = AllocateOnDevice(count * DTypeSize(dtype), memory_->meter);
  cuda::Cast({.x = {copy.get(), Storage(host.dtype)},
              .y = {converted.get(), Storage(dtype)},
              .width = count},
             count, stream());
  return converted;  // the copy is freed after the cast: cudaFree waits
}

std::unique_ptr<BackendLinear> CudaBackend::MakeLinear(Context&, const ConstTensorView& weight,
                                                       const ConstTensorView& bias) {
  return std::make_unique<CudaLinear>(*this, weight, bias);
}

std::unique_ptr<BackendConv> CudaBackend::MakeConv(Context&, const ConstTensorView& weight,
                                                   const ConstTensorView& bias,
                                                   const ConvParams& params) {
  return std::make_unique<CudaConv>(*this, weight, bias, params);
}

void CudaBackend::BatchedMatmul(Context& context, const ConstTensorView& a,
                                const ConstTensorView& b, bool b_transposed, const TensorView& y,
                                Activation activation) {
  const ArenaScope scope(context.arena());
  const bool wide = a.dtype != b.dtype || (a.dtype == DType::kF32 && y.dtype != DType::kF32);
  const auto operand = [&](const ConstTensorView& x) -> ConstTensorView {
    if (!wide || x.dtype == DType::kF32) return x;
    const TensorView copy = context.Float(x.shape);
    Cast(context, x, copy);
    return copy;
  };
  // An activation, or a y narrower than the product, takes a pass of its own.
  const bool finish = activation != Activation::kNone || (wide && y.dtype != DType::kF32);
  const ConstTensorView left = operand(a), right = operand(b);
  const TensorView product = finish ? context.Float(y.shape) : y;
  const MatmulProblem problem{.batch = a.shape[0],
                              .rows = a.shape[1],
                              .in = a.shape[2],
                              .out = y.shape[2],
                              .x = left.dtype,
                              .y = product.dtype,
                              .w_transposed = b_transposed};
  if (!matmul_->Run(problem, {left.data, right.data, nullptr, product.data}, stream()))
    throw std::runtime_error("[cuda] cuBLASLt has no kernel for " + a.shape.ToString() + " times " +
                             b.shape.ToString());
  if (!finish) return;
  cuda::FinishProduct({.product = product.as<float>(),
                       .y = {y.data, Storage(y.dtype)},
                       .rows = y.shape.rows(),
                       .width = y.shape.back(),
                       .activation = activation},
                      stream());
}

}  // namespace mrt::ops
