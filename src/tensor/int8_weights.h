// How a checkpoint holds int8 weights: beside X.weight, I8 [out, in], lies X.weight_scale, F32
// [out]; weight[o, i] is their product. Only the matrices of a transformer's blocks may be int8.
#pragma once

#include <string>
#include <string_view>

#include "tensor/checkpoint.h"

namespace mrt {

/// The name of the scales of the weight `name`.
std::string ScaleName(const std::string& name);

/// Whether `name` ends as that of a block's matrix does: [PREFIX.]blocks.N.self_attn.q.weight and
/// k, v, o; the same of cross_attn; ffn.0 and ffn.2.
bool IsBlockMatrix(std::string_view name);

/// Whether one of the block matrices is int8.
bool HasInt8Weights(const Checkpoint& checkpoint);

}  // namespace mrt
