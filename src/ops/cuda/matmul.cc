#include "ops/cuda/matmul.h"

#include <algorithm>
#include <new>
#include <stdexcept>
#include <string>

#include "base/check.h"

namespace mrt::ops {
namespace {

cudaDataType_t CublasType(DType dtype) {
  MRT_CHECK(dtype == DType::kF32 || dtype == DType::kBF16);
  return dtype == DType::kF32 ? CUDA_R_32F : CUDA_R_16BF;
}

int64_t AlignmentOf(const void* data, int64_t most) {
  const auto address = reinterpret_cast<uintptr_t>(data);
  const auto lowest_bit = static_cast<int64_t>(address & (~address + 1));
  return lowest_bit == 0 ? most : std::min(lowest_bit, most);
}

template <typename T>
void Set(const MatmulDescOwner& product, cublasLtMatmulDescAttributes_t attribute, T value) {
  CheckCublas("cublasLtMatmulDescSetAttribute",
              cublasLtMatmulDescSetAttribute(product.get(), attribute, &value, sizeof(value)));
}

template <typename T>
void Set(const MatrixLayoutOwner& layout, cublasLtMatrixLayoutAttribute_t attribute, T value) {
  CheckCublas("cublasLtMatrixLayoutSetAttribute",
              cublasLtMatrixLayoutSetAttribute(layout.get(), attribute, &value, sizeof(value)));
}

template <typename T>
void Set(const MatmulPreferenceOwner& preference, cublasLtMatmulPreferenceAttributes_t attribute,
         T value) {
  CheckCublas(
      "cublasLtMatmulPreferenceSetAttribute",
      cublasLtMatmulPreferenceSetAttribute(preference.get(), attribute, &value, sizeof(value)));
}

/// [batch, rows, columns] row by row, which cuBLASLt sees as columns x rows, column by column.
MatrixLayoutOwner RowMajor(DType dtype, int64_t batch, int64_t rows, int64_t columns) {
  cublasLtMatrixLayout_t made = nullptr;
  CheckCublas("cublasLtMatrixLayoutCreate",
              cublasLtMatrixLayoutCreate(&made, CublasType(dtype), static_cast<uint64_t>(columns),
                                         static_cast<uint64_t>(rows), columns));
  MatrixLayoutOwner layout(made);
  Set(layout, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, static_cast<int32_t>(batch));
  Set(layout, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, int64_t{rows * columns});
  return layout;
}

cublasLtEpilogue_t EpilogueOf(const MatmulProblem& problem) {
  switch (problem.activation) {
    case Activation::kNone:
      return problem.bias ? CUBLASLT_EPILOGUE_BIAS : CUBLASLT_EPILOGUE_DEFAULT;
    case Activation::kGeluTanh:
      return problem.bias ? CUBLASLT_EPILOGUE_GELU_BIAS : CUBLASLT_EPILOGUE_GELU;
    case Activation::kRelu:
      return problem.bias ? CUBLASLT_EPILOGUE_RELU_BIAS : CUBLASLT_EPILOGUE_RELU;
    case Activation::kSilu: break;
  }
  MRT_CHECK(!"an epilogue of cuBLASLt's");
  return CUBLASLT_EPILOGUE_DEFAULT;
}

bool IsPlain(const MatmulProblem& problem) {
  return !problem.bias && problem.activation == Activation::kNone;
}

}  // namespace

void CheckCublas(const char* call, cublasStatus_t status) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  if (status == CUBLAS_STATUS_ALLOC_FAILED) throw std::bad_alloc();
  throw std::runtime_error(std::string("[cuda] ") + call + " says " +
                           cublasLtGetStatusString(status));
}

CublasMatmul::CublasMatmul(MemoryMeter& meter) {
  cublasLtHandle_t handle = nullptr;
  CheckCublas("cublasLtCreate", cublasLtCreate(&handle));
  handle_.reset(handle);
  workspace_ = AllocateOnDevice(kWorkspaceBytes, meter);
}

bool CublasMatmul::RoundsTwice(const Key& key) {
  const MatmulProblem& p = key.problem;
  if (IsPlain(p) || p.y != DType::kBF16) return false;
  const int64_t row_bytes = (p.in | p.out) * DTypeSize(DType::kBF16);
  return (row_bytes | key.x_alignment | key.w_alignment | key.y_alignment) % kVectorBytes != 0;
}

CublasMatmul::Plan CublasMatmul::MakePlan(const Key& key, const void* bias) const {
  const MatmulProblem& p = key.problem;
  Plan plan;
  if (RoundsTwice(key)) return plan;
  cublasLtMatmulDesc_t product = nullptr;
  CheckCublas("cublasLtMatmulDescCreate",
              cublasLtMatmulDescCreate(&product, CUBLAS_COMPUTE_32F, CUDA_R_32F));
  plan.product.reset(product);
  // Column by column it is y^T = w^T x^T, so w comes first.
  Set(plan.product, CUBLASLT_MATMUL_DESC_TRANSA, p.w_transposed ? CUBLAS_OP_T : CUBLAS_OP_N);
  Set(plan.product, CUBLASLT_MATMUL_DESC_EPILOGUE, EpilogueOf(p));
  if (p.bias) {
    Set(plan.product, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, CublasType(p.y));
    Set(plan.product, CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias);
  }
  plan.w =
      p.w_transposed ? RowMajor(p.x, p.batch, p.out, p.in) : RowMajor(p.x, p.batch, p.in, p.out);
  plan.x = RowMajor(p.x, p.batch, p.rows, p.in);
  plan.y = RowMajor(p.y, p.batch, p.rows, p.out);
  FindAlgorithm(key, plan);
  return plan;
}

void CublasMatmul::FindAlgorithm(const Key& key, Plan& plan) const {
  cublasLtMatmulPreference_t made = nullptr;
  CheckCublas("cublasLtMatmulPreferenceCreate", cublasLtMatmulPreferenceCreate(&made));
  const MatmulPreferenceOwner preference(made);
  Set(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, uint64_t{kWorkspaceBytes});
  // Partial sums, if any, are kept in float32 and added in a fixed order.
  Set(preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
      static_cast<uint32_t>(CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE));
  Set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES,
      static_cast<uint32_t>(key.w_alignment));
  Set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
      static_cast<uint32_t>(key.x_alignment));
  Set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES,
      static_cast<uint32_t>(key.y_alignment));
  Set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES,
      static_cast<uint32_t>(key.y_alignment));
  cublasLtMatmulHeuristicResult_t best = {};
  int count = 0;
  const cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(
      handle_.get(), plan.product.get(), plan.w.get(), plan.x.get(), plan.y.get(), plan.y.get(),
      preference.get(), 1, &best, &count);
  // What it says of epilogues that it does not have for these types.
  if (status == CUBLAS_STATUS_NOT_SUPPORTED) return;
  if (status == CUBLAS_STATUS_INVALID_VALUE && !IsPlain(key.problem)) return;
  CheckCublas("cublasLtMatmulAlgoGetHeuristic", status);
  plan.found = count > 0 && best.state == CUBLAS_STATUS_SUCCESS;
  plan.algorithm = best.algo;
}

bool CublasMatmul::Run(const MatmulProblem& problem, const MatmulPointers& pointers,
                       cudaStream_t stream) {
  const Key key{problem, AlignmentOf(pointers.x, kAlignmentMax),
                AlignmentOf(pointers.w, kAlignmentMax), AlignmentOf(pointers.y, kAlignmentMax)};
  const std::lock_guard<std::mutex> lock(mutex_);
  auto at = plans_.find(key);
  if (at == plans_.end()) at = plans_.emplace(key, MakePlan(key, pointers.bias)).first;
  const Plan& plan = at->second;
  if (!plan.found) return false;
  if (problem.bias) Set(plan.product, CUBLASLT_MATMUL_DESC_BIAS_POINTER, pointers.bias);
  const float one = 1, beta = problem.add ? 1.0f : 0.0f;
  CheckCublas("cublasLtMatmul",
              cublasLtMatmul(handle_.get(), plan.product.get(), &one, pointers.w, plan.w.get(),
                             pointers.x, plan.x.get(), &beta, pointers.y, plan.y.get(), pointers.y,
                             plan.y.get(), &plan.algorithm, workspace_.get(),
                             static_cast<size_t>(kWorkspaceBytes), stream));
  return true;
}

}  // namespace mrt::ops
