// Convolution on the device: kernels/conv/cuda/conv_cuda.h with a weight that was packed once.
#pragma once

#include "kernels/conv/cuda/conv_cuda.h"
#include "ops/backend.h"
#include "ops/cuda/handles.h"

namespace mrt::ops {

class CudaBackend;

class CudaConv : public BackendConv {
 public:
  CudaConv(CudaBackend& backend, const ConstTensorView& weight, const ConstTensorView& bias,
           const ConvParams& params);

  void Run(Context& context, const ConstTensorView& x, const TensorView& y,
           Activation activation) const override;
  int64_t bytes() const override;

 private:
  CudaBackend& backend_;
  ConvCudaShape shape_;  // all but the sizes of x
  DeviceOwner weight_;   // of PackConvCuda
  DeviceOwner bias_;     // F32 [out], or null
};

}  // namespace mrt::ops
