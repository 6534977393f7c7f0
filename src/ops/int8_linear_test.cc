// Linear with int8 weights: how far it may be off, where it is exact, and what is not a number.
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "base/int8.h"
#include "base/threads.h"
#include "ops/cpu/vendor.h"
#include "ops/for_test.h"
#include "ops/linear.h"

namespace mrt::ops {
namespace {

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

constexpr WeightType kInt8Types[] = {WeightType::kInt8, WeightType::kInt8Fine};

/// How many scales the activations of a row span on this CPU; see int8_weight.cc.
int ActivationSteps(WeightType type) {
  const int vnni = dnnl_cpu_isa_avx512_core_vnni;
  const bool exact = (dnnl_get_effective_cpu_isa() & vnni) == vnni;
  return exact && type == WeightType::kInt8 ? 254 : 16382;
}

/// The scale of row `row`: 0 counts as one of its numbers.
double ActivationScale(const ConstTensorView& x, int64_t row, int64_t width, WeightType type) {
  double min = 0, max = 0;
  for (int64_t i = 0; i < width; ++i) {
    const double value = ElementAsFloat(x, row * width + i);
    min = std::min(min, value), max = std::max(max, value);
  }
  return (max - min) / ActivationSteps(type);
}

float MaxMagnitude(const ConstTensorView& x, int64_t row, int64_t width) {
  float max = 0;
  for (int64_t i = 0; i < width; ++i)
    max = std::max(max, std::abs(ElementAsFloat(x, row * width + i)));
  return max;
}

class Int8LinearTest : public ::testing::TestWithParam<Precision> {
 protected:
  void SetUp() override {
    if (const char* reason = Unsupported(GetParam())) GTEST_SKIP() << reason;
  }

  Tensor Run(const Linear& linear, const Tensor& x, Activation activation = Activation::kNone,
             DType dtype = DType::kF32) {
    const Tensor y(dtype, {x.shape().rows(), linear.out_features()});
    linear.Run(context_, x, y, activation,
               dtype == DType::kF32 ? Output::kFloat : Output::kActivation);
    return ToFloat32(y);
  }

  Tensor ActivationOf(const Shape& shape, const std::vector<float>& values) {
    Tensor x(context_.activation(), shape);
    for (size_t i = 0; i < values.size(); ++i) {
      if (x.dtype() == DType::kF32) {
        x.as<float>()[i] = values[i];
      } else {
        x.as<BFloat16>()[i] = ToBFloat16(values[i]);
      }
    }
    return x;
  }

  Context context_{GetParam()};
};

// Each factor is off by half its scale at most: |x - x'| <= dx / 2, |w - w'| <= dw / 2.
TEST_P(Int8LinearTest, TheErrorIsWithinWhatTheScalesAllow) {
  for (const WeightType type : kInt8Types)
    for (const auto& [rows, in, out] :
         {std::array<int64_t, 3>{1, 1, 1}, {3, 7, 65}, {65, 257, 31}}) {
      const Tensor weight = RandomTensor(DType::kF32, {out, in}, 1);
      const Tensor bias = RandomTensor(DType::kF32, {out}, 2);
      const Tensor x = RandomActivation(context_, {rows, in}, 3);
      const Linear linear(context_, weight, bias, type);
      EXPECT_EQ(linear.in_features(), in);
      EXPECT_EQ(linear.out_features(), out);
      const Tensor y = Run(linear, x);
      for (int64_t r = 0; r < rows; ++r)
        for (int64_t o = 0; o < out; ++o) {
          const double dx = ActivationScale(x, r, in, type);
          const double dw = MaxMagnitude(weight, o, in) / 127.0;
          double want = ElementAsFloat(bias, o), allowed = 1e-5;
          for (int64_t i = 0; i < in; ++i) {
            const double a = ElementAsFloat(x, r * in + i), w = weight.as<float>()[o * in + i];
            want += a * w;
            allowed += std::abs(a) * dw / 2 + std::abs(w) * dx / 2 + dx * dw / 4;
          }
          const double got = y.as<float>()[r * out + o];
          ASSERT_LE(std::abs(got - want), allowed * 1.01) << rows << " x " << in << " x " << out;
        }
    }
}

TEST_P(Int8LinearTest, ZerosGiveTheBias) {
  for (const WeightType type : kInt8Types) {
    Tensor weight = RandomTensor(DType::kF32, {5, 40}, 1);
    std::fill_n(weight.as<float>() + 2 * 40, 40, 0.0f);
    const Tensor bias = RandomTensor(DType::kF32, {5}, 2);
    const Linear linear(context_, weight, bias, type);
    Tensor x = ActivationOf({3, 40}, std::vector<float>(3 * 40, 0));
    const Tensor random = RandomActivation(context_, {1, 40}, 3);
    std::memcpy(x.view().Slice(1, 2).data, random.view().data, random.bytes());
    const Tensor y = Run(linear, x);
    for (int64_t o = 0; o < 5; ++o) {
      EXPECT_EQ(y.as<float>()[o], bias.as<float>()[o]);
      EXPECT_EQ(y.as<float>()[10 + o], bias.as<float>()[o]);
      EXPECT_EQ(y.as<float>()[5 + o] == bias.as<float>()[o], o == 2) << "a zero weight";
    }
  }
}

TEST_P(Int8LinearTest, NaNAndInfinityStayInTheirRowAndChannel) {
  Tensor weight = RandomTensor(DType::kF32, {4, 30}, 1);
  for (const WeightType type : kInt8Types)
    for (const float bad : {kNaN, kInfinity, -kInfinity}) {
      const Linear good(context_, weight, {}, type);
      Tensor bad_weight = RandomTensor(DType::kF32, {4, 30}, 1);
      bad_weight.as<float>()[1 * 30 + 29] = bad;
      std::vector<float> values(3 * 30, 1);
      values[30] = bad;
      const Tensor y = Run(good, ActivationOf({3, 30}, values));
      const Tensor z = Run(Linear(context_, bad_weight, {}, type),
                           ActivationOf({3, 30}, std::vector<float>(3 * 30, 1)));
      for (int64_t r = 0; r < 3; ++r)
        for (int64_t o = 0; o < 4; ++o) {
          EXPECT_EQ(std::isnan(y.as<float>()[r * 4 + o]), r == 1);
          EXPECT_EQ(std::isnan(z.as<float>()[r * 4 + o]), o == 1);
        }
    }
}

TEST_P(Int8LinearTest, SurvivesTheLargestAndSmallestNumbers) {
  for (const WeightType type : kInt8Types)
    for (const float size :
         {std::numeric_limits<float>::denorm_min(), 1e-38f, 1e-30f, 1e30f, 3e38f}) {
      std::vector<float> values(16, 0);
      values[3] = size;
      values[7] = -size;
      const Tensor weight = RandomTensor(DType::kF32, {2, 16}, 1, 0.125);
      const Linear linear(context_, weight, {}, type);
      const Tensor x = ActivationOf({1, 16}, values);
      const Tensor y = Run(linear, x);
      for (int64_t o = 0; o < 2; ++o) {
        const double a = ElementAsFloat(x, 3);
        const double w3 = weight.as<float>()[o * 16 + 3], w7 = weight.as<float>()[o * 16 + 7];
        const double dw = MaxMagnitude(weight, o, 16) / 127;
        EXPECT_NEAR(y.as<float>()[o], a * (w3 - w7), a * (dw + 1e-4) + 1e-29) << size;
      }
    }
}

TEST_P(Int8LinearTest, ActivationsAndRounding) {
  const Tensor weight = RandomTensor(DType::kBF16, {33, 70}, 1, 0.3);
  const Tensor bias = RandomTensor(DType::kF32, {33}, 2);
  const Linear linear(context_, weight, bias, WeightType::kInt8);
  const Tensor x = RandomActivation(context_, {21, 70}, 3);
  const Tensor plain = Run(linear, x);
  for (const Activation activation :
       {Activation::kNone, Activation::kGeluTanh, Activation::kSilu, Activation::kRelu}) {
    const auto want = [&](int64_t i) {
      const double v = plain.as<float>()[i];
      switch (activation) {
        case Activation::kNone: return v;
        case Activation::kGeluTanh:
          return 0.5 * v * (1 + std::tanh(std::sqrt(2 / M_PI) * (v + 0.044715 * v * v * v)));
        case Activation::kSilu: return v / (1 + std::exp(-v));
        case Activation::kRelu: return std::max(v, 0.0);
      }
      return v;
    };
    const Tensor y(context_.activation(), {21, 33}), wide(DType::kF32, {21, 33});
    linear.Run(context_, x, y, activation);
    linear.Run(context_, x, wide, activation, Output::kFloat);
    EXPECT_EQ(Mismatch(context_, y, Output::kActivation, want, 4), "");
    EXPECT_EQ(Mismatch(context_, wide, Output::kFloat, want, 4), "");
  }
}

TEST_P(Int8LinearTest, AddsToTheResidualWithoutRounding) {
  constexpr int64_t kIn = 70, kOut = 33;
  const Tensor weight = RandomTensor(DType::kF32, {kOut, kIn}, 1, 0.3);
  const Tensor bias = RandomTensor(DType::kF32, {kOut}, 2);
  for (const WeightType type : kInt8Types) {
    const Linear linear(context_, weight, bias, type);
    for (const int64_t rows : {1, 21})
      for (const int64_t groups : {0, 1, 3}) {
        if (groups > rows) continue;
        const Tensor x = RandomActivation(context_, {rows, kIn}, 3);
        Tensor gate;
        if (groups > 0) gate = RandomTensor(DType::kF32, {groups, kOut}, 4);
        const Tensor residual = RandomTensor(DType::kF32, {rows, kOut}, 5);
        const Tensor before = RandomTensor(DType::kF32, {rows, kOut}, 5);
        linear.AddTo(context_, x, residual, gate);
        const Tensor product = Run(linear, x);
        const auto want = [&](int64_t i) {
          const int64_t at = groups > 0 ? i / kOut / (rows / groups) * kOut + i % kOut : 0;
          return before.as<float>()[i] +
                 double{groups > 0 ? gate.as<float>()[at] : 1} * product.as<float>()[i];
        };
        ASSERT_EQ(Mismatch(context_, residual, Output::kFloat, want, 10), "")
            << rows << " rows, " << groups << " groups";
      }
  }
}

// Rows go through in blocks: neither their number nor the number of threads may show.
TEST_P(Int8LinearTest, ARowDoesNotDependOnTheOthers) {
  constexpr int64_t kIn = 24, kOut = 8192, kRows = 600;  // a block is 256 rows
  const Tensor weight = RandomTensor(DType::kF32, {kOut, kIn}, 1);
  for (const WeightType type : kInt8Types) {
    const Linear linear(context_, weight, {}, type);
    const Tensor x = RandomActivation(context_, {kRows, kIn}, 2);
    const Tensor all = Run(linear, x);
    for (const int threads : {1, 3, 0}) {
      SetThreadCount(threads);
      for (const int64_t row : {0, 255, 256, 599}) {
        Tensor one(x.dtype(), {1, kIn});
        std::memcpy(one.view().data, x.view().Slice(row, row + 1).data, one.bytes());
        const Tensor y = Run(linear, one);
        EXPECT_EQ(std::memcmp(y.view().data, all.view().Slice(row, row + 1).data, y.bytes()), 0);
      }
    }
  }
}

TEST_P(Int8LinearTest, StoredInt8GivesTheSameBits) {
  constexpr int64_t kIn = 50, kOut = 20;
  const Tensor weight = RandomTensor(DType::kBF16, {kOut, kIn}, 1);
  const Tensor bias = RandomTensor(DType::kF32, {kOut}, 2);
  const Tensor wide = ToFloat32(weight), q(DType::kI8, {kOut, kIn}), scales(DType::kF32, {kOut});
  for (int64_t o = 0; o < kOut; ++o)
    scales.as<float>()[o] =
        QuantizeRow(wide.as<float>() + o * kIn, kIn, static_cast<int8_t*>(q.view().data) + o * kIn);
  for (const WeightType type : kInt8Types) {
    const Linear now(context_, weight, bias, type);
    const Linear before(Int8WeightView{q, scales}, bias, type);
    EXPECT_EQ(now.bytes(), before.bytes());
    EXPECT_GE(now.bytes(), Linear::Int8Bytes(kIn, kOut));
    const Tensor x = RandomActivation(context_, {9, kIn}, 3);
    const Tensor y = Run(now, x), z = Run(before, x);
    EXPECT_EQ(std::memcmp(y.view().data, z.view().data, y.bytes()), 0);
  }
}

INSTANTIATE_TEST_SUITE_P(All, Int8LinearTest, ::testing::ValuesIn(kPrecisions),
                         [](const auto& test) { return PrecisionName(test.param); });

// Integers that fill the range have the scale 1, and then nothing is rounded but the result. With
// all factors at their limits this is also what saturates where sums have 16 bits.
TEST(Int8Linear, ProductsOfIntegersAreExact) {
  constexpr int64_t kIn = 256, kOut = 48, kRows = 20;
  Context context(Precision::kF32);
  std::mt19937 random(1);
  const auto draw = [&](bool extreme, int limit) {
    const int value = static_cast<int>(random() % (2 * static_cast<uint32_t>(limit) + 1)) - limit;
    return static_cast<float>(extreme ? limit : value);
  };
  for (const WeightType type : kInt8Types)
    for (const bool extreme : {false, true}) {
      const int limit = ActivationSteps(type) / 2;
      const Tensor x(DType::kF32, {kRows, kIn}), weight(DType::kF32, {kOut, kIn});
      for (int64_t i = 0; i < kRows * kIn; ++i)
        x.as<float>()[i] =
            i % kIn < 2 ? static_cast<float>(i % kIn == 0 ? limit : -limit) : draw(extreme, limit);
      for (int64_t i = 0; i < kOut * kIn; ++i)
        weight.as<float>()[i] = i % kIn == 0 ? 127 : draw(extreme, 127);
      const Tensor y(DType::kF32, {kRows, kOut});
      Linear(context, weight, {}, type).Run(context, x, y);
      for (int64_t r = 0; r < kRows; ++r)
        for (int64_t o = 0; o < kOut; ++o) {
          double want = 0;
          for (int64_t i = 0; i < kIn; ++i)
            want += double{x.as<float>()[r * kIn + i]} * weight.as<float>()[o * kIn + i];
          ASSERT_EQ(y.as<float>()[r * kOut + o], static_cast<float>(want)) << extreme;
        }
    }
}

}  // namespace
}  // namespace mrt::ops
