// Keys and values of self-attention, frame by frame.
#pragma once

#include <span>

#include "tensor/tensor.h"

namespace mrt::ops {

/// What StoreKeys and StoreValues write and SelfAttention reads. keys[f], values[f]: of key frame
/// f, tokens * heads * head_dim elements of `dtype` each; how they lie there is known to nobody
/// else. Frames need not be neighbours: the KV cache is a ring. `dtype` is that of the activations,
/// or BF16 to save memory.
struct KvFrames {
  std::span<void*const> keys, values;
  DType dtype = DType::kF32;

  size_t size() const { return keys.size(); }
  KvFrames Last(size_t frames) const { return {keys.last(frames), values.last(frames), dtype}; }
};

}  // namespace mrt::ops
