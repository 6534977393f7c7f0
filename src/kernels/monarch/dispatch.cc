#include "kernels/common/pick.h"
#include "kernels/monarch/cpu/amx.h"
#include "kernels/monarch/cpu/portable.h"
#include "kernels/monarch/monarch.h"
#include "kernels/monarch/reference.h"

namespace mrt {
namespace {

const char* RefusesAvx512(const MonarchShape&, const CpuFeatures& cpu) {
  return cpu.avx512 ? nullptr : "the CPU has no AVX-512 (x86-64-v4)";
}

const char* RefusesAvx2(const MonarchShape&, const CpuFeatures& cpu) {
  return cpu.avx2 ? nullptr : "the CPU has no AVX2 (x86-64-v3)";
}

const char* RefusesNothing(const MonarchShape&, const CpuFeatures&) { return nullptr; }

int64_t NoScratch(const MonarchShape&, int) { return 0; }

constexpr MonarchImpl kImpls[] = {
    // best first; the last row always applies
    {"amx", MonarchAmxRefuses, MonarchAmxScratchBytes, RunMonarchAmx,
     /*bf16_products=*/true},
    {"avx512", RefusesAvx512, MonarchPortableScratchBytes, RunMonarchAvx512},
    {"avx2", RefusesAvx2, MonarchPortableScratchBytes, RunMonarchAvx2},
    {"portable", RefusesNothing, MonarchPortableScratchBytes, RunMonarchPortable},
    {"reference", RefusesNothing, NoScratch, RunMonarchReference},
};

}  // namespace

std::span<const MonarchImpl> MonarchImpls() { return kImpls; }

Result<const MonarchImpl*> PickMonarch(const MonarchShape& shape, const char* forced) {
  MRT_RETURN_IF_ERROR(ValidateMonarch(shape));
  return PickImpl("[monarch]", MonarchImpls(), shape, "MRT_MONARCH_IMPL", forced);
}

}  // namespace mrt
