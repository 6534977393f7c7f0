// Owners of cuBLASLt's objects, and its errors as exceptions.
#pragma once

#include <cublasLt.h>

#include "ops/cuda/handles.h"

namespace mrt::ops {

using CublasOwner = Owner<cublasLtHandle_t, cublasLtDestroy>;
using MatmulDescOwner = Owner<cublasLtMatmulDesc_t, cublasLtMatmulDescDestroy>;
using MatrixLayoutOwner = Owner<cublasLtMatrixLayout_t, cublasLtMatrixLayoutDestroy>;
using MatmulPreferenceOwner = Owner<cublasLtMatmulPreference_t, cublasLtMatmulPreferenceDestroy>;

/// As CheckCuda.
void CheckCublas(const char* call, cublasStatus_t status);

}  // namespace mrt::ops
