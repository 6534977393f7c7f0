// Every implementation against the formulas of rowwise.h in double precision.
#include "kernels/rowwise/rowwise.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "base/float16.h"

namespace mrt {
namespace {

constexpr StorageType kStorages[] = {StorageType::kF32, StorageType::kBF16};
// Below, at and above one vector of each instruction set, four of them, and widths of real models.
constexpr int64_t kWidths[] = {1, 3, 7, 8, 15, 16, 17, 33, 64, 67, 96, 131, 1536};
constexpr int64_t kRows = 6;

/// A matrix in either storage, read as doubles.
class Matrix {
 public:
  Matrix(StorageType storage, int64_t count) : storage_(storage), f32_(count), bf16_(count) {}

  void Set(int64_t i, double value) {
    f32_[i] = static_cast<float>(value);
    bf16_[i] = ToBFloat16(f32_[i]);
  }
  double operator[](int64_t i) const {
    return storage_ == StorageType::kF32 ? f32_[i] : ToFloat(bf16_[i]);
  }
  int64_t size() const { return static_cast<int64_t>(f32_.size()); }
  RowsIn in() const { return {const_cast<Matrix*>(this)->data(), storage_}; }
  RowsOut out() { return {data(), storage_}; }
  float* floats() { return f32_.data(); }
  StorageType storage() const { return storage_; }

 private:
  void* data() {
    return storage_ == StorageType::kF32 ? static_cast<void*>(f32_.data()) : bf16_.data();
  }
  StorageType storage_;
  std::vector<float> f32_;
  std::vector<BFloat16> bf16_;
};

class RowwiseTest : public ::testing::TestWithParam<const RowwiseImpl*> {
 protected:
  void SetUp() override {
    if (const char* reason = GetParam()->refuses(GetCpuFeatures())) GTEST_SKIP() << reason;
  }
  const RowwiseKernels& kernels() const { return *GetParam()->kernels; }

  Matrix Random(StorageType storage, int64_t count, double mean = 0, double deviation = 1) {
    std::normal_distribution<double> normal(mean, deviation);
    Matrix m(storage, count);
    for (int64_t i = 0; i < count; ++i) m.Set(i, normal(random_));
    return m;
  }

  /// The storage rounds once (half a unit in the last place); the arithmetic may lose
  /// `float_error`, which is relative to `scale`.
  static void ExpectNear(const Matrix& got, const std::function<double(int64_t)>& want,
                         double scale, const std::string& what, double float_error = 1e-6) {
    const double half_ulp = got.storage() == StorageType::kBF16 ? 0x1p-8 : 0;
    for (int64_t i = 0; i < got.size(); ++i) {
      const double allowed = half_ulp * std::abs(want(i)) + float_error * scale;
      ASSERT_LE(std::abs(got[i] - want(i)), allowed) << what << " element " << i;
    }
  }

  /// For each row the sum of term(x).
  static std::vector<double> RowSums(const Matrix& x, int64_t width,
                                     const std::function<double(int64_t row, double x)>& term) {
    std::vector<double> sums(x.size() / width, 0.0);
    for (int64_t i = 0; i < x.size(); ++i) sums[i / width] += term(i / width, x[i]);
    return sums;
  }

  /// Runs `body` for all widths and storages of x and y.
  template <typename Body>
  void ForAll(Body body) {
    for (StorageType x : kStorages)
      for (StorageType y : kStorages)
        for (int64_t width : kWidths) {
          body(x, y, width,
               "width " + std::to_string(width) + (x == StorageType::kF32 ? " f32" : " bf16") +
                   (y == StorageType::kF32 ? " f32" : " bf16"));
          if (HasFatalFailure()) return;
        }
  }

  std::mt19937 random_{1};
};

TEST_P(RowwiseTest, LayerNorm) {
  ForAll([&](StorageType xs, StorageType ys, int64_t width, const std::string& what) {
    constexpr int64_t kGroups = 2;
    const Matrix x = Random(xs, kRows * width, 3.0, 2.0);  // a mean that must cancel
    Matrix scale = Random(StorageType::kF32, kGroups * width);
    Matrix shift = Random(StorageType::kF32, kGroups * width);
    Matrix y(ys, kRows * width);
    const LayerNormArgs args{x.in(), y.out(),         scale.floats(), shift.floats(),
                             width,  kRows / kGroups, 1.0f,           1e-6f};
    kernels().layer_norm(args, 0, 2);  // in two ranges, as two threads would
    kernels().layer_norm(args, 2, kRows);
    const auto sum = RowSums(x, width, [](int64_t, double v) { return v; });
    const auto square =
        RowSums(x, width, [&](int64_t row, double v) { return std::pow(v - sum[row] / width, 2); });
    const auto want = [&](int64_t i) {
      const int64_t row = i / width, k = row / (kRows / kGroups) * width + i % width;
      return (x[i] - sum[row] / width) / std::sqrt(square[row] / width + 1e-6) * (scale[k] + 1) +
             shift[k];
    };
    // The rounding of the mean is divided by the deviation.
    double mean_in_deviations = 0;
    for (int64_t row = 0; row < kRows; ++row)
      mean_in_deviations = std::max(
          mean_in_deviations, std::abs(sum[row] / width) / std::sqrt(square[row] / width + 1e-6));
    ExpectNear(y, want, 3 * (1 + mean_in_deviations), what);
  });
}

TEST_P(RowwiseTest, RmsNorm) {
  ForAll([&](StorageType xs, StorageType ys, int64_t width, const std::string& what) {
    const Matrix x = Random(xs, kRows * width);
    Matrix weight = Random(StorageType::kF32, width), y(ys, kRows * width);
    kernels().rms_norm({x.in(), y.out(), weight.floats(), width, 1e-5f}, 0, kRows);
    const auto square = RowSums(x, width, [](int64_t, double v) { return v * v; });
    const auto want = [&](int64_t i) {
      return x[i] / std::sqrt(square[i / width] / width + 1e-5) * weight[i % width];
    };
    ExpectNear(y, want, 5, what);
  });
}

TEST_P(RowwiseTest, ChannelNorm) {
  for (bool silu : {false, true})
    ForAll([&](StorageType xs, StorageType ys, int64_t width, const std::string& what) {
      Matrix x = Random(xs, kRows * width), y(ys, kRows * width);
      for (int64_t c = 0; c < width; ++c) x.Set(c, 0.0);  // the norm of a row may be 0
      Matrix gamma = Random(StorageType::kF32, width, 0, 3);
      kernels().channel_norm({x.in(), y.out(), gamma.floats(), width, silu}, 0, kRows);
      const auto square = RowSums(x, width, [](int64_t, double v) { return v * v; });
      const auto want = [&](int64_t i) {
        const double v = x[i] / std::max(std::sqrt(square[i / width]), 1e-12) *
                         std::sqrt(static_cast<double>(width)) * gamma[i % width];
        return silu ? v / (1 + std::exp(-v)) : v;
      };
      ExpectNear(y, want, 10, what);
    });
}

TEST_P(RowwiseTest, AddGated) {
  for (int64_t width : kWidths) {
    Matrix x = Random(StorageType::kF32, kRows * width), before = x;
    Matrix y = Random(StorageType::kF32, kRows * width), gate = Random(StorageType::kF32, width);
    const AddGatedArgs args{x.floats(), y.floats(), gate.floats(), width};
    kernels().add_gated(args, 0, 2);
    kernels().add_gated(args, 2, kRows);
    const auto want = [&](int64_t i) { return before[i] + gate[i % width] * y[i]; };
    ExpectNear(x, want, 5, "width " + std::to_string(width));
  }
}

TEST_P(RowwiseTest, AddAndMultiply) {
  ForAll([&](StorageType xs, StorageType ys, int64_t width, const std::string& what) {
    const Matrix before = Random(xs, kRows * width), y = Random(ys, kRows * width);
    Matrix sum = before, relu = before, product = before;
    kernels().add({sum.out(), y.in(), width}, 0, kRows);
    kernels().add_relu({relu.out(), y.in(), width}, 0, kRows);
    kernels().multiply({product.out(), y.in(), width}, 0, kRows);
    ExpectNear(
        sum, [&](int64_t i) { return before[i] + y[i]; }, 5, what);
    ExpectNear(
        relu, [&](int64_t i) { return std::max(before[i] + y[i], 0.0); }, 5, what);
    ExpectNear(
        product, [&](int64_t i) { return before[i] * y[i]; }, 5, what);
  });
}

TEST_P(RowwiseTest, ScaleBias) {
  ForAll([&](StorageType xs, StorageType ys, int64_t width, const std::string& what) {
    const Matrix x = Random(xs, kRows * width);
    Matrix scale = Random(StorageType::kF32, width), bias = Random(StorageType::kF32, width);
    Matrix y(ys, kRows * width);
    kernels().scale_bias({x.in(), y.out(), scale.floats(), bias.floats(), width}, 0, kRows);
    ExpectNear(
        y, [&](int64_t i) { return x[i] * scale[i % width] + bias[i % width]; }, 5, what);
  });
}

constexpr int64_t kHeads = 3;

/// Where element i of [tokens, heads, head_dim] lies.
int64_t Place(int64_t i, int64_t head_dim, const TokenStrides& strides) {
  return i / (kHeads * head_dim) * strides.token + i / head_dim % kHeads * strides.head +
         i % head_dim;
}

TEST_P(RowwiseTest, RmsNormRope) {
  for (StorageType storage : kStorages)
    for (StorageType y_storage : kStorages)
      for (KvLayout layout : {KvLayout::kTokenMajor, KvLayout::kHeadMajor})
        for (int64_t head_dim : {2, 6, 16, 64, 66, 128, 130}) {
          const int64_t width = kHeads * head_dim;
          const Matrix x = Random(storage, kRows * width);
          Matrix y(y_storage, x.size()), weight = Random(StorageType::kF32, width, 1, 0.2);
          Matrix cos = Random(StorageType::kF32, kRows * head_dim / 2);
          Matrix sin = Random(StorageType::kF32, kRows * head_dim / 2);
          const TokenStrides strides = StridesOf(layout, kRows, kHeads, head_dim);
          RmsNormRopeArgs args = {.x = x.in(),
                                  .y = y.out(),
                                  .y_strides = strides,
                                  .weight = weight.floats(),
                                  .cos = cos.floats(),
                                  .sin = sin.floats(),
                                  .heads = kHeads,
                                  .head_dim = head_dim,
                                  .eps = 1e-5f};
          kernels().rms_norm_rope(args, 0, 1);
          kernels().rms_norm_rope(args, 1, kRows);
          const auto sums = RowSums(x, width, [](int64_t, double value) { return value * value; });
          const auto normal = [&](int64_t i) {
            const double mean = sums[static_cast<size_t>(i / width)] / static_cast<double>(width);
            return x[i] / std::sqrt(mean + 1e-5) * weight[i % width];
          };
          std::vector<double> want(static_cast<size_t>(x.size()));
          for (int64_t i = 0; i < x.size(); i += 2) {
            const int64_t angle = i / width * (head_dim / 2) + i % head_dim / 2;
            const auto to = static_cast<size_t>(Place(i, head_dim, strides));
            want[to] = normal(i) * cos[angle] - normal(i + 1) * sin[angle];
            want[to + 1] = normal(i) * sin[angle] + normal(i + 1) * cos[angle];
          }
          const auto at = [&](int64_t i) { return want[static_cast<size_t>(i)]; };
          ExpectNear(y, at, 10, "head_dim " + std::to_string(head_dim));
          if (storage != y_storage || layout != KvLayout::kTokenMajor) continue;
          Matrix in_place = x;
          args.x = in_place.in();
          args.y = in_place.out();
          kernels().rms_norm_rope(args, 0, kRows);
          for (int64_t i = 0; i < y.size(); ++i) ASSERT_EQ(in_place[i], y[i]) << head_dim;
        }
}

TEST_P(RowwiseTest, MoveTokens) {
  for (StorageType storage : kStorages)
    for (KvLayout layout : {KvLayout::kTokenMajor, KvLayout::kHeadMajor})
      for (int64_t head_dim : {1, 6, 16, 67}) {
        const Matrix x = Random(storage, kRows * kHeads * head_dim);
        Matrix y(storage, x.size());
        const TokenStrides strides = StridesOf(layout, kRows, kHeads, head_dim);
        const MoveTokensArgs args = {x.in(), y.out(), strides, kHeads, head_dim};
        kernels().move_tokens(args, 0, 2);
        kernels().move_tokens(args, 2, kRows);
        for (int64_t i = 0; i < x.size(); ++i)
          ASSERT_EQ(y[Place(i, head_dim, strides)], x[i]) << head_dim;
      }
}

TEST_P(RowwiseTest, Softmax) {
  ForAll([&](StorageType xs, StorageType, int64_t width, const std::string& what) {
    for (double deviation : {1.0, 40.0}) {
      Matrix x = Random(xs, kRows * width, 100.0, deviation);  // exp of it overflows
      x.Set(width, -std::numeric_limits<double>::infinity());  // a masked element
      if (width == 1) x.Set(width, 0.0);
      const Matrix before = x;
      constexpr double kScale = 0.75;
      kernels().softmax({x.out(), width, kScale}, 0, kRows);
      // No maximum is subtracted here: in double precision exp(-500 .. 500) is a number.
      const auto sum =
          RowSums(before, width, [&](int64_t, double v) { return std::exp(kScale * v); });
      const auto want = [&](int64_t i) { return std::exp(kScale * before[i]) / sum[i / width]; };
      // An argument near 200 has lost 2^-17 of its absolute value, so the exponential that too.
      ExpectNear(x, want, 1, what, 3e-5);
    }
  });
}

TEST_P(RowwiseTest, CastIsExactOrRoundsToNearestEven) {
  ForAll([&](StorageType xs, StorageType ys, int64_t width, const std::string& what) {
    const Matrix x = Random(xs, kRows * width);
    Matrix y(ys, kRows * width);
    kernels().cast({x.in(), y.out(), width}, 0, kRows);
    for (int64_t i = 0; i < y.size(); ++i) {
      const float value = static_cast<float>(x[i]);
      ASSERT_EQ(y[i], ys == StorageType::kF32 ? value : RoundToBFloat16(value)) << what;
    }
  });
}

TEST_P(RowwiseTest, RoundKeepsSpecialValuesAndTies) {
  const float inf = std::numeric_limits<float>::infinity();
  const std::vector<float> before = {0.0f,
                                     -0.0f,
                                     inf,
                                     -inf,
                                     std::bit_cast<float>(0x7f800001u),  // NaN in its last bit only
                                     std::bit_cast<float>(0x3f808000u),  // ties, to even
                                     std::bit_cast<float>(0x3f818000u),
                                     std::numeric_limits<float>::max(),  // becomes infinite
                                     std::numeric_limits<float>::denorm_min(),
                                     -1.2345678f};
  for (size_t repeat = 1; repeat < 5; ++repeat) {  // through whole vectors and the rest
    std::vector<float> x;
    for (size_t i = 0; i < repeat; ++i) x.insert(x.end(), before.begin(), before.end());
    std::vector<float> y = x;
    kernels().round({y.data(), static_cast<int64_t>(y.size())}, 0, 1);
    for (size_t i = 0; i < x.size(); ++i)
      EXPECT_EQ(std::bit_cast<uint32_t>(y[i]), std::bit_cast<uint32_t>(RoundToBFloat16(x[i])))
          << x[i];
  }
}

TEST_P(RowwiseTest, SiluOfLargeArgumentsStaysFinite) {
  // With one channel the norm is the argument itself, so gamma is the argument of SiLU.
  for (double argument : {-1e30, -1000.0, -88.0, -20.0, 20.0, 88.0, 1000.0, 1e30}) {
    float x = 1, y = 0, gamma = static_cast<float>(argument);
    kernels().channel_norm(
        {{&x, StorageType::kF32}, {&y, StorageType::kF32}, &gamma, 1, /*silu=*/true}, 0, 1);
    if (argument > 0) {
      EXPECT_FLOAT_EQ(y, gamma);
    } else {
      EXPECT_LE(y, 0);
      EXPECT_GE(y, argument * std::exp(std::max(argument, -87.0)) * (1 + 1e-5));
    }
  }
}

/// What quantize makes of one row.
struct QuantizedRow {
  std::vector<int> q;  // both digits
  float scale = 1;
  int32_t zero = -1;
};

QuantizedRow QuantizeOne(const RowwiseKernels& kernels, const Matrix& x, bool two_digits) {
  QuantizedRow row;
  std::vector<uint8_t> q(x.size(), 9), low(x.size(), 9);
  const int steps = two_digits ? kDigitBase * kDigitBase - 2 : 254;
  kernels.quantize({.x = x.in(),
                    .q = q.data(),
                    .q_low = two_digits ? low.data() : nullptr,
                    .scale = &row.scale,
                    .zero = &row.zero,
                    .width = x.size(),
                    .steps = steps},
                   0, 1);
  for (size_t i = 0; i < q.size(); ++i)
    row.q.push_back(two_digits ? q[i] * kDigitBase + low[i] : q[i]);
  return row;
}

TEST_P(RowwiseTest, QuantizeIsOffByHalfAScaleAtMost) {
  for (const bool two_digits : {false, true})
    for (const StorageType storage : kStorages)
      for (const int64_t width : kWidths)
        for (const double mean : {0.0, 2.0, -2e-20}) {
          const double size = mean == 0 ? 1e-3 : mean;
          const Matrix x = Random(storage, width, mean, std::abs(size));
          const QuantizedRow row = QuantizeOne(kernels(), x, two_digits);
          const int steps = two_digits ? kDigitBase * kDigitBase - 2 : 254;
          double min = 0, max = 0;
          for (int64_t i = 0; i < width; ++i) min = std::min(min, x[i]), max = std::max(max, x[i]);
          ASSERT_NEAR(row.scale * steps / (max - min), 1, 1e-6);
          // Two digits: x / scale has lost 2^-24 of up to 16382 scales.
          const double half = two_digits ? 0.502 : 0.5001;
          for (int64_t i = 0; i < width; ++i) {
            ASSERT_LE(std::abs(x[i] - double{row.scale} * (row.q[i] - row.zero)), half * row.scale)
                << "width " << width << ", mean " << mean;
            ASSERT_LE(row.q[i], steps + 1);
            ASSERT_GE(row.q[i], 0);
          }
        }
}

TEST_P(RowwiseTest, QuantizeWorksOnItsRowsOnly) {
  constexpr int64_t kWidth = 19;
  const Matrix x = Random(StorageType::kF32, kRows * kWidth);
  std::vector<uint8_t> q(kRows * kWidth, 7);
  std::vector<float> scale(kRows, 7);
  std::vector<int32_t> zero(kRows, 7);
  kernels().quantize(
      {.x = x.in(), .q = q.data(), .scale = scale.data(), .zero = zero.data(), .width = kWidth}, 2,
      4);
  for (int64_t row = 0; row < kRows; ++row) {
    const bool touched = row == 2 || row == 3;
    EXPECT_EQ(scale[row] != 7, touched);
    EXPECT_EQ(zero[row] != 7, touched);
    EXPECT_EQ(std::count(q.begin() + row * kWidth, q.begin() + (row + 1) * kWidth, 7) == kWidth,
              !touched);
  }
}

TEST_P(RowwiseTest, QuantizeMarksRowsThatHoldNoNumbers) {
  const float inf = std::numeric_limits<float>::infinity();
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const float tiny = std::numeric_limits<float>::denorm_min();
  for (const bool two_digits : {false, true})
    for (const StorageType storage : kStorages)
      for (const int64_t width : kWidths)
        for (const int64_t at : {int64_t{0}, width - 1})
          for (const float value : {0.0f, -0.0f, tiny, nan, -nan, inf, -inf}) {
            Matrix x(storage, width);
            x.Set(at, value);
            const QuantizedRow row = QuantizeOne(kernels(), x, two_digits);
            EXPECT_EQ(std::isnan(row.scale), !std::isfinite(value)) << value;
            EXPECT_EQ(row.scale == 0, std::isfinite(value)) << value;
            EXPECT_EQ(row.zero, 0);
            EXPECT_EQ(row.q, std::vector<int>(width, 0));
          }
}

TEST_P(RowwiseTest, QuantizeKeepsIntegersAndLimits) {
  for (const float size : {1.0f, 0x1p-90f, 0x1p+120f}) {
    Matrix x(StorageType::kF32, 5);
    const float values[] = {-127, 127, 0, 64, -1};
    for (int64_t i = 0; i < 5; ++i) x.Set(i, values[i] * size);
    const QuantizedRow row = QuantizeOne(kernels(), x, false);
    EXPECT_EQ(row.scale, size);
    EXPECT_EQ(row.zero, 127);
    EXPECT_EQ(row.q, (std::vector<int>{0, 254, 127, 191, 126}));
  }
  // Both ends lie on a half and go to even numbers: here that adds up to one step more.
  Matrix x(StorageType::kF32, 2);
  x.Set(0, -63.5), x.Set(1, 190.5);
  EXPECT_EQ(QuantizeOne(kernels(), x, false).q, (std::vector<int>{0, 254}));
  x.Set(0, -65.5), x.Set(1, 187.5 + 1);
  EXPECT_EQ(QuantizeOne(kernels(), x, false).q, (std::vector<int>{0, 254}));
  const float largest = std::numeric_limits<float>::max();
  x.Set(0, -largest), x.Set(1, largest);
  const QuantizedRow row = QuantizeOne(kernels(), x, true);
  EXPECT_TRUE(std::isfinite(row.scale));
  EXPECT_EQ(row.q, (std::vector<int>{0, 16382}));
}

/// Sums as an int8 product leaves them, and what dequantize makes of them but for the epilogue.
struct Sums {
  Sums(std::mt19937& random, int64_t width_of_rows, bool with_low)
      : width(width_of_rows),
        two_digits(with_low),
        sum(kRows * width),
        low(kRows * width),
        weight_sum(width),
        zero(kRows),
        scale(width),
        row_scale(kRows),
        bias(width) {
    std::uniform_int_distribution<int32_t> integer(-1000, 1000), zeros(0, 254);
    std::normal_distribution<float> small(0, 0.003f), normal;
    for (std::vector<int32_t>* all : {&sum, &low, &weight_sum})
      for (int32_t& v : *all) v = integer(random);
    for (int32_t& v : zero) v = zeros(random);
    for (std::vector<float>* all : {&scale, &row_scale})
      for (float& v : *all) v = small(random);
    for (float& v : bias) v = normal(random);
  }

  DequantizeArgs Args(const RowsOut& y) const {
    return {.sum = sum.data(),
            .sum_low = two_digits ? low.data() : nullptr,
            .weight_sum = weight_sum.data(),
            .scale = scale.data(),
            .row_scale = row_scale.data(),
            .zero = zero.data(),
            .bias = bias.data(),
            .y = y,
            .width = width};
  }

  double Value(int64_t i) const {
    const int64_t c = i % width, row = i / width;
    const double total = two_digits ? 1.0 * sum[i] * kDigitBase + low[i] : sum[i];
    return (total - 1.0 * zero[row] * weight_sum[c]) * scale[c] * row_scale[row] + bias[c];
  }

  int64_t width;
  bool two_digits;
  std::vector<int32_t> sum, low, weight_sum, zero;
  std::vector<float> scale, row_scale, bias;
};

TEST_P(RowwiseTest, Dequantize) {
  ForAll([&](StorageType xs, StorageType ys, int64_t width, const std::string& what) {
    const Sums sums(random_, width, /*with_low=*/xs == StorageType::kBF16);  // there is no x
    for (const Epilogue epilogue :
         {Epilogue::kNone, Epilogue::kGeluTanh, Epilogue::kSilu, Epilogue::kRelu}) {
      Matrix y(ys, kRows * width);
      DequantizeArgs args = sums.Args(y.out());
      args.epilogue = epilogue;
      kernels().dequantize(args, 0, 2);
      kernels().dequantize(args, 2, kRows);
      const auto want = [&](int64_t i) {
        const double v = sums.Value(i);
        switch (epilogue) {
          case Epilogue::kNone: return v;
          case Epilogue::kGeluTanh:
            return 0.5 * v * (1 + std::tanh(std::sqrt(2 / M_PI) * (v + 0.044715 * v * v * v)));
          case Epilogue::kSilu: return v / (1 + std::exp(-v));
          case Epilogue::kRelu: return std::max(v, 0.0);
        }
        return v;
      };
      ExpectNear(y, want, 20, what);
    }
  });
}

TEST_P(RowwiseTest, DequantizeAndAdd) {
  for (const bool two_digits : {false, true})
    for (const bool gated : {false, true})
      for (const int64_t width : kWidths) {
        const Sums sums(random_, width, two_digits);
        Matrix y = Random(StorageType::kF32, kRows * width), before = y;
        Matrix gate = Random(StorageType::kF32, width);
        DequantizeArgs args = sums.Args(y.out());
        args.add = true;
        if (gated) args.gate = gate.floats();
        kernels().dequantize(args, 0, 2);
        kernels().dequantize(args, 2, kRows);
        const auto want = [&](int64_t i) {
          return before[i] + (gated ? gate[i % width] : 1) * sums.Value(i);
        };
        ExpectNear(y, want, 40, "width " + std::to_string(width));
      }
}

TEST_P(RowwiseTest, GeluOfLargeArgumentsStaysFinite) {
  const int32_t sum = 1, nothing = 0;
  const float one = 1, zero = 0;
  for (const float argument : {-1e20f, -1000.0f, -20.0f, 20.0f, 1000.0f, 1e20f}) {
    float y = -1;
    kernels().dequantize({.sum = &sum,
                          .weight_sum = &nothing,
                          .scale = &argument,
                          .row_scale = &one,
                          .zero = &nothing,
                          .bias = &zero,
                          .y = {&y, StorageType::kF32},
                          .width = 1,
                          .epilogue = Epilogue::kGeluTanh},
                         0, 1);
    if (argument > 0) {
      EXPECT_FLOAT_EQ(y, argument);
    } else {
      EXPECT_NEAR(y, 0, 1e-6);
    }
  }
}

std::vector<const RowwiseImpl*> Impls() {
  std::vector<const RowwiseImpl*> all;
  for (const RowwiseImpl& impl : RowwiseImpls()) all.push_back(&impl);
  return all;
}

INSTANTIATE_TEST_SUITE_P(Impls, RowwiseTest, ::testing::ValuesIn(Impls()),
                         [](const auto& test) { return std::string(test.param->name); });

TEST(RowwiseDispatch, ForcesAndRefuses) {
  ASSERT_TRUE(PickRowwise("portable").ok());
  EXPECT_STREQ(PickRowwise("portable").value()->name, "portable");
  const Status unknown = PickRowwise("avx1024").status();
  EXPECT_EQ(unknown.code(), StatusCode::kInvalidArgument);
  EXPECT_NE(unknown.message().find("avx512, avx2, portable"), std::string::npos);
}

}  // namespace
}  // namespace mrt
