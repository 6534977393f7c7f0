#include <cstdlib>
#include <string>

#include "kernels/rowwise/rowwise.h"

namespace mrt {

// Defined in cpu/rowwise_kernels.cc, compiled once for each.
namespace portable {
extern const RowwiseKernels kRowwiseKernels;
}
namespace avx2 {
extern const RowwiseKernels kRowwiseKernels;
}
namespace avx512 {
extern const RowwiseKernels kRowwiseKernels;
}

namespace {

constexpr RowwiseImpl kImpls[] = {
    // best first; the last row always applies
    {"avx512",
     [](const CpuFeatures& cpu) -> const char* {
       return cpu.avx512 ? nullptr : "CPU has no AVX-512";
     },
     &avx512::kRowwiseKernels},
    {"avx2",
     [](const CpuFeatures& cpu) -> const char* { return cpu.avx2 ? nullptr : "CPU has no AVX2"; },
     &avx2::kRowwiseKernels},
    {"portable", [](const CpuFeatures&) -> const char* { return nullptr; },
     &portable::kRowwiseKernels},
};

}  // namespace

std::span<const RowwiseImpl> RowwiseImpls() { return kImpls; }

Result<const RowwiseImpl*> PickRowwise(const char* forced) {
  const char* from_environment = std::getenv("MRT_ROWWISE_IMPL");
  std::string name = forced;
  if (name.empty() && from_environment != nullptr) name = from_environment;
  std::string names;
  for (const RowwiseImpl& impl : kImpls) {
    const char* refusal = impl.refuses(GetCpuFeatures());
    if (name.empty() ? refusal == nullptr : name == impl.name) {
      if (refusal == nullptr) return &impl;
      return Unavailable("[rowwise] implementation " + name + " cannot run here: " + refusal);
    }
    names += (names.empty() ? "" : ", ") + std::string(impl.name);
  }
  return InvalidArgument("[rowwise] got implementation " + name + ", need one of " + names);
}

}  // namespace mrt
