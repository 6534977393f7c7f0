// What the tests of the operations share: random tensors, precisions, and how far a result may be
// off.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <random>
#include <string>

#include "ops/context.h"

namespace mrt::ops {

inline const char* PrecisionName(Precision precision) {
  switch (precision) {
    case Precision::kF32: return "kF32";
    case Precision::kBF16: return "kBF16";
    case Precision::kBF16Emulated: return "kBF16Emulated";
  }
  return "";
}

/// Normal numbers times `deviation`, stored as `dtype` (F32, F16, BF16 or F64).
inline Tensor RandomTensor(DType dtype, const Shape& shape, uint32_t seed, double deviation = 1) {
  std::mt19937 random(seed);
  std::normal_distribution<double> normal(0, deviation);
  Tensor x(dtype, shape);
  char* to = static_cast<char*>(x.view().data);
  for (int64_t i = 0; i < shape.elements(); ++i) {
    const double value = normal(random);
    const float f32 = static_cast<float>(value);
    const BFloat16 bf16 = ToBFloat16(f32);
    // Exact in binary16: four fraction bits, so that the test needs no conversion of its own.
    const double quarter = std::clamp(std::round(value / deviation * 16), -63.0, 63.0);
    const int magnitude = static_cast<int>(std::abs(quarter));
    uint16_t f16 = quarter < 0 ? 0x8000u : 0;
    if (magnitude > 0) {
      const int exponent = std::ilogb(magnitude);
      f16 |= static_cast<uint16_t>((exponent - 4 + 15) << 10);
      f16 |= static_cast<uint16_t>((magnitude << (10 - exponent)) & 0x3ff);
    }
    const int64_t size = DTypeSize(dtype);
    switch (dtype) {
      case DType::kF32: std::memcpy(to + i * size, &f32, size); break;
      case DType::kBF16: std::memcpy(to + i * size, &bf16, size); break;
      case DType::kF16: std::memcpy(to + i * size, &f16, size); break;
      case DType::kF64: std::memcpy(to + i * size, &value, size); break;
      default: MRT_CHECK(false);
    }
  }
  return x;
}

/// An activation of the context. In kBF16Emulated its values are bfloat16 ones, as they would be.
inline Tensor RandomActivation(Context& context, const Shape& shape, uint32_t seed) {
  Tensor x = RandomTensor(context.activation(), shape, seed);
  context.RoundActivation(x);
  return x;
}

/// Element i of a weight as the context's precision stores it.
inline double StoredWeight(const Context& context, const ConstTensorView& weight, int64_t i) {
  const float value = ElementAsFloat(weight, i);
  return context.precision() == Precision::kF32 ? value : RoundToBFloat16(value);
}

/// Empty if every element of `got` is want(i), else the first that is not. float32 sums may differ,
/// whose terms have a total size of about `magnitude`, and the result is rounded to bfloat16 where
/// the precision has it.
inline std::string Mismatch(const Context& context, const ConstTensorView& got, Output output,
                            const std::function<double(int64_t)>& want, double magnitude) {
  constexpr double kFloatError = 2e-6;
  constexpr double kBf16HalfUlp = 0x1p-8;
  const bool rounded =
      got.dtype == DType::kBF16 ||
      (context.precision() == Precision::kBF16Emulated && output == Output::kActivation);
  for (int64_t i = 0; i < got.shape.elements(); ++i) {
    const float value = ElementAsFloat(got, i);
    const double w = want(i);
    const double allowed = kFloatError * magnitude + (rounded ? kBf16HalfUlp * std::abs(w) : 0);
    if (std::abs(value - w) <= allowed && (!rounded || value == RoundToBFloat16(value))) continue;
    return "element " + std::to_string(i) + " got " + std::to_string(value) + ", want " +
           std::to_string(w) + " +- " + std::to_string(allowed);
  }
  return "";
}

/// Empty if kBF16 and kBF16Emulated differ only by the order of float32 sums, so by one step of
/// bfloat16 at most: where the sums lie on two sides of a rounding boundary.
inline std::string MoreThanOneBf16Step(const ConstTensorView& a, const ConstTensorView& b,
                                       double magnitude) {
  for (int64_t i = 0; i < a.shape.elements(); ++i) {
    const double x = ElementAsFloat(a, i), y = ElementAsFloat(b, i);
    const double allowed = 0x1p-7 * std::max(std::abs(x), std::abs(y)) + 4e-6 * magnitude;
    if (std::abs(x - y) <= allowed) continue;
    return "element " + std::to_string(i) + " " + std::to_string(x) + " and " + std::to_string(y);
  }
  return "";
}

/// Null if this machine runs `precision`, else why not.
inline const char* Unsupported(Precision precision) {
  return precision == Precision::kBF16 && !HasNativeBF16() ? "CPU has no AVX-512 BF16" : nullptr;
}

inline constexpr Precision kPrecisions[] = {Precision::kF32, Precision::kBF16,
                                            Precision::kBF16Emulated};

}  // namespace mrt::ops
