// Tests only: inputs of the kernels' tests.
#pragma once

#include <cstdint>
#include <random>

#include "tensor/tensor.h"

namespace mrt::testing {

/// Normal numbers: F32 of deviation 1, or BF16 of deviation 1/4.
inline Tensor RandomTensor(DType dtype, const Shape& shape, uint32_t seed) {
  Tensor x(dtype, shape);
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  for (int64_t i = 0; i < shape.elements(); ++i) {
    const float value = normal(random);
    if (dtype == DType::kF32) x.as<float>()[i] = value;
    if (dtype == DType::kBF16) x.as<BFloat16>()[i] = ToBFloat16(value / 4);
  }
  return x;
}

}  // namespace mrt::testing
