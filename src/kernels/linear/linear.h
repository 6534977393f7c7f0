// y = epilogue(x W^T + b) in bfloat16 or int8 on AMX, and in float32 on AVX2 without AVX-512:
// contract. Other CPUs and shapes have oneDNN (src/ops/cpu/linear.cc and int8_weight.cc).
#pragma once

#include <cstdint>

#include "base/cpu_features.h"
#include "kernels/rowwise/rowwise.h"

namespace mrt {

enum class LinearType : uint8_t { kBF16, kInt8, kF32 };

/// What int8 sums become before the bias: as DequantizeArgs.
struct LinearScales {
  const int32_t* weight_sum = nullptr;  // [out]
  const float* scale = nullptr;         // [out]
  const float* row_scale = nullptr;     // [rows]
  const int32_t* zero = nullptr;        // [rows]
};

/// Sums are float32 or s32, in an order that neither the rows nor the number of threads change.
struct LinearArgs {
  LinearType type = LinearType::kBF16;
  const void* x = nullptr;       // BF16, U8 or F32 [rows, in]
  const void* x_low = nullptr;   // U8 [rows, in]: second digits, or null; then x has the first ones
  LinearScales scales;           // only of int8
  const void* weight = nullptr;  // what PackLinearWeight made
  const float* bias = nullptr;   // [out]
  RowsOut y;                     // any [rows, out], of kF32 F32; must not overlap x
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
const char* LinearRefuses(LinearType type, int64_t in, int64_t out, const CpuFeatures& cpu);

/// `packed` = `weight` BF16, I8 or F32 [out, in] in the order in which the kernel reads it; as many
/// bytes, and each 32 rows on their own.
void PackLinearWeight(LinearType type, const void* weight, int64_t in, int64_t out, void* packed);

/// Looks at the type and sizes of `args` only.
int64_t LinearScratchBytes(const LinearArgs& args, int threads);

void RunLinear(const LinearArgs& args);

}  // namespace mrt
