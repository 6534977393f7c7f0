// Conv against a plain loop, in every precision.
#include "ops/conv.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "ops/for_test.h"
#include "ops/rowwise.h"
#include "ops/upsampled_conv.h"
#include "testing/known_defect.h"
#include "testing/sanitizer.h"

namespace mrt::ops {
namespace {

struct ConvCase {
  Shape weight;  // [out, in, (time,) rows, columns]
  Shape x;       // [time, rows, columns, in]
  ConvParams params;
  bool bias = true;
  DType dtype = DType::kF32;  // of the weight

  friend void PrintTo(const ConvCase& c, std::ostream* os) {
    *os << "weight " << c.weight.ToString() << " x " << c.x.ToString() << " stride "
        << c.params.stride_time << "," << c.params.stride_space;
  }
};

constexpr ConvParams kSame{1, 1, 1, 1, 1, 1};   // 3 x 3, the size stays
constexpr ConvParams kHalve{1, 2, 0, 0, 1, 1};  // Wan encoder: one row and column at the end
constexpr ConvParams kHalveBothSides{1, 2, 1, 1, 1, 1};
constexpr ConvParams kHalveTime{2, 1, 0, 0, 0, 0};
constexpr ConvParams kLopsided{1, 1, 2, 0, 1, 3};

std::vector<ConvCase> Cases() {
  std::vector<ConvCase> cases = {
      {{8, 8, 1, 1}, {2, 5, 7, 8}, {}},
      {{5, 3, 1, 1, 1}, {4, 6, 5, 3}, {}},
      {{32, 48, 1, 1, 1}, {3, 9, 8, 48}, {}},
      {{36, 20, 3, 3, 3}, {4, 9, 11, 20}, kSame},
      {{36, 20, 3, 1, 1}, {6, 9, 11, 20}, {}},
      {{20, 20, 3, 1, 1}, {5, 4, 6, 20}, kHalveTime},
      {{24, 16, 3, 3}, {2, 10, 14, 16}, kHalve},
      {{24, 16, 3, 3}, {2, 9, 13, 16}, kHalve},
      {{24, 16, 3, 3}, {2, 10, 14, 16}, kHalveBothSides},
      {{17, 9, 3, 3}, {1, 7, 6, 9}, kLopsided},
      {{17, 9, 2, 3, 3}, {3, 7, 6, 9}, kLopsided},
      {{16, 16, 3, 3, 3}, {3, 3, 3, 16}, {}},                // one output pixel
      {{16, 4, 1, 2, 2}, {3, 6, 8, 4}, {1, 2, 0, 0, 0, 0}},  // patches of the transformer
      {{40, 16, 3, 3, 3}, {3, 1, 1, 16}, kSame},             // mostly padding
      {{24, 64, 3, 3}, {2, 6, 40, 64}, kSame, false},
  };
  const std::vector<int64_t> channels =
      testing::kSanitized ? std::vector<int64_t>{3, 16} : std::vector<int64_t>{1, 3, 8, 16, 96};
  for (int64_t in : channels)
    for (int64_t out : channels) {
      cases.push_back({{out, in, 3, 3}, {2, 5, 6, in}, kSame});
      cases.push_back({{out, in, 3, 3, 3}, {3, 5, 6, in}, kSame, out != 1});
    }
  for (DType dtype : {DType::kF16, DType::kBF16, DType::kF64})
    cases.push_back({{12, 10, 3, 3}, {2, 5, 6, 10}, kSame, true, dtype});
  return cases;
}

/// y = conv(x) by seven loops, over the weight as the precision stores it.
std::vector<double> Want(const Context& context, const ConvCase& c, const Tensor& x,
                         const Tensor& weight, const Tensor& bias, const Shape& y) {
  const bool is_3d = c.weight.rank() == 5;
  const int64_t kt = is_3d ? c.weight[2] : 1;
  const int64_t kr = c.weight[c.weight.rank() - 2], kc = c.weight.back();
  const int64_t in = c.weight[1], out = c.weight[0];
  std::vector<double> w(c.weight.elements()), want;
  for (size_t i = 0; i < w.size(); ++i)
    w[i] = StoredWeight(context, weight, static_cast<int64_t>(i));
  for (int64_t t = 0; t < y[0]; ++t)
    for (int64_t row = 0; row < y[1]; ++row)
      for (int64_t col = 0; col < y[2]; ++col)
        for (int64_t o = 0; o < out; ++o) {
          double sum = bias.empty() ? 0 : ElementAsFloat(bias, o);
          for (int64_t a = 0; a < kt; ++a)
            for (int64_t b = 0; b < kr; ++b)
              for (int64_t d = 0; d < kc; ++d) {
                const int64_t from_t = t * c.params.stride_time + a;
                const int64_t from_row = row * c.params.stride_space + b - c.params.pad_top;
                const int64_t from_col = col * c.params.stride_space + d - c.params.pad_left;
                if (from_row < 0 || from_row >= c.x[1] || from_col < 0 || from_col >= c.x[2])
                  continue;
                const int64_t pixel = (from_t * c.x[1] + from_row) * c.x[2] + from_col;
                for (int64_t i = 0; i < in; ++i)
                  sum += ElementAsFloat(x, pixel * in + i) *
                         w[(((o * in + i) * kt + a) * kr + b) * kc + d];
              }
          want.push_back(sum);
        }
  return want;
}

class ConvTest : public ::testing::TestWithParam<Precision> {
 protected:
  void SetUp() override {
    if (const char* reason = Unsupported(GetParam())) GTEST_SKIP() << reason;
  }
  Context context_{GetParam()};
};

// One case against the plain loop, with the output in both dtypes.
void CheckConv(Context& context, const ConvCase& c) {
  SCOPED_TRACE(::testing::PrintToString(c));
  const Tensor weight = RandomTensor(c.dtype, c.weight, 1, 0.25);
  const Tensor bias = c.bias ? RandomTensor(c.dtype, {c.weight[0]}, 2) : Tensor();
  const Conv conv(context, weight, bias, c.params);
  EXPECT_EQ(conv.in_channels(), c.weight[1]);
  EXPECT_EQ(conv.out_channels(), c.weight[0]);
  const Tensor x = RandomActivation(context, c.x, 3);
  const Shape shape = conv.OutputShape(c.x);
  const std::vector<double> want = Want(context, c, x, weight, bias, shape);
  const auto at = [&](int64_t i) { return want[i]; };
  const double magnitude = std::sqrt(c.weight.elements() / c.weight[0]) + 1;
  const Tensor y(context.activation(), shape), floats(DType::kF32, shape);
  conv.Run(context, x, y);
  ASSERT_EQ(Mismatch(context, y, Output::kActivation, at, magnitude), "");
  conv.Run(context, x, floats, Activation::kNone, Output::kFloat);
  ASSERT_EQ(Mismatch(context, floats, Output::kFloat, at, magnitude), "") << "F32 output";
}

TEST_P(ConvTest, MatchesThePlainLoop) {
  for (const ConvCase& c : Cases()) CheckConv(context_, c);
}

// As in the small golden autoencoders: oneDNN splits the rows.
TEST_P(ConvTest, TakesWidePicturesOfFewChannels) {
  if (testing::kSanitized) GTEST_SKIP() << "the plain loop takes too long";
  const char* defect = testing::AmxConvolutionDefect();
  if (defect != nullptr && GetParam() == Precision::kBF16) GTEST_SKIP() << defect;
  for (int64_t wide : {20, 40, 80})
    for (int64_t both : {8, 16, 32})
      CheckConv(context_, {{both, both, 3, 3, 3}, {3, 4, wide, both}, kSame});
}

TEST_P(ConvTest, Activations) {
  const ConvCase c{{13, 6, 3, 3}, {2, 5, 6, 6}, kSame};
  const Tensor weight = RandomTensor(DType::kF32, c.weight, 1, 0.25);
  const Conv conv(context_, weight, {}, c.params);
  const Tensor x = RandomActivation(context_, c.x, 3);
  const Shape shape = conv.OutputShape(c.x);
  const std::vector<double> sums = Want(context_, c, x, weight, {}, shape);
  const Tensor relu(context_.activation(), shape), silu(context_.activation(), shape);
  conv.Run(context_, x, relu, Activation::kRelu);
  conv.Run(context_, x, silu, Activation::kSilu);
  ASSERT_EQ(Mismatch(
                context_, relu, Output::kActivation,
                [&](int64_t i) { return std::max(sums[i], 0.0); }, 8),
            "")
      << "relu";
  ASSERT_EQ(Mismatch(
                context_, silu, Output::kActivation,
                [&](int64_t i) { return sums[i] / (1 + std::exp(-sums[i])); }, 8),
            "")
      << "silu";
}

TEST_P(ConvTest, OneWeightServesAllSizes) {
  const Tensor weight = RandomTensor(DType::kF32, {24, 12, 3, 3, 3}, 1, 0.25);
  const Tensor bias = RandomTensor(DType::kF32, {24}, 2);
  const Conv conv(context_, weight, bias, kSame);
  for (const Shape& size : {Shape{3, 4, 6, 12}, {6, 4, 6, 12}, {3, 15, 26, 12}, {3, 30, 2, 12}}) {
    const ConvCase c{{24, 12, 3, 3, 3}, size, kSame};
    const Tensor x = RandomActivation(context_, size, 3);
    const Tensor y(context_.activation(), conv.OutputShape(size));
    conv.Run(context_, x, y);
    const std::vector<double> want = Want(context_, c, x, weight, bias, y.shape());
    ASSERT_EQ(Mismatch(
                  context_, y, Output::kActivation, [&](int64_t i) { return want[i]; }, 19),
              "")
        << size.ToString();
  }
}

// Frames that lie anywhere give the bits of frames that lie together.
TEST_P(ConvTest, TakesFramesApart) {
  const ConvCase c{{36, 64, 3, 3, 3}, {3, 5, 18, 64}, kSame};
  const Tensor weight = RandomTensor(c.dtype, c.weight, 1, 0.25);
  const Tensor bias = RandomTensor(c.dtype, {c.weight[0]}, 2);
  const Conv conv(context_, weight, bias, c.params);
  if (!conv.takes_frames()) GTEST_SKIP() << "this convolution wants its frames together";
  const Tensor x = RandomActivation(context_, c.x, 3);
  const Shape shape = conv.OutputShape(c.x);
  const Tensor together(context_.activation(), shape), apart(context_.activation(), shape);
  conv.Run(context_, x, together);
  std::vector<Tensor> frames;
  for (int64_t t = 0; t < 3; ++t) {
    const ConstTensorView frame = x.view().Slice(t, t + 1);
    std::memcpy(frames.emplace_back(frame.dtype, frame.shape).view().data, frame.data,
                static_cast<size_t>(frame.bytes()));
  }
  const std::vector<ConstTensorView> views(frames.begin(), frames.end());
  conv.RunFrames(context_, views, apart);
  ASSERT_EQ(std::memcmp(together.view().data, apart.view().data, together.bytes()), 0);
  // Added to what is there: one rounding more.
  const Tensor sum = RandomActivation(context_, shape, 4);
  std::vector<double> want = Want(context_, c, x, weight, bias, shape);
  for (size_t i = 0; i < want.size(); ++i) want[i] += ElementAsFloat(sum, static_cast<int64_t>(i));
  conv.RunFrames(context_, views, sum, /*add=*/true);
  ASSERT_EQ(Mismatch(
                context_, sum, Output::kActivation, [&](int64_t i) { return want[i]; },
                std::sqrt(27 * 64) + 1),
            "");
}

TEST_P(ConvTest, OverAPictureOfTwiceTheSize) {
  for (const auto& [in, out] : {std::pair<int64_t, int64_t>{32, 48}, {96, 3}, {5, 7}})
    for (const Shape& size : {Shape{1, 1, 1, in}, {1, 6, 17, in}, {1, 9, 40, in}}) {
      const ConvCase c{{out, in, 3, 3}, {1, 2 * size[1], 2 * size[2], in}, kSame};
      SCOPED_TRACE(::testing::PrintToString(c));
      // Sixteenths: so are their sums, and bfloat16 holds both.
      const Tensor weight = RandomTensor(c.dtype, c.weight, 1, 0.25);
      for (int64_t i = 0; i < c.weight.elements(); ++i)
        weight.as<float>()[i] =
            std::round(16 * std::clamp(weight.as<float>()[i], -1.0f, 1.0f)) / 16;
      const Tensor bias = RandomTensor(c.dtype, {out}, 2);
      const UpsampledConv conv(context_, weight, bias);
      EXPECT_EQ(conv.in_channels(), in);
      EXPECT_EQ(conv.out_channels(), out);
      const Tensor x = RandomActivation(context_, size, 3), large(context_.activation(), c.x);
      const Tensor y(context_.activation(), {1, c.x[1], c.x[2], out});
      UpsampleNearest2x(context_, x, large);
      conv.Run(context_, x, y, Activation::kRelu);
      std::vector<double> want = Want(context_, c, large, weight, bias, y.shape());
      ASSERT_EQ(
          Mismatch(
              context_, y, Output::kActivation, [&](int64_t i) { return std::max(want[i], 0.0); },
              std::sqrt(9.0 * static_cast<double>(in)) + 1),
          "");
    }
}

INSTANTIATE_TEST_SUITE_P(All, ConvTest, ::testing::ValuesIn(kPrecisions),
                         [](const auto& test) { return PrecisionName(test.param); });

TEST(ConvTest, EmulationAgreesWithBf16) {
  if (!HasNativeBF16()) GTEST_SKIP() << "CPU has no AVX-512 BF16";
  Context bf16(Precision::kBF16), emulated(Precision::kBF16Emulated);
  const Tensor weight = RandomTensor(DType::kF32, {24, 12, 3, 3, 3}, 1, 0.1);
  const Tensor bias = RandomTensor(DType::kF32, {24}, 2);
  const Conv a(bf16, weight, bias, kSame), b(emulated, weight, bias, kSame);
  const Tensor x = RandomActivation(bf16, {4, 7, 9, 12}, 3), wide = ToFloat32(x);
  const Shape shape = a.OutputShape(x.shape());
  const Tensor y(DType::kBF16, shape), z(DType::kF32, shape);
  a.Run(bf16, x, y);
  b.Run(emulated, wide, z);
  ASSERT_EQ(MoreThanOneBf16Step(y, z, 2), "") << "conv";
}

}  // namespace
}  // namespace mrt::ops
