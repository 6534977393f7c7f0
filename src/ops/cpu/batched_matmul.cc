#include "base/check.h"
#include "base/threads.h"
#include "ops/backend.h"
#include "ops/cpu/vendor.h"
#include "ops/linear.h"
#include "ops/operation_span.h"
#include "ops/rowwise.h"

namespace mrt::ops {
namespace {

using Desc = dnnl::memory::desc;
using Tag = dnnl::memory::format_tag;

OperationSpan MatmulSpan(const Context& context, const ConstTensorView& a, const ConstTensorView& b,
                         const TensorView& y) {
  const double k = static_cast<double>(a.shape[2]);
  return OperationSpan(context, "batched matmul", SpanKind::kMatrix,
                       {.flop = 2.0 * static_cast<double>(y.shape.elements()) * k,
                        .bytes = static_cast<double>(a.bytes() + b.bytes() + y.bytes())});
}

/// y [batch, m, n] = activation(a [batch, m, k] b): a and b of one dtype, y of the same or F32.
void Multiply(Context& context, const ConstTensorView& a, const ConstTensorView& b,
              bool b_transposed, const TensorView& y, Activation activation) {
  const int64_t batch = a.shape[0], m = a.shape[1], k = a.shape[2], n = y.shape[2];
  const OperationSpan span = MatmulSpan(context, a, b, y);
  const PrimitiveKey key{{PrimitiveKey::kBatchedMatmul, ThreadCount(), batch, m, k, n,
                          static_cast<int64_t>(a.dtype), static_cast<int64_t>(y.dtype),
                          b_transposed, static_cast<int64_t>(activation)}};
  auto& primitives = context.vendor().primitives;
  auto found = primitives.find(key);
  if (found == primitives.end()) {
    const Desc b_desc({batch, k, n}, VendorType(b.dtype), b_transposed ? Tag::acb : Tag::abc);
    const dnnl::matmul::primitive_desc pd({{{batch, m, k}, VendorType(a.dtype), Tag::abc},
                                           b_desc,
                                           {{batch, m, n}, VendorType(y.dtype), Tag::abc}},
                                          Attributes(activation), CpuEngine());
    found = primitives.emplace(key, Prepared(dnnl::matmul(pd), pd, /*bias=*/false)).first;
  }
  found->second.Run(context, a.data, b.data, y.data);
}

}  // namespace

void BatchedMatmul(Context& context, const ConstTensorView& a, const ConstTensorView& b,
                   bool b_transposed, const TensorView& y, Output output, Activation activation) {
  MRT_CHECK(a.shape.rank() == 3 && b.shape.rank() == 3 && y.shape.rank() == 3);
  MRT_CHECK(a.shape[0] == b.shape[0] && a.shape[0] == y.shape[0] && a.shape[1] == y.shape[1]);
  MRT_CHECK(a.shape[2] == b.shape[b_transposed ? 2 : 1]);
  MRT_CHECK(y.shape[2] == b.shape[b_transposed ? 1 : 2]);
  if (y.shape.elements() == 0) return;
  if (Backend* backend = context.backend()) {
    const OperationSpan span = MatmulSpan(context, a, b, y);
    return backend->BatchedMatmul(context, a, b, b_transposed, y, activation);
  }
  ArenaScope scope(context.arena());
  const auto widened = [&](const ConstTensorView& x) -> ConstTensorView {
    if (x.dtype == DType::kF32) return x;
    const TensorView copy = context.Float(x.shape);
    Cast(context, x, copy);
    return copy;
  };
  if (a.dtype == b.dtype && (a.dtype == DType::kBF16 || y.dtype == DType::kF32)) {
    Multiply(context, a, b, b_transposed, y, activation);
  } else if (y.dtype == DType::kF32) {
    Multiply(context, widened(a), widened(b), b_transposed, y, activation);
  } else {
    const TensorView wide = context.Float(y.shape);
    Multiply(context, widened(a), widened(b), b_transposed, wide, activation);
    Cast(context, wide, y);
  }
  if (output == Output::kActivation) context.RoundActivation(y);
}

}  // namespace mrt::ops
