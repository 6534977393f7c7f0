// A convolution of a checkpoint, not packed yet.
#pragma once

#include "tensor/tensor.h"

namespace mrt {

struct ConvWeights {
  ConstTensorView weight;
  ConstTensorView bias;
  bool empty() const { return weight.empty(); }
};

}  // namespace mrt
