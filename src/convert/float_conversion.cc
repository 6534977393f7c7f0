#include "convert/float_conversion.h"

#include <bit>
#include <cmath>
#include <limits>

#include "base/check.h"

namespace mrt {
namespace {

// For the rounding that follows: a float that lies where the double does, never on a tie it was not
// on. "Round to odd": what is not exact gets an odd last bit. (Boldo and Melquiond, "Emulation of a
// FMA and correctly rounded sums: proved algorithms using rounding to odd".)
float ToOddFloat(double x) {
  const auto nearest = static_cast<float>(x);
  if (std::isnan(x) || static_cast<double>(nearest) == x) return nearest;
  auto bits = std::bit_cast<uint32_t>(nearest);
  if (std::abs(static_cast<double>(nearest)) > std::abs(x)) --bits;  // towards zero
  return std::bit_cast<float>(bits | 1u);
}

struct ToF32 {
  using Element = float;
  static float Round(float x) { return x; }
  static float Round(double x) { return static_cast<float>(x); }
  static bool IsInfinite(float x) { return std::isinf(x); }
};

struct ToBF16 {
  using Element = BFloat16;
  static BFloat16 Round(float x) { return ToBFloat16(x); }
  static BFloat16 Round(double x) { return ToBFloat16(ToOddFloat(x)); }
  static bool IsInfinite(BFloat16 x) { return (x.bits & 0x7fffu) == 0x7f80u; }
};

struct ToF16 {
  using Element = Float16;
  static Float16 Round(float x) { return ToFloat16(x); }
  static Float16 Round(double x) { return ToFloat16(ToOddFloat(x)); }
  static bool IsInfinite(Float16 x) { return (x.bits & 0x7fffu) == 0x7c00u; }
};

float Widen(float x) { return x; }
float Widen(BFloat16 x) { return ToFloat(x); }
float Widen(Float16 x) { return ToFloat(x); }
double Widen(double x) { return x; }

template <typename To, typename From>
int64_t ConvertFrom(const From* source, int64_t begin, int64_t end, void* out) {
  auto* to = static_cast<typename To::Element*>(out);
  int64_t overflow = -1;
  for (int64_t i = begin; i < end; ++i) {
    const auto x = Widen(source[i]);
    to[i - begin] = To::Round(x);
    if (overflow < 0 && To::IsInfinite(to[i - begin]) && !std::isinf(x)) overflow = i;
  }
  return overflow;
}

template <typename To>
int64_t ConvertTo(const ConstTensorView& source, int64_t begin, int64_t end, void* out) {
  switch (source.dtype) {
    case DType::kF32: return ConvertFrom<To>(source.as<float>(), begin, end, out);
    case DType::kBF16: return ConvertFrom<To>(source.as<BFloat16>(), begin, end, out);
    case DType::kF16: return ConvertFrom<To>(source.as<Float16>(), begin, end, out);
    case DType::kF64:
      return ConvertFrom<To>(static_cast<const double*>(source.data), begin, end, out);
    default: MRT_CHECK(false); return -1;
  }
}

}  // namespace

int64_t ConvertElements(const ConstTensorView& source, int64_t begin, int64_t end, DType to,
                        void* out) {
  switch (to) {
    case DType::kF32: return ConvertTo<ToF32>(source, begin, end, out);
    case DType::kBF16: return ConvertTo<ToBF16>(source, begin, end, out);
    case DType::kF16: return ConvertTo<ToF16>(source, begin, end, out);
    default: MRT_CHECK(false); return -1;
  }
}

double ElementAsDouble(const ConstTensorView& tensor, int64_t i) {
  if (tensor.dtype == DType::kF64) return static_cast<const double*>(tensor.data)[i];
  return ElementAsFloat(tensor, i);
}

}  // namespace mrt
