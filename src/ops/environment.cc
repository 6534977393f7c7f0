#include "ops/environment.h"

#include "base/cpu_features.h"
#include "kernels/dense/dense.h"
#include "kernels/monarch/monarch.h"
#include "kernels/rowwise/rowwise.h"
#include "kernels/sparse/sparse.h"

namespace mrt::ops {

Status CheckEnvironment() {
  MRT_RETURN_IF_ERROR(CheckCpuLimit());
  MRT_RETURN_IF_ERROR(PickRowwise().status());
  // Shapes that every row takes, if the machine has what it needs.
  constexpr DenseShape kDense = {.heads = 1,
                                 .tokens_q = 16,
                                 .tokens_per_frame = 16,
                                 .frames_kv = 1,
                                 .head_dim = 64,
                                 .scale = 1,
                                 .storage = StorageType::kBF16};
  MRT_RETURN_IF_ERROR(PickDense(kDense).status());
  MonarchShape monarch = {.heads = 1,
                          .frames_q = 1,
                          .frames_kv = 1,
                          .rows = 4,
                          .cols = 4,
                          .head_dim = 64,
                          .storage = StorageType::kBF16};
  MRT_RETURN_IF_ERROR(PickMonarch(monarch).status());
  monarch.storage = StorageType::kF32;
  MRT_RETURN_IF_ERROR(PickMonarchBackward(monarch).status());
  return PickSparse({.rows = 4, .cols = 4}).status();
}

}  // namespace mrt::ops
