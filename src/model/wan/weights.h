// The tensors of a Wan 2.1 transformer, by the names of the original checkpoints.
#pragma once

#include <string>
#include <vector>

#include "model/wan/config.h"
#include "tensor/tensor.h"

namespace mrt {

struct NamedShape {
  std::string name;
  Shape shape;
};

/// Every tensor a checkpoint of these sizes has. The one list behind checking, planning and
/// synthetic weights.
std::vector<NamedShape> WanTensors(const WanConfig& config);

}  // namespace mrt
