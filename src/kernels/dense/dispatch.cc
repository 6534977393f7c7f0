#include "kernels/common/pick.h"
#include "kernels/dense/cpu/amx.h"
#include "kernels/dense/cpu/portable.h"
#include "kernels/dense/dense.h"
#include "kernels/dense/reference.h"

namespace mrt {
namespace {

const char* RefusesAvx512(const DenseShape&, const CpuFeatures& cpu) {
  return cpu.avx512 ? nullptr : "the CPU has no AVX-512 (x86-64-v4)";
}

const char* RefusesAvx2(const DenseShape&, const CpuFeatures& cpu) {
  return cpu.avx2 ? nullptr : "the CPU has no AVX2 (x86-64-v3)";
}

const char* RefusesNothing(const DenseShape&, const CpuFeatures&) { return nullptr; }

int64_t NoScratch(const DenseShape&, int) { return 0; }

constexpr DenseImpl kImpls[] = {
    // best first; the last row always applies
    {"amx", DenseAmxRefuses, DenseAmxScratchBytes, RunDenseAmx,
     /*bf16_products=*/true},
    {"avx512_bf16", DenseAvx512Bf16Refuses, DenseAmxScratchBytes, RunDenseAvx512Bf16,
     /*bf16_products=*/true},
    {"avx512", RefusesAvx512, DensePortableScratchBytes, RunDenseAvx512},
    {"avx2", RefusesAvx2, DensePortableScratchBytes, RunDenseAvx2},
    {"portable", RefusesNothing, DensePortableScratchBytes, RunDensePortable},
    {"reference", RefusesNothing, NoScratch, RunDenseReference},
};

}  // namespace

std::span<const DenseImpl> DenseImpls() { return kImpls; }

Result<const DenseImpl*> PickDense(const DenseShape& shape, const char* forced) {
  MRT_RETURN_IF_ERROR(ValidateDense(shape));
  return PickImpl("[dense]", DenseImpls(), shape, "MRT_DENSE_IMPL", forced);
}

}  // namespace mrt
