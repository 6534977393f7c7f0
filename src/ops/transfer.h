// Between host memory and that of a context's backend. Without a backend both are the same, and
// nothing moves.
#pragma once

#include "ops/context.h"

namespace mrt::ops {

/// `host` itself without a backend, else a copy in the context's arena.
TensorView Upload(Context& context, const TensorView& host);
ConstTensorView Upload(Context& context, const ConstTensorView& host);

/// x itself without a backend, else a copy in the context's host arena.
TensorView Download(Context& context, const TensorView& x);

/// What an operation that makes `host` writes to: `host` itself without a backend, else room for it
/// in the context's arena.
TensorView RoomFor(Context& context, const TensorView& host);

/// `host` becomes x, of the same dtype and size; it may be x.
void DownloadTo(Context& context, const ConstTensorView& x, const TensorView& host);

/// y = x, both in the context's memory, of the same dtype and size.
void Copy(Context& context, const ConstTensorView& x, const TensorView& y);

/// Returns when the device has done all work.
void Wait(Context& context);

}  // namespace mrt::ops
