// What this CPU and this operating system let a kernel use. Read once; every dispatch table asks
// here.
#pragma once

#include <string>

#include "base/status.h"

namespace mrt {

struct CpuFeatures {
  std::string brand;         // as the CPU names itself, e.g. "AMD EPYC 9B14"
  bool avx2 = false;         // with FMA, F16C, BMI2: x86-64-v3
  bool avx512 = false;       // F, BW, CD, DQ, VL: x86-64-v4
  bool avx512_bf16 = false;  // vdpbf16ps and conversions
  bool amx_bf16 = false;     // tiles, and the kernel has granted their use to this process; with
                             // MRT_EMULATED_TILES the same as avx512_bf16
  bool amx_int8 = false;     // beside amx_bf16
};

/// The features of the machine. MRT_CPU_LIMIT=portable|avx2|avx512|avx512_bf16 in the environment
/// hides the better ones.
const CpuFeatures& GetCpuFeatures();

/// InvalidArgument if MRT_CPU_LIMIT is none of these names; it hides nothing then.
Status CheckCpuLimit();

}  // namespace mrt
