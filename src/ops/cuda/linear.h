// Linear on the device.
#pragma once

#include "ops/backend.h"
#include "ops/cuda/cuda_backend.h"

namespace mrt::ops {

/// The weight as BF16, the bias as F32 and as BF16. Run to BF16 may add the bias as BF16: that
/// moves the sum, which is rounded once, by at most half a step of the bias. Everything else adds
/// it as F32.
class CudaLinear : public BackendLinear {
 public:
  CudaLinear(CudaBackend& backend, const ConstTensorView& weight, const ConstTensorView& bias);

  void Run(Context& context, const ConstTensorView& x, const TensorView& y,
           Activation activation) const override;
  void AddTo(Context& context, const ConstTensorView& x, const TensorView& residual,
             const ConstTensorView& gate) const override;
  int64_t bytes() const override;

 private:
  /// x W^T in float32, without the bias.
  TensorView Product(Context& context, const ConstTensorView& x) const;

  CudaBackend& backend_;
  int64_t in_, out_;
  DeviceOwner weight_;            // BF16 [out, in]
  DeviceOwner bias_, bias_bf16_;  // F32 and BF16 [out], or null
};

}  // namespace mrt::ops
