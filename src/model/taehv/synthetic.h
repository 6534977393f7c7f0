// Random weights of TAEHV's layout and released size: to measure speed and memory without the
// released file.
#pragma once

#include "tensor/checkpoint.h"

namespace mrt {

/// Both halves, bfloat16, widths 256, 128, 64, 64 and 64. The same numbers every time.
Checkpoint SyntheticTaehv();

}  // namespace mrt
