// A transformer of any size with random weights, for tests, benchmarks and memory planning.
#pragma once

#include "model/wan/config.h"

namespace mrt {

/// The sizes of the released Wan 2.1 1.3B text-to-video model.
WanConfig Wan21_1_3B();

/// Every tensor of such a checkpoint, with values that keep activations finite. All are views at
/// different offsets into one small pool of bfloat16, so the source costs little memory while the
/// packed weights have their real size.
Checkpoint SyntheticWan(const WanConfig& config);

}  // namespace mrt
