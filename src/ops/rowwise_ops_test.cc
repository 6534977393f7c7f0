// The row-wise operations on tensors: shapes, groups, threads and rounding. The arithmetic of the
// kernels has its own test in kernels/rowwise.
#include <gtest/gtest.h>

#include <vector>

#include "ops/for_test.h"
#include "ops/rowwise.h"

namespace mrt::ops {
namespace {

// Large enough for several threads.
constexpr int64_t kRows = 600, kWidth = 100;

class RowwiseOpsTest : public ::testing::TestWithParam<Precision> {
 protected:
  void SetUp() override {
    if (const char* reason = Unsupported(GetParam())) GTEST_SKIP() << reason;
  }

  Tensor Floats(const Shape& shape, uint32_t seed) {
    return RandomTensor(DType::kF32, shape, seed);
  }
  Tensor Copy(const Tensor& x) {
    Tensor copy(x.dtype(), x.shape());
    std::memcpy(copy.view().data, x.view().data, x.bytes());
    return copy;
  }
  DType act() const { return context_.activation(); }

  Context context_{GetParam()};
};

double At(const Tensor& x, int64_t i) { return ElementAsFloat(x, i); }

/// (x - mean) / deviation of every element.
std::vector<double> Normalised(const Tensor& x, double eps) {
  std::vector<double> y(x.shape().elements());
  const int64_t width = x.shape().back();
  for (int64_t row = 0; row < x.shape().rows(); ++row) {
    double mean = 0, var = 0;
    for (int64_t c = 0; c < width; ++c) mean += At(x, row * width + c) / width;
    for (int64_t c = 0; c < width; ++c) var += std::pow(At(x, row * width + c) - mean, 2) / width;
    for (int64_t c = 0; c < width; ++c)
      y[row * width + c] = (At(x, row * width + c) - mean) / std::sqrt(var + eps);
  }
  return y;
}

TEST_P(RowwiseOpsTest, LayerNormModulateHasOneGroupPerFrame) {
  for (int64_t groups : {1, 3, 600}) {
    const Tensor x = Floats({kRows, kWidth}, 1), scale = Floats({groups, kWidth}, 2);
    const Tensor shift = Floats({groups, kWidth}, 3), y(act(), {kRows, kWidth});
    LayerNormModulate(context_, x, scale, shift, 1e-6f, y);
    const std::vector<double> normal = Normalised(x, 1e-6);
    const auto want = [&](int64_t i) {
      const int64_t k = i / kWidth / (kRows / groups) * kWidth + i % kWidth;
      return normal[i] * (1 + At(scale, k)) + At(shift, k);
    };
    ASSERT_EQ(Mismatch(context_, y, Output::kActivation, want, 5), "")
        << "groups " + std::to_string(groups);
  }
}

TEST_P(RowwiseOpsTest, LayerNorm) {
  const Tensor x = Floats({kRows, kWidth}, 1), weight = Floats({kWidth}, 2);
  const Tensor bias = Floats({kWidth}, 3), y(act(), {kRows, kWidth});
  LayerNorm(context_, x, weight, bias, 1e-5f, y);
  const std::vector<double> normal = Normalised(x, 1e-5);
  const auto want = [&](int64_t i) {
    return normal[i] * At(weight, i % kWidth) + At(bias, i % kWidth);
  };
  ASSERT_EQ(Mismatch(context_, y, Output::kActivation, want, 5), "");
}

TEST_P(RowwiseOpsTest, RmsNormInPlaceAndToFloat) {
  const Tensor x = RandomActivation(context_, {kRows, kWidth}, 1), weight = Floats({kWidth}, 2);
  const Tensor in_place = Copy(x), floats(DType::kF32, x.shape());
  RmsNorm(context_, in_place, weight, 1e-6f, in_place);
  RmsNorm(context_, x, weight, 1e-6f, floats, Output::kFloat);
  const auto want = [&](int64_t i) {
    double square = 0;
    for (int64_t c = 0; c < kWidth; ++c)
      square += std::pow(At(x, i / kWidth * kWidth + c), 2) / kWidth;
    return At(x, i) / std::sqrt(square + 1e-6) * At(weight, i % kWidth);
  };
  ASSERT_EQ(Mismatch(context_, in_place, Output::kActivation, want, 5), "") << "in place";
  ASSERT_EQ(Mismatch(context_, floats, Output::kFloat, want, 5), "") << "to float";
}

TEST_P(RowwiseOpsTest, ChannelNormOfAVideo) {
  const Tensor x = RandomActivation(context_, {2, 15, 20, kWidth}, 1);
  const Tensor gamma = Floats({kWidth}, 2), y(act(), x.shape());
  ChannelNorm(context_, x, gamma, /*silu=*/true, y);
  const auto want = [&](int64_t i) {
    double square = 0;
    for (int64_t c = 0; c < kWidth; ++c) square += std::pow(At(x, i / kWidth * kWidth + c), 2);
    const double v = At(x, i) / std::sqrt(square) * std::sqrt(1.0 * kWidth) * At(gamma, i % kWidth);
    return v / (1 + std::exp(-v));
  };
  ASSERT_EQ(Mismatch(context_, y, Output::kActivation, want, 5), "");
}

TEST_P(RowwiseOpsTest, AddAndMultiply) {
  const Tensor x = RandomActivation(context_, {kRows, kWidth}, 1);
  const Tensor y = RandomActivation(context_, {kRows, kWidth}, 2);
  const Tensor sum = Copy(x), relu = Copy(x), product = Copy(x), floats = ToFloat32(x);
  Add(context_, sum, y);
  Add(context_, relu, y, /*relu=*/true);
  Add(context_, floats, y, /*relu=*/false, Output::kFloat);
  Multiply(context_, product, y);
  const auto want_sum = [&](int64_t i) { return At(x, i) + At(y, i); };
  ASSERT_EQ(Mismatch(context_, sum, Output::kActivation, want_sum, 5), "") << "add";
  ASSERT_EQ(Mismatch(context_, floats, Output::kFloat, want_sum, 5), "") << "add to float";
  ASSERT_EQ(Mismatch(
                context_, relu, Output::kActivation,
                [&](int64_t i) { return std::max(want_sum(i), 0.0); }, 5),
            "")
      << "relu";
  ASSERT_EQ(Mismatch(
                context_, product, Output::kActivation,
                [&](int64_t i) { return At(x, i) * At(y, i); }, 5),
            "")
      << "multiply";
}

TEST_P(RowwiseOpsTest, RmsNormRope) {
  constexpr int64_t kHeads = 3, kHeadDim = 22;
  const Tensor x = RandomActivation(context_, {kRows, kHeads, kHeadDim}, 1), before = Copy(x);
  const Tensor cos = Floats({kRows, kHeadDim / 2}, 2), sin = Floats({kRows, kHeadDim / 2}, 3);
  const Tensor weight = Floats({kHeads * kHeadDim}, 4);
  RmsNormRope(context_, x, {.weight = weight, .cos = cos, .sin = sin, .eps = 1e-6f});
  const auto normal = [&](int64_t i) {
    constexpr int64_t kAll = kHeads * kHeadDim;
    double square = 0;
    for (int64_t c = 0; c < kAll; ++c)
      square += std::pow(At(before, i / kAll * kAll + c), 2) / kAll;
    return At(before, i) / std::sqrt(square + 1e-6) * At(weight, i % kAll);
  };
  const auto want = [&](int64_t i) {
    const int64_t angle = i / (kHeads * kHeadDim) * (kHeadDim / 2) + i % kHeadDim / 2;
    return i % 2 == 0 ? normal(i) * At(cos, angle) - normal(i + 1) * At(sin, angle)
                      : normal(i - 1) * At(sin, angle) + normal(i) * At(cos, angle);
  };
  ASSERT_EQ(Mismatch(context_, x, Output::kActivation, want, 10), "");
}

TEST_P(RowwiseOpsTest, CastRoundsOnlyWhereBf16Would) {
  const Tensor x = Floats({kRows, kWidth}, 1), y(act(), x.shape()), back(DType::kF32, x.shape());
  Cast(context_, x, y);
  Cast(context_, y, back);
  for (int64_t i = 0; i < x.shape().elements(); ++i) {
    const float value = x.as<float>()[i];
    const float want = GetParam() == Precision::kF32 ? value : RoundToBFloat16(value);
    ASSERT_EQ(back.as<float>()[i], want);
  }
}

TEST_P(RowwiseOpsTest, ScaleBias) {
  const Tensor x = Floats({kRows, kWidth}, 1), scale = Floats({kWidth}, 2);
  const Tensor bias = Floats({kWidth}, 3);
  const Tensor y(act(), x.shape()), floats(DType::kF32, x.shape());
  ScaleBias(context_, x, scale, bias, y);
  ScaleBias(context_, x, scale, bias, floats, Output::kFloat);
  const auto want = [&](int64_t i) {
    return At(x, i) * At(scale, i % kWidth) + At(bias, i % kWidth);
  };
  ASSERT_EQ(Mismatch(context_, y, Output::kActivation, want, 5), "");
  ASSERT_EQ(Mismatch(context_, floats, Output::kFloat, want, 5), "") << "to float";
}

TEST_P(RowwiseOpsTest, SoftmaxRowsSumToOne) {
  for (DType dtype : {act(), DType::kF32}) {
    const Tensor x = RandomTensor(dtype, {4, 150, kWidth}, 1), before = Copy(x);
    const Output output = dtype == act() ? Output::kActivation : Output::kFloat;
    Softmax(context_, x, 0.5f, output);
    std::vector<double> sums(600, 0.0);
    for (int64_t i = 0; i < x.shape().elements(); ++i)
      sums[i / kWidth] += std::exp(0.5 * At(before, i));
    const auto want = [&](int64_t i) { return std::exp(0.5 * At(before, i)) / sums[i / kWidth]; };
    ASSERT_EQ(Mismatch(context_, x, output, want, 1), "");
  }
}

TEST_P(RowwiseOpsTest, UpsampleRepeatsEveryPixel) {
  const Tensor x = RandomActivation(context_, {2, 3, 5, 7}, 1), y(act(), {2, 6, 10, 7});
  UpsampleNearest2x(context_, x, y);
  for (int64_t t = 0; t < 2; ++t)
    for (int64_t row = 0; row < 6; ++row)
      for (int64_t col = 0; col < 10; ++col)
        for (int64_t c = 0; c < 7; ++c)
          ASSERT_EQ(At(y, ((t * 6 + row) * 10 + col) * 7 + c),
                    At(x, ((t * 3 + row / 2) * 5 + col / 2) * 7 + c));
}

TEST_P(RowwiseOpsTest, NoRows) {
  const Tensor x(act(), {0, kWidth}), floats(DType::kF32, {0, kWidth});
  const Tensor weight = Floats({kWidth}, 1);
  RmsNorm(context_, x, weight, 1e-6f, x);
  LayerNorm(context_, floats, weight, weight, 1e-6f, x);
  LayerNormModulate(context_, floats, weight, weight, 1e-6f, x);
  Add(context_, x, x);
}

INSTANTIATE_TEST_SUITE_P(All, RowwiseOpsTest, ::testing::ValuesIn(kPrecisions),
                         [](const auto& test) { return PrecisionName(test.param); });

}  // namespace
}  // namespace mrt::ops
