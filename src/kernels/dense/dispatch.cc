#include "kernels/common/pick.h"
#include "kernels/dense/dense.h"
#include "kernels/dense/reference.h"

namespace mrt {
namespace {

const char* RefusesNothing(const DenseShape&, const CpuFeatures&) { return nullptr; }

int64_t NoScratch(const DenseShape&, int) { return 0; }

constexpr DenseImpl kImpls[] = {
    // best first; the last row always applies
    {"reference", RefusesNothing, NoScratch, RunDenseReference},
};

}  // namespace

std::span<const DenseImpl> DenseImpls() { return kImpls; }

Result<const DenseImpl*> PickDense(const DenseShape& shape, const char* forced) {
  MRT_RETURN_IF_ERROR(ValidateDense(shape));
  return PickImpl("[dense]", DenseImpls(), shape, "MRT_DENSE_IMPL", forced);
}

}  // namespace mrt
