// Random weights of the Wan VAE's layout: to measure speed and memory without the released file.
#pragma once

#include <cstdint>

#include "tensor/checkpoint.h"

namespace mrt {

/// Both halves of a Wan VAE with bfloat16 weights; the released one has `base_dim` 96. The scale
/// keeps activations near 1. The same numbers every time.
Checkpoint SyntheticWanVae(int base_dim);

/// Adds a bfloat16 tensor of normal-like values of that mean and deviation, made from the name.
void AddSynthetic(Checkpoint& checkpoint, const std::string& name, const Shape& shape, float mean,
                  float deviation);

/// Adds NAME.weight of `shape` [out, in, ...], scaled so that its outputs are about as large as its
/// inputs, and NAME.bias of zeros if `bias`.
void AddSyntheticConv(Checkpoint& checkpoint, const std::string& name, const Shape& shape,
                      bool bias = true);

}  // namespace mrt
