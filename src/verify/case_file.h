// Opening golden data.
#pragma once

#include <string>

#include "base/status.h"
#include "tensor/checkpoint.h"

namespace mrt::verify {

/// The case file, all tensors of which are floating point but for token ids (ids, ids_N: I32);
/// BadData otherwise.
Result<Checkpoint> OpenCase(const std::string& path);

}  // namespace mrt::verify
