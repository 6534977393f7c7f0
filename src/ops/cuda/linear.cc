#include "ops/cuda/linear.h"

#include <stdexcept>
#include <string>

#include "base/check.h"
#include "ops/cuda/rowwise_kernels.h"
#include "ops/storage.h"

namespace mrt::ops {

CudaLinear::CudaLinear(CudaBackend& backend, const ConstTensorView& weight,
                       const ConstTensorView& bias)
    : backend_(backend),
      in_(weight.shape[1]),
      out_(weight.shape[0]),
      weight_(backend.ToDevice(weight, DType::kBF16)) {
  if (bias.empty()) return;
  bias_ = backend.ToDevice(bias, DType::kF32);
  bias_bf16_ = backend.ToDevice(bias, DType::kBF16);
}

void CudaLinear::Run(Context& context, const ConstTensorView& x, const TensorView& y,
                     Activation activation) const {
  MRT_CHECK(x.dtype == DType::kBF16);
  const cudaStream_t stream = backend_.stream();
  const MatmulProblem fused{.rows = x.shape.rows(),
                            .in = in_,
                            .out = out_,
                            .y = y.dtype,
                            .bias = bias_ != nullptr,
                            .activation = activation};
  const void* const bias = y.dtype == DType::kBF16 ? bias_bf16_.get() : bias_.get();
  if (activation != Activation::kSilu &&
      backend_.matmul().Run(fused, {x.data, weight_.get(), bias, y.data}, stream))
    return;
  const ArenaScope scope(context.arena());
  const TensorView product = Product(context, x);
  cuda::FinishProduct({.product = product.as<float>(),
                       .bias = static_cast<const float*>(bias_.get()),
                       .y = {y.data, Storage(y.dtype)},
                       .rows = product.shape[0],
                       .width = out_,
                       .activation = activation},
                      stream);
}

void CudaLinear::AddTo(Context& context, const ConstTensorView& x, const TensorView& residual,
                       const ConstTensorView& gate) const {
  MRT_CHECK(x.dtype == DType::kBF16);
  const cudaStream_t stream = backend_.stream();
  const MatmulProblem fused{.rows = x.shape.rows(),
                            .in = in_,
                            .out = out_,
                            .y = DType::kF32,
                            .bias = bias_ != nullptr,
                            .add = true};
  if (gate.empty() &&
      backend_.matmul().Run(fused, {x.data, weight_.get(), bias_.get(), residual.data}, stream))
    return;
  const ArenaScope scope(context.arena());
  const TensorView product = Product(context, x);
  const int64_t rows = product.shape[0];
  cuda::FinishProduct({.product = product.as<float>(),
                       .bias = static_cast<const float*>(bias_.get()),
                       .gate = gate.empty() ? nullptr : gate.as<float>(),
                       .y = {residual.data, StorageType::kF32},
                       .rows = rows,
                       .width = out_,
                       .rows_per_group = gate.empty() ? rows : rows / gate.shape.rows(),
                       .add = true},
                      stream);
}

TensorView CudaLinear::Product(Context& context, const ConstTensorView& x) const {
  const int64_t rows = x.shape.rows();
  const TensorView product = context.Float({rows, out_});
  const MatmulProblem plain{.rows = rows, .in = in_, .out = out_, .y = DType::kF32};
  if (!backend_.matmul().Run(plain, {x.data, weight_.get(), nullptr, product.data},
                             backend_.stream()))
    throw std::runtime_error("[cuda] cuBLASLt has no kernel for a product of " +
                             std::to_string(rows) + " rows, " + std::to_string(in_) + " inputs, " +
                             std::to_string(out_) + " outputs");
  return product;
}

int64_t CudaLinear::bytes() const {
  return 2 * in_ * out_ + (bias_ == nullptr ? 0 : (4 + 2) * out_);
}

}  // namespace mrt::ops
