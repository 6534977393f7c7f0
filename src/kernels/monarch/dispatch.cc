#include "kernels/common/pick.h"
#include "kernels/monarch/cpu/amx.h"
#include "kernels/monarch/cpu/backward.h"
#include "kernels/monarch/cpu/portable.h"
#include "kernels/monarch/monarch.h"
#include "kernels/monarch/reference.h"

namespace mrt {
namespace {

const char* RefusesPortable(const MonarchShape& shape, const CpuFeatures&) {
  return shape.storage == StorageType::kF16 ? "it stores float32 and bfloat16 only" : nullptr;
}

const char* RefusesAvx512(const MonarchShape& shape, const CpuFeatures& cpu) {
  return cpu.avx512 ? RefusesPortable(shape, cpu) : "the CPU has no AVX-512 (x86-64-v4)";
}

const char* RefusesAvx2(const MonarchShape& shape, const CpuFeatures& cpu) {
  return cpu.avx2 ? RefusesPortable(shape, cpu) : "the CPU has no AVX2 (x86-64-v3)";
}

const char* RefusesNothing(const MonarchShape&, const CpuFeatures&) { return nullptr; }

int64_t NoScratch(const MonarchShape&, int) { return 0; }

constexpr MonarchImpl kImpls[] = {
    // best first; the last row always applies
    {"amx", MonarchAmxRefuses, MonarchAmxScratchBytes, RunMonarchAmx,
     /*bf16_products=*/true},
    {"avx512_bf16", MonarchAvx512Bf16Refuses, MonarchAmxScratchBytes, RunMonarchAvx512Bf16,
     /*bf16_products=*/true},
    {"avx512", RefusesAvx512, MonarchPortableScratchBytes, RunMonarchAvx512},
    {"avx2", RefusesAvx2, MonarchPortableScratchBytes, RunMonarchAvx2},
    {"portable", RefusesPortable, MonarchPortableScratchBytes, RunMonarchPortable},
    {"reference", RefusesNothing, NoScratch, RunMonarchReference},
};

const char* RefusesSteps(const MonarchShape& shape) {
  return shape.iterations == 1 ? nullptr : "it takes one refinement step only";
}

const char* BackwardRefusesAvx512(const MonarchShape& shape, const CpuFeatures& cpu) {
  const char* refusal = RefusesAvx512(shape, cpu);
  return refusal != nullptr ? refusal : RefusesSteps(shape);
}

const char* BackwardRefusesAvx2(const MonarchShape& shape, const CpuFeatures& cpu) {
  const char* refusal = RefusesAvx2(shape, cpu);
  return refusal != nullptr ? refusal : RefusesSteps(shape);
}

const char* BackwardRefusesPortable(const MonarchShape& shape, const CpuFeatures& cpu) {
  const char* refusal = RefusesPortable(shape, cpu);
  return refusal != nullptr ? refusal : RefusesSteps(shape);
}

constexpr MonarchBackwardImpl kBackwardImpls[] = {
    // best first; the last row always applies
    {"avx512", BackwardRefusesAvx512, MonarchBackwardScratchBytes, RunMonarchBackwardAvx512},
    {"avx2", BackwardRefusesAvx2, MonarchBackwardScratchBytes, RunMonarchBackwardAvx2},
    {"portable", BackwardRefusesPortable, MonarchBackwardScratchBytes, RunMonarchBackwardPortable},
    {"reference", RefusesNothing, NoScratch, RunMonarchReferenceBackward},
};

}  // namespace

std::span<const MonarchImpl> MonarchImpls() { return kImpls; }

Result<const MonarchImpl*> PickMonarch(const MonarchShape& shape, const char* forced) {
  MRT_RETURN_IF_ERROR(ValidateMonarch(shape));
  return PickImpl("[monarch]", MonarchImpls(), shape, "MRT_MONARCH_IMPL", forced);
}

std::span<const MonarchBackwardImpl> MonarchBackwardImpls() { return kBackwardImpls; }

Result<const MonarchBackwardImpl*> PickMonarchBackward(const MonarchShape& shape,
                                                       const char* forced) {
  MRT_RETURN_IF_ERROR(ValidateMonarch(shape));
  return PickImpl("[monarch backward]", MonarchBackwardImpls(), shape, "MRT_MONARCH_BACKWARD_IMPL",
                  forced);
}

}  // namespace mrt
