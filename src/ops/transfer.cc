#include "ops/transfer.h"

#include <cstring>

#include "base/check.h"
#include "ops/backend.h"

namespace mrt::ops {
namespace {

void CopyBytes(Memory* memory, const ConstTensorView& x, const TensorView& y) {
  MRT_CHECK(x.dtype == y.dtype && x.shape.elements() == y.shape.elements());
  if (x.bytes() == 0 || x.data == y.data) return;
  if (memory != nullptr) return memory->Copy(y.data, x.data, x.bytes());
  std::memcpy(y.data, x.data, static_cast<size_t>(x.bytes()));
}

}  // namespace

TensorView Upload(Context& context, const TensorView& host) {
  if (context.backend() == nullptr) return host;
  const TensorView there = context.arena().Allocate(host.dtype, host.shape);
  CopyBytes(context.memory(), host, there);
  return there;
}

ConstTensorView Upload(Context& context, const ConstTensorView& host) {
  if (context.backend() == nullptr) return host;
  const TensorView there = context.arena().Allocate(host.dtype, host.shape);
  CopyBytes(context.memory(), host, there);
  return there;
}

TensorView Download(Context& context, const TensorView& x) {
  if (context.backend() == nullptr) return x;
  const TensorView here = context.host_arena().Allocate(x.dtype, x.shape);
  CopyBytes(context.memory(), x, here);
  return here;
}

TensorView RoomFor(Context& context, const TensorView& host) {
  if (context.backend() == nullptr) return host;
  return context.arena().Allocate(host.dtype, host.shape);
}

void DownloadTo(Context& context, const ConstTensorView& x, const TensorView& host) {
  CopyBytes(context.memory(), x, host);
}

void Copy(Context& context, const ConstTensorView& x, const TensorView& y) {
  CopyBytes(context.memory(), x, y);
}

void Wait(Context& context) {
  if (context.backend() != nullptr) context.backend()->Synchronize();
}

}  // namespace mrt::ops
