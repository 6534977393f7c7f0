// y = epilogue(x W^T + b) in bfloat16 on AMX: contract. Other CPUs and shapes have oneDNN
// (src/ops/cpu/linear.cc).
#pragma once

#include <cstdint>

#include "base/cpu_features.h"
#include "kernels/rowwise/rowwise.h"

namespace mrt {

/// Sums are float32, in an order that neither the rows nor the number of threads change.
struct LinearArgs {
  const void* x = nullptr;       // BF16 [rows, in]
  const void* weight = nullptr;  // what PackLinearWeight made
  const float* bias = nullptr;   // [out]
  RowsOut y;                     // any [rows, out]; must not overlap x
  int64_t rows = 0;
  int64_t in = 0;
  int64_t out = 0;
  Epilogue epilogue = Epilogue::kNone;
  // y += gate * (x W^T + b), or y += x W^T + b without a gate: then y is F32, the epilogue kNone.
  bool add = false;
  const float* gate = nullptr;  // [out] or null; only with `add`
  void* scratch = nullptr;      // LinearScratchBytes, 64-byte aligned
};

/// Null, or why it does not run.
const char* LinearRefuses(int64_t in, int64_t out, const CpuFeatures& cpu);

/// `packed` = `weight` BF16 [out, in] in the order in which the tiles read it; as many bytes.
void PackLinearWeight(const void* weight, int64_t in, int64_t out, void* packed);

int64_t LinearScratchBytes(int64_t rows, int64_t in, int64_t out, int threads);

void RunLinear(const LinearArgs& args);

}  // namespace mrt
