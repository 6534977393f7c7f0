#include "kernels/linear/linear.h"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "base/threads.h"
#include "tensor/tensor.h"

namespace mrt {
namespace {

Tensor Random(DType dtype, const Shape& shape, uint32_t seed) {
  Tensor x(dtype, shape);
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  for (int64_t i = 0; i < shape.elements(); ++i) {
    const float value = normal(random);
    if (dtype == DType::kF32) x.as<float>()[i] = value;
    if (dtype == DType::kBF16) x.as<BFloat16>()[i] = ToBFloat16(value / 4);
  }
  return x;
}

double Apply(Epilogue epilogue, double x) {
  switch (epilogue) {
    case Epilogue::kNone: return x;
    case Epilogue::kGeluTanh:
      return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
    case Epilogue::kSilu: return x / (1 + std::exp(-x));
    case Epilogue::kRelu: return std::max(x, 0.0);
  }
  return 0;
}

class LinearKernel : public ::testing::Test {
 protected:
  void SetUp() override {
    if (const char* reason = LinearRefuses(32, 32, GetCpuFeatures())) GTEST_SKIP() << reason;
  }
};

struct Case {
  int64_t rows, in, out;
  Tensor x, weight, bias, gate, packed;

  Case(int64_t r, int64_t i, int64_t o)
      : rows(r),
        in(i),
        out(o),
        x(Random(DType::kBF16, {r, i}, 1)),
        weight(Random(DType::kBF16, {o, i}, 2)),
        bias(Random(DType::kF32, {o}, 3)),
        gate(Random(DType::kF32, {o}, 4)),
        packed(DType::kBF16, {o, i}) {
    PackLinearWeight(weight.view().data, in, out, packed.view().data);
  }

  double Sum(int64_t row, int64_t col) const {
    double sum = bias.as<float>()[col];
    for (int64_t i = 0; i < in; ++i)
      sum += double{ToFloat(x.as<BFloat16>()[row * in + i])} *
             double{ToFloat(weight.as<BFloat16>()[col * in + i])};
    return sum;
  }

  void Run(const Tensor& y, Epilogue epilogue, bool add = false, bool gated = false) const {
    const Tensor scratch(DType::kU8, {LinearScratchBytes(rows, in, out, ThreadCount())});
    const StorageType storage =
        y.view().dtype == DType::kBF16 ? StorageType::kBF16 : StorageType::kF32;
    RunLinear({.x = x.view().data,
               .weight = packed.view().data,
               .bias = bias.as<float>(),
               .y = {y.view().data, storage},
               .rows = rows,
               .in = in,
               .out = out,
               .epilogue = epilogue,
               .add = add,
               .gate = gated ? gate.as<float>() : nullptr,
               .scratch = scratch.view().data});
  }
};

// Rows that fill no block, inputs of one and of several depths, columns of several tasks.
constexpr std::array<std::array<int64_t, 3>, 7> kShapes = {{{1, 32, 32},
                                                            {17, 64, 96},
                                                            {32, 96, 64},
                                                            {33, 1536, 32},
                                                            {193, 1568, 64},
                                                            {70, 3136, 96},
                                                            {40, 32, 1056}}};

TEST_F(LinearKernel, EqualsTheDefinition) {
  for (const auto& [rows, in, out] : kShapes) {
    const Case c(rows, in, out);
    for (const Epilogue epilogue :
         {Epilogue::kNone, Epilogue::kGeluTanh, Epilogue::kSilu, Epilogue::kRelu}) {
      const Tensor y(DType::kF32, {rows, out});
      const Tensor rounded(DType::kBF16, {rows, out});
      c.Run(y, epilogue);
      c.Run(rounded, epilogue);
      for (int64_t i = 0; i < rows * out; ++i) {
        const double want = Apply(epilogue, c.Sum(i / out, i % out));
        const double tolerance = 3e-4 * std::abs(want) + 1e-6 * static_cast<double>(in);
        ASSERT_NEAR(y.as<float>()[i], want, tolerance)
            << rows << " x " << in << " x " << out << " at " << i;
        ASSERT_EQ(ToFloat(rounded.as<BFloat16>()[i]), ToFloat(ToBFloat16(y.as<float>()[i])));
      }
    }
  }
}

TEST_F(LinearKernel, AddsWithAndWithoutAGate) {
  for (const auto& [rows, in, out] : kShapes) {
    const Case c(rows, in, out);
    for (const bool gated : {false, true}) {
      const Tensor before = Random(DType::kF32, {rows, out}, 5);
      const Tensor y = Random(DType::kF32, {rows, out}, 5);
      c.Run(y, Epilogue::kNone, /*add=*/true, gated);
      for (int64_t i = 0; i < rows * out; ++i) {
        const double gate = gated ? c.gate.as<float>()[i % out] : 1;
        const double want = before.as<float>()[i] + gate * c.Sum(i / out, i % out);
        ASSERT_NEAR(y.as<float>()[i], want, 3e-6 * static_cast<double>(in) + 1e-5)
            << rows << " x " << in << " x " << out << " at " << i;
      }
    }
  }
}

TEST_F(LinearKernel, ThreadsAndRowsChangeNoBit) {
  const Case c(450, 1568, 1056);
  const Tensor one(DType::kF32, {c.rows, c.out}), three(DType::kF32, {c.rows, c.out});
  {
    const ThreadCountScope threads(1);
    c.Run(one, Epilogue::kGeluTanh);
  }
  {
    const ThreadCountScope threads(3);
    c.Run(three, Epilogue::kGeluTanh);
  }
  EXPECT_EQ(std::memcmp(one.view().data, three.view().data, one.bytes()), 0);
  Case first(7, c.in, c.out);  // the same weight, and the first rows of the same x
  std::memcpy(first.x.view().data, c.x.view().data, first.x.bytes());
  const Tensor few(DType::kF32, {first.rows, c.out});
  first.Run(few, Epilogue::kGeluTanh);
  EXPECT_EQ(std::memcmp(one.view().data, few.view().data, few.bytes()), 0);
}

TEST_F(LinearKernel, KeepsWhatIsNoNumberAndBoundsWhatIsHuge) {
  Case c(1, 32, 32);
  c.bias.as<float>()[0] = NAN;
  c.bias.as<float>()[1] = 1e30f;
  c.bias.as<float>()[2] = -1e30f;
  for (const Epilogue epilogue : {Epilogue::kGeluTanh, Epilogue::kSilu}) {
    const Tensor y(DType::kF32, {1, 32});
    c.Run(y, epilogue);
    EXPECT_TRUE(std::isnan(y.as<float>()[0]));
    EXPECT_EQ(y.as<float>()[1], 1e30f);
    EXPECT_LE(std::abs(y.as<float>()[2]), 1e30f * 0x1p-59f);
  }
}

TEST(LinearRefuses, SaysWhy) {
  CpuFeatures cpu;
  EXPECT_NE(LinearRefuses(32, 32, cpu), nullptr);
  cpu.amx_bf16 = true;
  EXPECT_EQ(LinearRefuses(32, 32, cpu), nullptr);
  EXPECT_NE(LinearRefuses(33, 32, cpu), nullptr);
  EXPECT_NE(LinearRefuses(32, 48, cpu), nullptr);
  EXPECT_NE(LinearRefuses(0, 32, cpu), nullptr);
}

}  // namespace
}  // namespace mrt
