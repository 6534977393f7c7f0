// The variables with which a user forces kernels or hides CPU features.
#pragma once

#include "base/status.h"

namespace mrt::ops {

/// Ok if this machine can do what MRT_CPU_LIMIT and MRT_..._IMPL say. InvalidArgument for names
/// that nothing has, Unavailable for kernels that cannot run here. To be asked before anything is
/// computed: later a name that cannot be is a defect.
Status CheckEnvironment();

}  // namespace mrt::ops
