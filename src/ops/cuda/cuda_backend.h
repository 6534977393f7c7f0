// The operations on one GPU: cuBLASLt for products, our own kernels for the rest, all on one
// stream of the backend's own. Activations are BF16 (Precision::kBF16).
#pragma once

#include <memory>
#include <mutex>

#include "ops/backend.h"
#include "ops/cuda/handles.h"
#include "ops/cuda/matmul.h"
#include "ops/cuda/transfer.h"
#include "tensor/memory_pool.h"

namespace mrt::ops {

class CudaBackend : public Backend {
 public:
  /// Throws like its operations if the device cannot be used.
  explicit CudaBackend(int index);
  /// Of the same device; the work of `first` waits where its own wants the device.
  explicit CudaBackend(CudaBackend& first);
  ~CudaBackend() override;

  void* Allocate(int64_t bytes) override;
  void Free(void* data) noexcept override;
  void Copy(void* to, const void* from, int64_t bytes) override;
  void Zero(void* data, int64_t bytes) override;

  int64_t peak_bytes() const override { return memory_->meter.peak_bytes(); }
  int64_t available_bytes() override;
  void Synchronize() override;
  std::unique_ptr<Backend> NewStream() override { return std::make_unique<CudaBackend>(*this); }

  std::unique_ptr<BackendLinear> MakeLinear(Context& context, const ConstTensorView& weight,
                                            const ConstTensorView& bias) override;
  std::unique_ptr<BackendConv> MakeConv(Context& context, const ConstTensorView& weight,
                                        const ConstTensorView& bias,
                                        const ConvParams& params) override;
  void BatchedMatmul(Context& context, const ConstTensorView& a, const ConstTensorView& b,
                     bool b_transposed, const TensorView& y, Activation activation) override;

  void LayerNormModulate(Context& context, const ConstTensorView& x, const ConstTensorView& scale,
                         const ConstTensorView& shift, float eps, const TensorView& y) override;
  void LayerNorm(Context& context, const ConstTensorView& x, const ConstTensorView& weight,
                 const ConstTensorView& bias, float eps, const TensorView& y) override;
  void RmsNorm(Context& context, const ConstTensorView& x, const ConstTensorView& weight, float eps,
               const TensorView& y) override;
  void ChannelNorm(Context& context, const ConstTensorView& x, const ConstTensorView& gamma,
                   bool silu, const TensorView& y) override;
  void Add(Context& context, const TensorView& x, const ConstTensorView& y, bool relu) override;
  void Multiply(Context& context, const TensorView& x, const ConstTensorView& y) override;
  void RmsNormRope(Context& context, const TensorView& x, const RotaryNorm& norm) override;
  void StoreKeys(Context& context, const ConstTensorView& x, const RotaryNorm& norm,
                 const KvFrames& kv) override;
  void StoreValues(Context& context, const ConstTensorView& x, const KvFrames& kv) override;
  void Cast(Context& context, const ConstTensorView& x, const TensorView& y) override;
  void ScaleBias(Context& context, const ConstTensorView& x, const ConstTensorView& scale,
                 const ConstTensorView& bias, const TensorView& y) override;
  void Softmax(Context& context, const TensorView& x, float scale) override;
  void Clamp(Context& context, const TensorView& x, float low, float high) override;
  void ToBytes(Context& context, const ConstTensorView& x, float low, float high,
               const TensorView& y) override;
  void UpsampleNearest2x(Context& context, const ConstTensorView& x, const TensorView& y) override;

  Status ValidateAttention(const AttentionConfig& config, const AttentionGrid& grid, int frames_q,
                           int frames_kv) override;
  int64_t AttentionScratchBytes(const AttentionConfig& config, const AttentionGrid& grid,
                                int frames_q, int frames_kv) override;
  void SelfAttention(Context& context, const AttentionConfig& config, const AttentionGrid& grid,
                     const ConstTensorView& q, const KvFrames& kv, const TensorView& out) override;
  void DenseAttention(Context& context, const ConstTensorView& q, const ConstTensorView& k,
                      const ConstTensorView& v, float scale, const ConstTensorView& bias,
                      const TensorView& out) override;

  /// The stream of all work. Also makes the device the calling thread's current one, which CUDA's
  /// calls need.
  cudaStream_t stream() const;
  CublasMatmul& matmul() { return *matmul_; }
  /// A copy of a host tensor, of any floating point dtype, as `dtype` (F32 or BF16).
  DeviceOwner ToDevice(const ConstTensorView& host, DType dtype);

 private:
  /// Of both streams. The pool is for what Allocate gives, the weights of matrices are beside it.
  struct DeviceMemory {
    explicit DeviceMemory(int index);
    MemoryMeter meter;
    MemoryPool pool;
  };
  enum class Priority { kHigh, kLow };
  CudaBackend(int index, std::shared_ptr<DeviceMemory> memory, Priority priority);

  const int index_;
  const Priority priority_;
  const std::shared_ptr<DeviceMemory> memory_;  // before everything that lies on the device
  StreamOwner stream_;
  // Each guarded by its mutex. Two, so that nobody's upload waits with somebody's download.
  std::mutex upload_mutex_, download_mutex_;
  std::unique_ptr<PinnedRing> uploads_, downloads_;
  std::unique_ptr<CublasMatmul> matmul_;
};

}  // namespace mrt::ops
