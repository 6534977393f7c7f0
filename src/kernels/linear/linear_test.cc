#include "kernels/linear/linear.h"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <cstring>
#include <random>
#include <type_traits>
#include <vector>

#include "base/threads.h"
#include "tensor/tensor.h"
#include "testing/random_tensor.h"

namespace mrt {
namespace {

using testing::RandomTensor;

void RunWithScratch(LinearArgs args) {
  const Tensor scratch(DType::kU8, {LinearScratchBytes(args, ThreadCount())});
  args.scratch = scratch.view().data;
  RunLinear(args);
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
    if (const char* reason = LinearRefuses(LinearType::kBF16, 32, 32, GetCpuFeatures()))
      GTEST_SKIP() << reason;
  }
};

double ToDouble(BFloat16 x) { return ToFloat(x); }
double ToDouble(float x) { return x; }

template <LinearType kType>
struct CaseOf {
  static constexpr DType kDType = kType == LinearType::kBF16 ? DType::kBF16 : DType::kF32;
  using Element = std::conditional_t<kType == LinearType::kBF16, BFloat16, float>;

  int64_t rows, in, out;
  Tensor x, weight, bias, gate, packed;

  CaseOf(int64_t r, int64_t i, int64_t o)
      : rows(r),
        in(i),
        out(o),
        x(RandomTensor(kDType, {r, i}, 1)),
        weight(RandomTensor(kDType, {o, i}, 2)),
        bias(RandomTensor(DType::kF32, {o}, 3)),
        gate(RandomTensor(DType::kF32, {o}, 4)),
        packed(kDType, {o, i}) {
    PackLinearWeight(kType, weight.view().data, in, out, packed.view().data);
  }

  /// [rows, out], with the bias.
  std::vector<double> Sums() const {
    std::vector<double> sums;
    for (int64_t at = 0; at < rows * out; ++at) {
      const Element* const inputs = x.as<Element>() + at / out * in;
      const Element* const weights = weight.as<Element>() + at % out * in;
      double sum = bias.as<float>()[at % out];
      for (int64_t i = 0; i < in; ++i) sum += ToDouble(inputs[i]) * ToDouble(weights[i]);
      sums.push_back(sum);
    }
    return sums;
  }

  /// The first rows, as many as y has.
  void Run(const Tensor& y, Epilogue epilogue, bool add = false, bool gated = false) const {
    const StorageType storage =
        y.view().dtype == DType::kBF16 ? StorageType::kBF16 : StorageType::kF32;
    RunWithScratch({.type = kType,
                    .x = x.view().data,
                    .weight = packed.view().data,
                    .bias = bias.as<float>(),
                    .y = {y.view().data, storage},
                    .rows = y.view().shape[0],
                    .in = in,
                    .out = out,
                    .epilogue = epilogue,
                    .add = add,
                    .gate = gated ? gate.as<float>() : nullptr});
  }
};
using Case = CaseOf<LinearType::kBF16>;
using FloatCase = CaseOf<LinearType::kF32>;

// Rows that fill no block, inputs of one and of several depths, columns of several tasks.
constexpr std::array<std::array<int64_t, 3>, 7> kShapes = {{{1, 32, 32},
                                                            {17, 64, 96},
                                                            {32, 96, 64},
                                                            {33, 1536, 32},
                                                            {193, 1568, 64},
                                                            {70, 3136, 96},
                                                            {40, 32, 1056}}};

constexpr std::array<std::array<int64_t, 3>, 5> kInt8Shapes = {
    {{1, 64, 32}, {17, 128, 96}, {33, 3072, 32}, {193, 3136, 64}, {40, 64, 1056}}};

TEST_F(LinearKernel, EqualsTheDefinition) {
  for (const auto& [rows, in, out] : kShapes) {
    const Case c(rows, in, out);
    const std::vector<double> sums = c.Sums();
    for (const Epilogue epilogue :
         {Epilogue::kNone, Epilogue::kGeluTanh, Epilogue::kSilu, Epilogue::kRelu}) {
      const Tensor y(DType::kF32, {rows, out});
      const Tensor rounded(DType::kBF16, {rows, out});
      c.Run(y, epilogue);
      c.Run(rounded, epilogue);
      for (int64_t i = 0; i < rows * out; ++i) {
        const double want = Apply(epilogue, sums[static_cast<size_t>(i)]);
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
    const std::vector<double> sums = c.Sums();
    for (const bool gated : {false, true}) {
      const Tensor before = RandomTensor(DType::kF32, {rows, out}, 5);
      const Tensor y = RandomTensor(DType::kF32, {rows, out}, 5);
      c.Run(y, Epilogue::kNone, /*add=*/true, gated);
      for (int64_t i = 0; i < rows * out; ++i) {
        const double gate = gated ? c.gate.as<float>()[i % out] : 1;
        const double want = before.as<float>()[i] + gate * sums[static_cast<size_t>(i)];
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

// Integers are exact, so only the few operations after the sums may round.
TEST_F(LinearKernel, Int8EqualsTheDefinition) {
  if (const char* reason = LinearRefuses(LinearType::kInt8, 64, 32, GetCpuFeatures()))
    GTEST_SKIP() << reason;
  std::mt19937 random(6);
  const auto bytes = [&](DType dtype, const Shape& shape, int below) {
    Tensor x(dtype, shape);
    for (int64_t i = 0; i < shape.elements(); ++i)
      static_cast<uint8_t*>(x.view().data)[i] = static_cast<uint8_t>(random() % below);
    return x;
  };
  for (const auto& [rows, in, out] : kInt8Shapes)
    for (const bool digits : {false, true}) {
      const Tensor x = bytes(DType::kU8, {rows, in}, digits ? kDigitBase : 256);
      const Tensor x_low = bytes(DType::kU8, {rows, in}, kDigitBase);
      const Tensor weight = bytes(DType::kI8, {out, in}, 256), packed(DType::kI8, {out, in});
      PackLinearWeight(LinearType::kInt8, weight.view().data, in, out, packed.view().data);
      const Tensor bias = RandomTensor(DType::kF32, {out}, 3),
                   scale = RandomTensor(DType::kF32, {out}, 4);
      const Tensor row_scale = RandomTensor(DType::kF32, {rows}, 5);
      const Tensor zero(DType::kI32, {rows}), weight_sum(DType::kI32, {out});
      const auto* w = static_cast<const int8_t*>(weight.view().data);
      for (int64_t r = 0; r < rows; ++r)
        zero.as<int32_t>()[r] = static_cast<int32_t>(random() % (digits ? 16383 : 256));
      for (int64_t i = 0; i < out * in; ++i) weight_sum.as<int32_t>()[i / in] += w[i];
      const Tensor y(DType::kF32, {rows, out});
      RunWithScratch({.type = LinearType::kInt8,
                      .x = x.view().data,
                      .x_low = digits ? x_low.view().data : nullptr,
                      .scales = {weight_sum.as<int32_t>(), scale.as<float>(), row_scale.as<float>(),
                                 zero.as<int32_t>()},
                      .weight = packed.view().data,
                      .bias = bias.as<float>(),
                      .y = {y.view().data, StorageType::kF32},
                      .rows = rows,
                      .in = in,
                      .out = out});
      const auto* high = static_cast<const uint8_t*>(x.view().data);
      const auto* low = static_cast<const uint8_t*>(x_low.view().data);
      for (int64_t i = 0; i < rows * out; ++i) {
        const int64_t r = i / out, o = i % out;
        double sum = 0;
        for (int64_t k = 0; k < in; ++k) {
          const double q =
              digits ? high[r * in + k] * kDigitBase + low[r * in + k] : high[r * in + k];
          sum += (q - zero.as<int32_t>()[r]) * w[o * in + k];
        }
        const double product = sum * scale.as<float>()[o] * row_scale.as<float>()[r];
        const double want = product + bias.as<float>()[o];
        ASSERT_NEAR(y.as<float>()[i], want, 2e-6 * (std::abs(product) + 1e4))
            << rows << " x " << in << " x " << out << (digits ? ", two digits" : "") << " at " << i;
      }
    }
}

TEST(LinearRefuses, SaysWhy) {
  CpuFeatures cpu;
  EXPECT_NE(LinearRefuses(LinearType::kBF16, 32, 32, cpu), nullptr);
  cpu.amx_bf16 = true;
  EXPECT_EQ(LinearRefuses(LinearType::kBF16, 32, 32, cpu), nullptr);
  EXPECT_NE(LinearRefuses(LinearType::kInt8, 64, 32, cpu), nullptr);
  cpu.amx_int8 = true;
  EXPECT_EQ(LinearRefuses(LinearType::kInt8, 64, 32, cpu), nullptr);
  EXPECT_NE(LinearRefuses(LinearType::kInt8, 32, 32, cpu), nullptr);
  EXPECT_NE(LinearRefuses(LinearType::kBF16, 33, 32, cpu), nullptr);
  EXPECT_NE(LinearRefuses(LinearType::kBF16, 32, 48, cpu), nullptr);
  EXPECT_NE(LinearRefuses(LinearType::kBF16, 0, 32, cpu), nullptr);
}

// Rows that fill no tile, inputs of one and of several depths, columns of several tasks.
constexpr std::array<std::array<int64_t, 3>, 8> kFloatShapes = {{{1, 1, 16},
                                                                 {1, 1024, 1024},
                                                                 {5, 7, 48},
                                                                 {95, 385, 16},
                                                                 {97, 40, 528},
                                                                 {13, 1000, 64},
                                                                 {7, 1200, 32},
                                                                 {193, 64, 48}}};

// On any CPU with AVX2, though oneDNN is taken where there is AVX-512.
class FloatLinear : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!GetCpuFeatures().avx2) GTEST_SKIP() << "the CPU has no AVX2";
  }
};

TEST_F(FloatLinear, EqualsTheDefinition) {
  for (const auto& [rows, in, out] : kFloatShapes) {
    const FloatCase c(rows, in, out);
    const std::vector<double> sums = c.Sums();
    for (const Epilogue epilogue :
         {Epilogue::kNone, Epilogue::kGeluTanh, Epilogue::kSilu, Epilogue::kRelu}) {
      const Tensor y(DType::kF32, {rows, out});
      c.Run(y, epilogue);
      for (int64_t i = 0; i < rows * out; ++i) {
        const double want = Apply(epilogue, sums[static_cast<size_t>(i)]);
        const double tolerance = 1e-6 * std::abs(want) + 3e-7 * static_cast<double>(in);
        ASSERT_NEAR(y.as<float>()[i], want, tolerance)
            << rows << " x " << in << " x " << out << " at " << i;
      }
    }
  }
}

TEST_F(FloatLinear, AddsWithAndWithoutAGate) {
  for (const auto& [rows, in, out] : kFloatShapes) {
    const FloatCase c(rows, in, out);
    const std::vector<double> sums = c.Sums();
    for (const bool gated : {false, true}) {
      const Tensor before = RandomTensor(DType::kF32, {rows, out}, 5);
      const Tensor y = RandomTensor(DType::kF32, {rows, out}, 5);
      c.Run(y, Epilogue::kNone, /*add=*/true, gated);
      for (int64_t i = 0; i < rows * out; ++i) {
        const double factor = gated ? c.gate.as<float>()[i % out] : 1.0;
        const double want = before.as<float>()[i] + factor * sums[static_cast<size_t>(i)];
        ASSERT_NEAR(y.as<float>()[i], want, 1e-6 * std::abs(want) + 3e-7 * static_cast<double>(in));
      }
    }
  }
}

// The same bits for any number of threads, and for a row alone or among others.
TEST_F(FloatLinear, BitsDependOnTheRowOnly) {
  for (const auto& [rows, in, out] : kFloatShapes) {
    const FloatCase c(rows, in, out);
    const Tensor whole(DType::kF32, {rows, out});
    c.Run(whole, Epilogue::kGeluTanh);
    for (const int threads : {1, 3, 16}) {
      const ThreadCountScope scope(threads);
      for (const int64_t some : {rows, (rows + 1) / 2, int64_t{1}}) {
        const Tensor other(DType::kF32, {some, out});
        c.Run(other, Epilogue::kGeluTanh);
        ASSERT_EQ(std::memcmp(other.as<float>(), whole.as<float>(),
                              static_cast<size_t>(some * out) * sizeof(float)),
                  0)
            << rows << " x " << in << " x " << out << ", " << threads;
      }
    }
  }
}

TEST_F(FloatLinear, NotANumberStaysAndTheLargestDoNotBecomeIt) {
  const FloatCase c(1, 1, 16);
  const Tensor y(DType::kF32, {1, 16});
  float* const x = const_cast<float*>(c.x.as<float>());
  for (const Epilogue epilogue : {Epilogue::kGeluTanh, Epilogue::kSilu}) {
    x[0] = NAN;
    c.Run(y, epilogue);
    EXPECT_TRUE(std::isnan(y.as<float>()[3]));
    for (const float large : {1e4f, -1e4f}) {
      x[0] = large;
      c.Run(y, epilogue);
      const std::vector<double> sums = c.Sums();
      for (size_t i = 0; i < sums.size(); ++i) {
        const double want = std::max(0.0, sums[i]);
        EXPECT_NEAR(y.as<float>()[i], want, 1e-6 * want + 1e-20) << large;
      }
    }
  }
}

TEST(FloatLinearRefuses, WhereOneDnnIsTaken) {
  const auto refuses = [](int64_t in, int64_t out, const CpuFeatures& cpu) {
    return LinearRefuses(LinearType::kF32, in, out, cpu) != nullptr;
  };
  EXPECT_TRUE(refuses(16, 16, {}));
  EXPECT_FALSE(refuses(1, 16, {.avx2 = true}));
  EXPECT_TRUE(refuses(16, 16, {.avx2 = true, .avx512 = true}));
  EXPECT_FALSE(refuses(1024, 4096, {.avx2 = true}));
  EXPECT_TRUE(refuses(1025, 4096, {.avx2 = true}));
  EXPECT_TRUE(refuses(16, 17, {.avx2 = true}));
  EXPECT_TRUE(refuses(0, 16, {.avx2 = true}));
}

}  // namespace
}  // namespace mrt
