// Linear and BatchedMatmul against plain loops, in every precision.
#include "ops/linear.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <thread>
#include <vector>

#include "base/threads.h"
#include "ops/for_test.h"
#include "testing/sanitizer.h"

namespace mrt::ops {
namespace {

constexpr DType kWeightDTypes[] = {DType::kF32, DType::kF16, DType::kBF16, DType::kF64};
constexpr Activation kActivations[] = {Activation::kNone, Activation::kGeluTanh, Activation::kSilu,
                                       Activation::kRelu};

double Apply(Activation activation, double x) {
  switch (activation) {
    case Activation::kNone: return x;
    case Activation::kGeluTanh:
      return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
    case Activation::kSilu: return x / (1 + std::exp(-x));
    case Activation::kRelu: return std::max(x, 0.0);
  }
  return 0;
}

const Tensor kNoBias;

class LinearTest : public ::testing::TestWithParam<Precision> {
 protected:
  void SetUp() override {
    if (const char* reason = Unsupported(GetParam())) GTEST_SKIP() << reason;
  }

  /// The plain loop over the weight as the precision stores it.
  std::vector<double> Want(const Tensor& x, const Tensor& weight, const Tensor& bias,
                           Activation activation) const {
    const int64_t rows = x.shape().rows(), out = weight.shape()[0], in = weight.shape()[1];
    std::vector<double> w(out * in), y(rows * out);
    for (int64_t i = 0; i < out * in; ++i) w[i] = StoredWeight(context_, weight, i);
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t o = 0; o < out; ++o) {
        double sum = bias.empty() ? 0 : ElementAsFloat(bias, o);
        for (int64_t i = 0; i < in; ++i) sum += ElementAsFloat(x, r * in + i) * w[o * in + i];
        y[r * out + o] = Apply(activation, sum);
      }
    return y;
  }

  void Check(const Linear& linear, const Tensor& weight, const Tensor& bias, int64_t rows,
             Activation activation, DType y_dtype, Output output) {
    const int64_t out = weight.shape()[0], in = weight.shape()[1];
    const Tensor x = RandomActivation(context_, {rows, in}, 7);
    const Tensor y(y_dtype, {rows, out});
    linear.Run(context_, x, y, activation, output);
    const std::vector<double> want = Want(x, weight, bias, activation);
    ASSERT_EQ(Mismatch(
                  context_, y, output, [&](int64_t i) { return want[i]; },
                  std::sqrt(static_cast<double>(in)) + 1),
              "")
        << std::to_string(rows) + " x " + std::to_string(in) + " x " + std::to_string(out);
  }

  Context context_{GetParam()};
};

TEST_P(LinearTest, OneWeightServesAllRowCounts) {
  for (const auto& [in, out] : {std::pair<int64_t, int64_t>{100, 36}, {1, 1}, {7, 65}, {129, 31}}) {
    const Tensor weight = RandomTensor(DType::kF32, {out, in}, 1);
    const Tensor bias = RandomTensor(DType::kF32, {out}, 2);
    const Linear linear(context_, weight, bias);
    EXPECT_EQ(linear.in_features(), in);
    EXPECT_EQ(linear.out_features(), out);
    for (int64_t rows : {1, 2, 3, 4, 5, 16, 17, 31, 32, 33, 64, 100, 257, 512, 1}) {
      if (testing::kSanitized && rows > 100) continue;
      Check(linear, weight, bias, rows, Activation::kNone, context_.activation(),
            Output::kActivation);
      if (HasFatalFailure()) return;
    }
  }
}

TEST_P(LinearTest, TheRowCountsOfTheModel) {
  const Shape shape = testing::kSanitized ? Shape{8, 16} : Shape{48, 64};
  const Tensor weight = RandomTensor(DType::kF32, shape, 1);
  const Linear linear(context_, weight, {});
  for (int64_t rows : {1560, 4680})
    Check(linear, weight, kNoBias, rows, Activation::kNone, context_.activation(),
          Output::kActivation);
}

TEST_P(LinearTest, EveryWeightDTypeAndActivation) {
  for (DType dtype : kWeightDTypes)
    for (Activation activation : kActivations)
      for (bool has_bias : {false, true}) {
        const Tensor weight = RandomTensor(dtype, {37, 43}, 3, 0.25);
        Tensor bias;
        if (has_bias) bias = RandomTensor(dtype, {37}, 4);
        const Linear linear(context_, weight, bias);
        Check(linear, weight, bias, 19, activation, context_.activation(), Output::kActivation);
        Check(linear, weight, bias, 19, activation, DType::kF32, Output::kFloat);
        if (HasFatalFailure()) return;
      }
}

// Sizes that our AMX kernel takes, with more rows than are packed at once.
TEST_P(LinearTest, SizesOfTilesFromEveryWeightDType) {
  constexpr int64_t kIn = 64, kOut = 288;
  for (DType dtype : kWeightDTypes) {
    const Tensor weight = RandomTensor(dtype, {kOut, kIn}, 3, 0.25);
    const Tensor bias = RandomTensor(dtype, {kOut}, 4);
    const Linear linear(context_, weight, bias);
    Check(linear, weight, bias, 19, Activation::kGeluTanh, context_.activation(),
          Output::kActivation);
    Check(linear, weight, bias, 19, Activation::kNone, DType::kF32, Output::kFloat);
    if (HasFatalFailure()) return;
  }
}

TEST_P(LinearTest, AddsToTheResidualWithoutRounding) {
  SetThreadCount(1);  // then the most rows below are two pieces
  for (const auto& [rows, in, out] :
       {std::array<int64_t, 3>{1, 1, 1}, {3, 100, 36}, {6, 7, 65}, {546, 9, 33}})
    for (const bool has_bias : {false, true})
      for (const int64_t groups : {0, 1, 3}) {
        if (groups > rows) continue;
        const Tensor weight = RandomTensor(DType::kF32, {out, in}, 1);
        Tensor bias, gate;
        if (has_bias) bias = RandomTensor(DType::kF32, {out}, 2);
        if (groups > 0) gate = RandomTensor(DType::kF32, {groups, out}, 3);
        const Tensor x = RandomActivation(context_, {rows, in}, 4);
        const Tensor residual = RandomTensor(DType::kF32, {rows, out}, 5);
        const Tensor before = RandomTensor(DType::kF32, {rows, out}, 5);
        Linear(context_, weight, bias).AddTo(context_, x, residual, gate);
        const std::vector<double> product = Want(x, weight, bias, Activation::kNone);
        const auto want = [&, rows = rows, out = out](int64_t i) {
          const int64_t at = groups > 0 ? i / out / (rows / groups) * out + i % out : 0;
          return before.as<float>()[i] + (groups > 0 ? gate.as<float>()[at] : 1) * product[i];
        };
        ASSERT_EQ(Mismatch(context_, residual, Output::kFloat, want,
                           3 * (std::sqrt(static_cast<double>(in)) + 1)),
                  "")
            << std::to_string(rows) + " rows, " + std::to_string(groups) + " groups";
      }
  SetThreadCount(0);
}

TEST_P(LinearTest, LeadingAxesAreRows) {
  const Tensor weight = RandomTensor(DType::kF32, {8, 24}, 1);
  const Linear linear(context_, weight, {});
  const Tensor x = RandomActivation(context_, {2, 3, 5, 24}, 2);
  const Tensor y(context_.activation(), {2, 3, 5, 8}), flat(context_.activation(), {30, 8});
  linear.Run(context_, x, y);
  linear.Run(context_, {x.view().data, x.dtype(), {30, 24}}, flat);
  EXPECT_EQ(std::memcmp(y.view().data, flat.view().data, y.bytes()), 0);
  const Tensor gate = RandomTensor(DType::kF32, {2, 8}, 3);
  const Tensor sum = RandomTensor(DType::kF32, {2, 3, 5, 8}, 4);
  const Tensor flat_sum = RandomTensor(DType::kF32, {30, 8}, 4);
  linear.AddTo(context_, x, sum, gate);
  linear.AddTo(context_, {x.view().data, x.dtype(), {30, 24}}, flat_sum, gate);
  EXPECT_EQ(std::memcmp(sum.view().data, flat_sum.view().data, sum.bytes()), 0);
}

TEST_P(LinearTest, AWeightMayLieAnywhereInAFile) {
  // A view into the middle of a mapped file is aligned to its element at best.
  const Tensor file = RandomTensor(DType::kBF16, {1 + 24 * 8}, 1);
  const Tensor weight(DType::kBF16, {8, 24});
  std::memcpy(weight.view().data, file.as<BFloat16>() + 1, weight.bytes());
  const Linear linear(context_, {file.as<BFloat16>() + 1, DType::kBF16, {8, 24}}, {});
  Check(linear, weight, kNoBias, 5, Activation::kNone, context_.activation(), Output::kActivation);
}

TEST_P(LinearTest, NoRows) {
  const Tensor weight = RandomTensor(DType::kF32, {8, 24}, 1);
  const Linear linear(context_, weight, {});
  char nothing = 0;
  linear.Run(context_, {&nothing, context_.activation(), {0, 24}},
             {&nothing, context_.activation(), {0, 8}});
  linear.AddTo(context_, {&nothing, context_.activation(), {0, 24}},
               {&nothing, DType::kF32, {0, 8}});
}

TEST_P(LinearTest, ThreadCountMayChangeBetweenCalls) {
  const Tensor weight = RandomTensor(DType::kF32, {65, 130}, 1);
  const Linear linear(context_, weight, {});
  for (int threads : {1, 3, 0}) {
    SetThreadCount(threads);
    Check(linear, weight, kNoBias, 96, Activation::kNone, context_.activation(),
          Output::kActivation);
  }
}

TEST_P(LinearTest, ContextsMayShareAWeight) {
  const Tensor weight = RandomTensor(DType::kF32, {65, 130}, 1);
  const Linear linear(context_, weight, {});
  const Tensor x = RandomActivation(context_, {96, 130}, 2);
  const Tensor here(context_.activation(), {96, 65}), there(context_.activation(), {96, 65});
  std::thread thread([&] {
    Context other(GetParam());
    for (int i = 0; i < 20; ++i) linear.Run(other, x, there);
  });
  for (int i = 0; i < 20; ++i) linear.Run(context_, x, here);
  thread.join();
  EXPECT_EQ(std::memcmp(here.view().data, there.view().data, here.bytes()), 0);
}

TEST_P(LinearTest, BatchedMatmul) {
  constexpr int64_t kBatch = 3, kM = 17, kK = 33, kN = 9;
  const DType act = context_.activation();
  for (bool transposed : {false, true})
    for (DType a_dtype : {act, DType::kF32})
      for (DType b_dtype : {act, DType::kF32})
        for (DType y_dtype : {act, DType::kF32}) {
          const Activation activation = transposed ? Activation::kGeluTanh : Activation::kNone;
          const Tensor a = RandomTensor(a_dtype, {kBatch, kM, kK}, 1);
          const Tensor b =
              RandomTensor(b_dtype, transposed ? Shape{kBatch, kN, kK} : Shape{kBatch, kK, kN}, 2);
          const Tensor y(y_dtype, {kBatch, kM, kN});
          const Output output =
              y_dtype == DType::kF32 && act != DType::kF32 ? Output::kFloat : Output::kActivation;
          BatchedMatmul(context_, a, b, transposed, y, output, activation);
          const auto want = [&](int64_t i) {
            const int64_t batch = i / (kM * kN), row = i / kN % kM, col = i % kN;
            double sum = 0;
            for (int64_t k = 0; k < kK; ++k)
              sum += static_cast<double>(ElementAsFloat(a, (batch * kM + row) * kK + k)) *
                     ElementAsFloat(
                         b, transposed ? (batch * kN + col) * kK + k : (batch * kK + k) * kN + col);
            return Apply(activation, sum);
          };
          ASSERT_EQ(Mismatch(context_, y, output, want, 7), "") << "matmul";
        }
}

INSTANTIATE_TEST_SUITE_P(All, LinearTest, ::testing::ValuesIn(kPrecisions),
                         [](const auto& test) { return PrecisionName(test.param); });

TEST(LinearTest, EmulationAgreesWithBf16) {
  if (!HasNativeBF16()) GTEST_SKIP() << "CPU has no AVX-512 BF16";
  Context bf16(Precision::kBF16), emulated(Precision::kBF16Emulated);
  const Tensor weight = RandomTensor(DType::kF32, {96, 300}, 1, 0.1);
  const Tensor bias = RandomTensor(DType::kF32, {96}, 2);
  const Linear a(bf16, weight, bias), b(emulated, weight, bias);
  EXPECT_LT(a.bytes(), b.bytes());
  const Tensor x = RandomActivation(bf16, {40, 300}, 3), wide = ToFloat32(x);
  for (Activation activation : kActivations) {
    const Tensor y(DType::kBF16, {40, 96}), z(DType::kF32, {40, 96});
    a.Run(bf16, x, y, activation);
    b.Run(emulated, wide, z, activation);
    ASSERT_EQ(MoreThanOneBf16Step(y, z, 2), "")
        << "activation " + std::to_string(static_cast<int>(activation));
  }
}

}  // namespace
}  // namespace mrt::ops
