// Random weights of the Wan VAE's layout: to measure speed and memory without the released file.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include "tensor/checkpoint.h"
#include "tensor/tensor.h"

namespace mrt {

/// Both halves of a Wan VAE with bfloat16 weights; the released one has `base_dim` 96. The scale
/// keeps activations near 1. The same numbers every time.
Checkpoint SyntheticWanVae(int base_dim);

/// Tensors of bfloat16 that together take far less memory than theirs: those of one mean and one
/// deviation lie at different places of the same random numbers.
class SyntheticTensors {
 public:
  /// Normal-like values of that mean and deviation.
  void Add(const std::string& name, const Shape& shape, float mean, float deviation);

  /// NAME.weight of `shape` [out, in, ...], scaled so that its outputs are about as large as its
  /// inputs, and NAME.bias of zeros if `bias`.
  void AddConv(const std::string& name, const Shape& shape, bool bias = true);

  Checkpoint Take() { return std::move(checkpoint_); }

 private:
  struct Pool {
    std::shared_ptr<Tensor> values;  // BF16
    int64_t offset = 0;              // of the next tensor
  };

  std::map<std::pair<float, float>, Pool> pools_;  // by mean and deviation
  Checkpoint checkpoint_;
};

}  // namespace mrt
