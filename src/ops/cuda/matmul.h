// Matrix products by cuBLASLt: one plan for each problem, made when it is first met.
#pragma once

#include <compare>
#include <cstdint>
#include <map>
#include <mutex>

#include "ops/cuda/cublas.h"
#include "ops/linear.h"

namespace mrt::ops {

/// y [batch, rows, out] = x [batch, rows, in] w, all row by row, each batch right after the other.
struct MatmulProblem {
  int64_t batch = 1, rows = 0, in = 0, out = 0;
  DType x = DType::kBF16;                     // and of w: F32 or BF16
  DType y = DType::kBF16;                     // F32, or as x
  bool w_transposed = true;                   // w is [out, in], else [in, out]
  bool bias = false;                          // y += bias [out], of the dtype of y
  Activation activation = Activation::kNone;  // not kSilu
  bool add = false;                           // to what y holds

  auto operator<=>(const MatmulProblem&) const = default;
};

struct MatmulPointers {
  const void* x = nullptr;
  const void* w = nullptr;
  const void* bias = nullptr;
  void* y = nullptr;
};

/// Thread-safe. Results do not change from run to run. Sums are float32, and so is what is done
/// with them: y is rounded once, and a BF16 bias before it is added.
class CublasMatmul {
 public:
  /// The meter is of the device's memory and outlives this.
  explicit CublasMatmul(MemoryMeter& meter);

  /// Puts the product on the stream. False if cuBLASLt has no kernel that does this.
  bool Run(const MatmulProblem& problem, const MatmulPointers& pointers, cudaStream_t stream);

 private:
  /// Bytes of the alignment of a pointer, at most this.
  static constexpr int64_t kAlignmentMax = 256;
  static constexpr int64_t kVectorBytes = 16;
  static constexpr int64_t kWorkspaceBytes = int64_t{32} << 20;

  struct Key {
    MatmulProblem problem;
    int64_t x_alignment = 0, w_alignment = 0, y_alignment = 0;
    auto operator<=>(const Key&) const = default;
  };
  struct Plan {
    MatmulDescOwner product;
    MatrixLayoutOwner x, w, y;
    cublasLtMatmulAlgo_t algorithm = {};
    bool found = false;
  };

  /// Where rows do not begin at 16 bytes, cuBLASLt stores the product as BF16 and then adds the
  /// bias to that: seen on an H200 with 7 inputs and 65 outputs, by two steps of BF16 where the
  /// product is larger than the sum.
  static bool RoundsTwice(const Key& key);
  Plan MakePlan(const Key& key, const void* bias) const;
  void FindAlgorithm(const Key& key, Plan& plan) const;

  CublasOwner handle_;
  DeviceOwner workspace_;
  std::mutex mutex_;  // guards plans_ and the bias that a plan points to
  std::map<Key, Plan> plans_;
};

}  // namespace mrt::ops
