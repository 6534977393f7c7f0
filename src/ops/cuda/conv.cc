#include "ops/cuda/conv.h"

#include <stdexcept>

#include "base/check.h"
#include "base/threads.h"
#include "ops/cuda/cuda_backend.h"

namespace mrt::ops {
namespace {

ConvCudaShape ShapeOf(const Shape& weight, const ConvParams& params) {
  MRT_CHECK(weight.rank() == 4 || weight.rank() == 5);
  return {.in = weight[1],
          .out = weight[0],
          .kernel_time = weight.rank() == 5 ? weight[2] : 1,
          .kernel_rows = weight[weight.rank() - 2],
          .kernel_cols = weight.back(),
          .stride_time = params.stride_time,
          .stride_space = params.stride_space,
          .pad_top = params.pad_top,
          .pad_left = params.pad_left,
          .pad_bottom = params.pad_bottom,
          .pad_right = params.pad_right};
}

ConvCudaPacking PackingOf(const ConvCudaShape& s) {
  return ConvCudaPackingOf(s.out, s.in, s.taps());
}

Tensor Packed(const ConvCudaShape& s, const ConstTensorView& weight) {
  const ConvCudaPacking packing = PackingOf(s);
  const Tensor floats = ToFloat32(weight);
  Tensor packed(DType::kBF16, {packing.rows, packing.pitch});
  const int64_t row_elements = s.in * s.taps();
  ParallelFor(s.out, /*grain=*/1, [&](int64_t begin, int64_t end) {
    for (int64_t o = begin; o < end; ++o)
      PackConvCudaRow(packing, s.in, s.taps(), floats.as<float>() + o * row_elements,
                      packed.as<BFloat16>() + o * packing.pitch);
  });
  return packed;
}

ConvCudaActivation KernelActivation(Activation activation) {
  switch (activation) {
    case Activation::kGeluTanh: return ConvCudaActivation::kGeluTanh;
    case Activation::kSilu: return ConvCudaActivation::kSilu;
    case Activation::kRelu: return ConvCudaActivation::kRelu;
    case Activation::kNone: break;
  }
  return ConvCudaActivation::kNone;
}

}  // namespace

CudaConv::CudaConv(CudaBackend& backend, const ConstTensorView& weight, const ConstTensorView& bias,
                   const ConvParams& params)
    : backend_(backend),
      shape_(ShapeOf(weight.shape, params)),
      weight_(backend.ToDevice(Packed(shape_, weight), DType::kBF16)) {
  if (!bias.empty()) bias_ = backend.ToDevice(bias, DType::kF32);
}

void CudaConv::Run(Context&, const ConstTensorView& x, const TensorView& y,
                   Activation activation) const {
  MRT_CHECK(x.dtype == DType::kBF16 && (y.dtype == DType::kBF16 || y.dtype == DType::kF32));
  MRT_CHECK(x.shape.rank() == 4 && x.shape[3] == shape_.in);
  if (y.shape.elements() == 0) return;
  ConvCudaArgs args = {.shape = shape_,
                       .x = x.data,
                       .weight = weight_.get(),
                       .bias = static_cast<const float*>(bias_.get()),
                       .activation = KernelActivation(activation),
                       .y = y.data,
                       .y_f32 = y.dtype == DType::kF32};
  args.shape.time = x.shape[0], args.shape.rows = x.shape[1], args.shape.cols = x.shape[2];
  MRT_CHECK((y.shape == Shape{args.shape.out_time(), args.shape.out_rows(), args.shape.out_cols(),
                              args.shape.out}));
  const Status status = RunConvCuda(args, backend_.stream());
  if (!status.ok()) throw std::runtime_error(status.message());
}

int64_t CudaConv::bytes() const {
  return PackingOf(shape_).elements() * DTypeSize(DType::kBF16) +
         (bias_ ? shape_.out * int64_t{sizeof(float)} : 0);
}

}  // namespace mrt::ops
