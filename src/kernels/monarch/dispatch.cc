#include "kernels/common/pick.h"
#include "kernels/monarch/monarch.h"
#include "kernels/monarch/reference.h"

namespace mrt {
namespace {

const char* RefusesNothing(const MonarchShape&, const CpuFeatures&) { return nullptr; }

int64_t NoScratch(const MonarchShape&, int) { return 0; }

constexpr MonarchImpl kImpls[] = {
    // best first; the last row always applies
    {"reference", RefusesNothing, NoScratch, RunMonarchReference},
};

}  // namespace

std::span<const MonarchImpl> MonarchImpls() { return kImpls; }

Result<const MonarchImpl*> PickMonarch(const MonarchShape& shape, const char* forced) {
  MRT_RETURN_IF_ERROR(ValidateMonarch(shape));
  return PickImpl("[monarch]", MonarchImpls(), shape, "MRT_MONARCH_IMPL", forced);
}

}  // namespace mrt
