#include "convert/float_conversion.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

namespace mrt {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();

template <typename T>
struct DTypeFor : DTypeOf<T> {};
template <>
struct DTypeFor<double> {
  static constexpr DType value = DType::kF64;
};

template <typename T>
ConstTensorView ViewOf(const std::vector<T>& values) {
  return {values.data(), DTypeFor<T>::value, {static_cast<int64_t>(values.size())}};
}

template <typename T>
uint16_t BitsAs(DType to, T x) {
  uint16_t bits = 0;
  ConvertElements(ViewOf(std::vector<T>{x}), 0, 1, to, &bits);
  return bits;
}

// The value of a 16-bit format with `mantissa_bits` and the exponent's bias, from its definition.
double ValueOf(uint16_t bits, int mantissa_bits, int bias) {
  const int exponent = (bits & 0x7fff) >> mantissa_bits;
  const int mantissa = bits & ((1 << mantissa_bits) - 1);
  const double magnitude =
      exponent == 0 ? std::ldexp(mantissa, 1 - bias - mantissa_bits)
                    : std::ldexp((1 << mantissa_bits) + mantissa, exponent - bias - mantissa_bits);
  return bits & 0x8000 ? -magnitude : magnitude;
}

struct Format {
  DType dtype;
  int mantissa_bits, bias;
  uint16_t infinity;
};
constexpr Format kFormats[] = {{DType::kBF16, 7, 127, 0x7f80}, {DType::kF16, 10, 15, 0x7c00}};

// Between two neighbours: the nearer one, and of equally near ones the even one; also for numbers
// so close to the middle that float32 would put them there.
TEST(FloatConversion, RoundsToNearestEven) {
  std::mt19937 random(1);
  for (const Format& format : kFormats)
    for (int n = 0; n < 20'000; ++n) {
      const auto low = static_cast<uint16_t>(random() % (format.infinity - 1u));
      const auto high = static_cast<uint16_t>(low + 1);
      const double a = ValueOf(low, format.mantissa_bits, format.bias);
      const double b = ValueOf(high, format.mantissa_bits, format.bias);
      const double middle = (a + b) / 2;  // exact
      const double nudge = (b - a) * 0x1p-30;
      const uint16_t even = low % 2 == 0 ? low : high;
      EXPECT_EQ(BitsAs(format.dtype, middle), even) << middle;
      EXPECT_EQ(BitsAs(format.dtype, static_cast<float>(middle)), even) << middle;
      EXPECT_EQ(BitsAs(format.dtype, middle + nudge), high) << middle;
      EXPECT_EQ(BitsAs(format.dtype, middle - nudge), low) << middle;
      EXPECT_EQ(BitsAs(format.dtype, -middle - nudge), high | 0x8000) << middle;
      EXPECT_EQ(BitsAs(format.dtype, a), low) << a;
    }
}

TEST(FloatConversion, KeepsNanInfinityAndSignedZero) {
  for (const Format& format : kFormats) {
    EXPECT_EQ(BitsAs(format.dtype, kInf), format.infinity);
    EXPECT_EQ(BitsAs(format.dtype, -std::numeric_limits<double>::infinity()),
              format.infinity | 0x8000);
    EXPECT_EQ(BitsAs(format.dtype, -0.0f), 0x8000);
    EXPECT_EQ(BitsAs(format.dtype, 5e-324) & 0x7fff, 0);
    for (const uint32_t nan_bits : {0x7fc00000u, 0x7f800001u, 0xffffffffu}) {
      const float nan = std::bit_cast<float>(nan_bits);
      EXPECT_GT(BitsAs(format.dtype, nan) & 0x7fff, format.infinity);
      EXPECT_GT(BitsAs(format.dtype, static_cast<double>(nan)) & 0x7fff, format.infinity);
    }
  }
}

TEST(FloatConversion, FindsTheFirstOverflow) {
  std::vector<float> out(5);
  const std::vector<float> f32 = {1, kInf, 65519, 65520, 1e6f};
  EXPECT_EQ(ConvertElements(ViewOf(f32), 0, 3, DType::kF16, out.data()), -1);
  EXPECT_EQ(ConvertElements(ViewOf(f32), 0, 5, DType::kF16, out.data()), 3);
  EXPECT_EQ(ConvertElements(ViewOf(f32), 4, 5, DType::kF16, out.data()), 4);
  EXPECT_EQ(ConvertElements(ViewOf(f32), 0, 5, DType::kBF16, out.data()), -1);
  const std::vector<float> largest = {std::numeric_limits<float>::max()};
  EXPECT_EQ(ConvertElements(ViewOf(largest), 0, 1, DType::kBF16, out.data()), 0);
  const std::vector<double> f64 = {3e38, -1e39, std::numeric_limits<double>::infinity()};
  EXPECT_EQ(ConvertElements(ViewOf(f64), 0, 3, DType::kF32, out.data()), 1);
  EXPECT_EQ(ConvertElements(ViewOf(f64), 2, 3, DType::kF32, out.data()), -1);
  EXPECT_EQ(ConvertElements(ViewOf(f64), 1, 2, DType::kBF16, out.data()), 1);
  EXPECT_EQ(ElementAsDouble(ViewOf(f64), 1), -1e39);
}

// Widening is exact: every 16-bit number comes back.
TEST(FloatConversion, WidensExactly) {
  for (const Format& format : kFormats)
    for (uint32_t bits = 0; bits < 0x10000; ++bits) {
      const auto narrow = static_cast<uint16_t>(bits);
      float wide = 0;
      EXPECT_EQ(ConvertElements({&narrow, format.dtype, {1}}, 0, 1, DType::kF32, &wide), -1);
      if ((narrow & 0x7fff) >= format.infinity) {
        EXPECT_FALSE(std::isfinite(wide));
        continue;
      }
      ASSERT_EQ(wide, ValueOf(narrow, format.mantissa_bits, format.bias)) << bits;
    }
}

}  // namespace
}  // namespace mrt
