// A defect that is known and not mended yet: the tests it fails say so where it shows.
#pragma once

#include <cstdlib>

#include "base/cpu_features.h"

namespace mrt::testing {

/// Null, or on a CPU with AMX why a test of convolutions in bf16 is left out. MRT_KNOWN_DEFECTS=1
/// runs it all the same.
inline const char* AmxConvolutionDefect() {
  if (!GetCpuFeatures().amx_bf16 || std::getenv("MRT_KNOWN_DEFECTS") != nullptr) return nullptr;
  return "with AMX the Wan VAE in bf16 is known to be off by 2.3 % at 80x48, allowed 1.2 %: "
         "docs/perf-log.md";
}

}  // namespace mrt::testing
