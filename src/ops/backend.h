// A device other than the CPU, as the operations see it: memory, and one function for each
// operation of linear.h, conv.h, rowwise.h and attention.h. A Context has one or none; with none,
// operations run on the CPU.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/status.h"
#include "ops/attention.h"
#include "ops/conv.h"
#include "ops/linear.h"
#include "ops/rowwise.h"
#include "tensor/memory.h"

namespace mrt::ops {

/// A weight on the device. Tensors of Run and AddTo lie there as well.
class BackendLinear {
 public:
  virtual ~BackendLinear() = default;
  virtual void Run(Context& context, const ConstTensorView& x, const TensorView& y,
                   Activation activation) const = 0;
  virtual void AddTo(Context& context, const ConstTensorView& x, const TensorView& residual,
                     const ConstTensorView& gate) const = 0;
  virtual int64_t bytes() const = 0;
};

class BackendConv {
 public:
  virtual ~BackendConv() = default;
  /// x [time, rows, columns, in], y of Conv::OutputShape.
  virtual void Run(Context& context, const ConstTensorView& x, const TensorView& y,
                   Activation activation) const = 0;
  virtual int64_t bytes() const = 0;
};

/// Functions have the contracts of the operations of the same names, which have checked shapes and
/// dtypes before they call them. All tensors but those of MakeLinear and MakeConv lie on the
/// device; work is put on one stream, in order, and may be under way when a function returns.
/// Errors of the device are thrown as std::runtime_error, lack of memory as std::bad_alloc.
class Backend : public Memory {
 public:
  ~Backend() override = default;

  /// The most memory that was allocated at one time, weights included. Not counted is what the
  /// driver and the vendor's libraries take for themselves.
  virtual int64_t peak_bytes() const = 0;
  /// What Allocate can still give.
  virtual int64_t available_bytes() = 0;
  /// Waits for all work.
  virtual void Synchronize() = 0;

  /// The same device with another stream, whose work runs beside this one's, and before it where
  /// there is no room for both. Tensors of one are not for operations of the other. Both count the
  /// memory of both. This one must outlive it.
  virtual std::unique_ptr<Backend> NewStream() = 0;

  /// `weight` [out, in] and `bias` [out] or empty lie in host memory, any floating point dtype, and
  /// are not needed afterwards.
  virtual std::unique_ptr<BackendLinear> MakeLinear(Context& context, const ConstTensorView& weight,
                                                    const ConstTensorView& bias) = 0;
  /// Likewise, `weight` [out, in, time, rows, columns].
  virtual std::unique_ptr<BackendConv> MakeConv(Context& context, const ConstTensorView& weight,
                                                const ConstTensorView& bias,
                                                const ConvParams& params) = 0;
  virtual void BatchedMatmul(Context& context, const ConstTensorView& a, const ConstTensorView& b,
                             bool b_transposed, const TensorView& y, Activation activation) = 0;

  virtual void LayerNormModulate(Context& context, const ConstTensorView& x,
                                 const ConstTensorView& scale, const ConstTensorView& shift,
                                 float eps, const TensorView& y) = 0;
  virtual void LayerNorm(Context& context, const ConstTensorView& x, const ConstTensorView& weight,
                         const ConstTensorView& bias, float eps, const TensorView& y) = 0;
  virtual void RmsNorm(Context& context, const ConstTensorView& x, const ConstTensorView& weight,
                       float eps, const TensorView& y) = 0;
  virtual void ChannelNorm(Context& context, const ConstTensorView& x, const ConstTensorView& gamma,
                           bool silu, const TensorView& y) = 0;
  virtual void Add(Context& context, const TensorView& x, const ConstTensorView& y, bool relu) = 0;
  virtual void Multiply(Context& context, const TensorView& x, const ConstTensorView& y) = 0;
  virtual void RmsNormRope(Context& context, const TensorView& x, const RotaryNorm& norm) = 0;
  virtual void StoreKeys(Context& context, const ConstTensorView& x, const RotaryNorm& norm,
                         const KvFrames& kv) = 0;
  virtual void StoreValues(Context& context, const ConstTensorView& x, const KvFrames& kv) = 0;
  virtual void Cast(Context& context, const ConstTensorView& x, const TensorView& y) = 0;
  virtual void ScaleBias(Context& context, const ConstTensorView& x, const ConstTensorView& scale,
                         const ConstTensorView& bias, const TensorView& y) = 0;
  virtual void Softmax(Context& context, const TensorView& x, float scale) = 0;
  virtual void Clamp(Context& context, const TensorView& x, float low, float high) = 0;
  virtual void ToBytes(Context& context, const ConstTensorView& x, float low, float high,
                       const TensorView& y) = 0;
  virtual void UpsampleNearest2x(Context& context, const ConstTensorView& x,
                                 const TensorView& y) = 0;

  /// Ok if a kernel of this device takes it.
  virtual Status ValidateAttention(const AttentionConfig& config, const AttentionGrid& grid,
                                   int frames_q, int frames_kv) = 0;
  virtual int64_t AttentionScratchBytes(const AttentionConfig& config, const AttentionGrid& grid,
                                        int frames_q, int frames_kv) = 0;
  virtual void SelfAttention(Context& context, const AttentionConfig& config,
                             const AttentionGrid& grid, const ConstTensorView& q,
                             const KvFrames& kv, const TensorView& out) = 0;
  virtual void DenseAttention(Context& context, const ConstTensorView& q, const ConstTensorView& k,
                              const ConstTensorView& v, float scale, const ConstTensorView& bias,
                              const TensorView& out) = 0;
};

/// A device that MakeCudaBackend takes.
struct GpuDescription {
  int index = 0;
  std::string name;
  int64_t memory_total_bytes = 0, memory_available_bytes = 0;
};

/// All that can be used; none where there is no GPU, no driver, or CUDA was not built.
std::vector<GpuDescription> ListGpus();

/// Unavailable with the reason if this build has no CUDA (then ops/no_cuda/ implements these
/// functions), or no such device.
Result<std::unique_ptr<Backend>> MakeCudaBackend(int index);

}  // namespace mrt::ops
