#include "kernels/common/pick.h"
#include "kernels/sparse/cpu/portable.h"
#include "kernels/sparse/reference.h"
#include "kernels/sparse/sparse.h"

namespace mrt {
namespace {

const char* RefusesAvx512(const SparseShape&, const CpuFeatures& cpu) {
  return cpu.avx512 ? nullptr : "the CPU has no AVX-512 (x86-64-v4)";
}

const char* RefusesAvx2(const SparseShape&, const CpuFeatures& cpu) {
  return cpu.avx2 ? nullptr : "the CPU has no AVX2 (x86-64-v3)";
}

const char* RefusesNothing(const SparseShape&, const CpuFeatures&) { return nullptr; }

int64_t NoScratch(const SparseShape&, int) { return 0; }

constexpr SparseImpl kImpls[] = {
    // best first; the last row always applies
    {"avx512", RefusesAvx512, SparsePortableScratchBytes, RunSparseAvx512},
    {"avx2", RefusesAvx2, SparsePortableScratchBytes, RunSparseAvx2},
    {"portable", RefusesNothing, SparsePortableScratchBytes, RunSparsePortable},
    {"reference", RefusesNothing, NoScratch, RunSparseReference},
};

}  // namespace

std::span<const SparseImpl> SparseImpls() { return kImpls; }

Result<const SparseImpl*> PickSparse(const SparseShape& shape, const char* forced) {
  MRT_RETURN_IF_ERROR(ValidateSparse(shape));
  return PickImpl("[sparse]", SparseImpls(), shape, "MRT_SPARSE_IMPL", forced);
}

}  // namespace mrt
