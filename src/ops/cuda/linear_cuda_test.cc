// Linear and BatchedMatmul, on CUDA and on the CPU.
#include "ops/linear.h"

#include <array>

#include "ops/cuda/matmul.h"
#include "ops/cuda/test_util.h"

namespace mrt::ops {
namespace {

constexpr Activation kActivations[] = {Activation::kNone, Activation::kGeluTanh, Activation::kSilu,
                                       Activation::kRelu};

struct LinearShape {
  int64_t rows, in, out;
};
// Those of the golden models and of the demo, some of Wan 2.1 1.3B, and odd ones.
constexpr LinearShape kShapes[] = {
    {80, 256, 256},   {5, 256, 1024},   {48, 1024, 256},    {257, 1536, 64}, {65, 4096, 1536},
    {96, 1536, 8960}, {96, 8960, 1536}, {1560, 1536, 1536}, {1, 64, 24},     {3, 100, 36},
    {6, 7, 65},       {546, 9, 33},     {1, 1, 1}};

std::string NameOf(const LinearShape& s) {
  return std::to_string(s.rows) + " rows, " + std::to_string(s.in) + " to " + std::to_string(s.out);
}

/// cuBLASLt's GELU approximates tanh to about 2^-11.
Tolerance AllowedFor(Activation activation, DType y, int64_t in) {
  const double magnitude = 4 * std::sqrt(static_cast<double>(in)) + 4;
  Tolerance allowed = y == DType::kF32 ? FloatSums(magnitude) : Bf16Step(magnitude);
  if (activation == Activation::kGeluTanh) allowed.absolute += 4e-3, allowed.relative += 1e-3;
  return allowed;
}

/// How much a bias below 4 that is rounded to BF16 moves a sum, and that an activation, whose slope
/// is at most 1.13.
constexpr double kRoundedBias = 1.13 * 0x1p-7;

// Weights whose products have about the size of x.
Tensor RandomWeight(DType dtype, int64_t out, int64_t in) {
  return RandomTensor(dtype, {out, in}, 1, 1 / std::sqrt(static_cast<double>(in)));
}

TEST_F(CudaOpsTest, LinearOfManyShapes) {
  for (const LinearShape& s : kShapes) {
    const Tensor weight = RandomWeight(DType::kBF16, s.out, s.in);
    for (bool has_bias : {false, true}) {
      Tensor bias;
      if (has_bias) bias = RandomTensor(DType::kBF16, {s.out}, 2);
      const Bf16Pair x({s.rows, s.in}, 3);
      const Tensor want(DType::kF32, {s.rows, s.out});
      const Tensor y = Poisoned(DType::kBF16, {s.rows, s.out});
      Linear(here(), weight, bias).Run(here(), x.f32, want);
      Linear(there(), weight, bias).Run(there(), There(x.bf16), y);
      ASSERT_EQ(FirstMismatch(Here(y), want, AllowedFor(Activation::kNone, DType::kBF16, s.in)), "")
          << NameOf(s) << ", bias " << has_bias;
    }
  }
}

TEST_F(CudaOpsTest, LinearOfEveryWeightDTypeAndActivation) {
  for (DType dtype : {DType::kF32, DType::kF16, DType::kBF16, DType::kF64})
    for (Activation activation : kActivations)
      for (bool has_bias : {false, true})
        for (DType y_dtype : {DType::kBF16, DType::kF32})
          for (const LinearShape& s : {LinearShape{19, 43, 37}, LinearShape{33, 128, 96}}) {
            const Tensor weight = RandomWeight(dtype, s.out, s.in);
            Tensor bias;
            if (has_bias) bias = RandomTensor(dtype, {s.out}, 4);
            const Bf16Pair x({s.rows, s.in}, 3);
            const Tensor want(DType::kF32, {s.rows, s.out});
            const Tensor y = Poisoned(y_dtype, {s.rows, s.out});
            const Output output = y_dtype == DType::kF32 ? Output::kFloat : Output::kActivation;
            Linear(here(), weight, bias).Run(here(), x.f32, want, activation, output);
            Linear(there(), weight, bias).Run(there(), There(x.bf16), y, activation, output);
            Tolerance allowed = AllowedFor(activation, y_dtype, s.in);
            if (has_bias && y_dtype == DType::kBF16 && s.in % 8 == 0 && s.out % 8 == 0)
              allowed.absolute += kRoundedBias;
            ASSERT_EQ(FirstMismatch(Here(y), want, allowed), "")
                << NameOf(s) << ", weight " << DTypeName(dtype) << ", bias " << has_bias
                << ", activation " << static_cast<int>(activation) << ", y " << DTypeName(y_dtype);
          }
}

TEST_F(CudaOpsTest, LinearAddsToTheResidualWithoutRounding) {
  for (const LinearShape& s : kShapes) {
    const Tensor weight = RandomWeight(DType::kBF16, s.out, s.in);
    for (bool has_bias : {false, true})
      for (int64_t groups : {0, 1, 3}) {
        if (groups > 0 && s.rows % groups != 0) continue;
        Tensor bias, gate, there_gate;
        if (has_bias) bias = RandomTensor(DType::kF32, {s.out}, 2);
        if (groups > 0) gate = RandomTensor(DType::kF32, {groups, s.out}, 3);
        if (groups > 0) there_gate = There(gate);
        const Bf16Pair x({s.rows, s.in}, 4);
        const Tensor residual = RandomTensor(DType::kF32, {s.rows, s.out}, 5);
        const Tensor got = There(residual);
        Linear(here(), weight, bias).AddTo(here(), x.f32, residual, gate);
        Linear(there(), weight, bias).AddTo(there(), There(x.bf16), got, there_gate);
        const double magnitude = 12 * (std::sqrt(static_cast<double>(s.in)) + 1);
        ASSERT_EQ(FirstMismatch(Here(got), residual, FloatSums(magnitude)), "")
            << NameOf(s) << ", bias " << has_bias << ", groups " << groups;
      }
  }
}

TEST_F(CudaOpsTest, LinearGivesTheSameBitsEveryTime) {
  for (const LinearShape& s :
       {LinearShape{4680, 1536, 1536}, LinearShape{96, 8960, 1536}, LinearShape{546, 9, 33}}) {
    const Tensor weight = RandomWeight(DType::kBF16, s.out, s.in);
    const Tensor gate = There(RandomTensor(DType::kF32, {3, s.out}, 3));
    const Tensor x = There(RandomTensor(DType::kBF16, {s.rows, s.in}, 4));
    const Tensor residual = RandomTensor(DType::kF32, {s.rows, s.out}, 5);
    const Linear linear(there(), weight, {});
    Tensor first, first_sum;
    for (int repeat = 0; repeat < 5; ++repeat) {
      const Tensor y = Poisoned(DType::kBF16, {s.rows, s.out}), sum = There(residual);
      linear.Run(there(), x, y);
      linear.AddTo(there(), x, sum, gate);
      linear.AddTo(there(), x, sum);
      Tensor got = Here(y), got_sum = Here(sum);
      if (repeat > 0) {
        ASSERT_EQ(std::memcmp(got.view().data, first.view().data, got.bytes()), 0) << NameOf(s);
        ASSERT_EQ(std::memcmp(got_sum.view().data, first_sum.view().data, got_sum.bytes()), 0)
            << NameOf(s);
      }
      first = std::move(got), first_sum = std::move(got_sum);
    }
  }
}

// Where rows do not begin at 16 bytes cuBLASLt would round the product before it adds the bias.
TEST_F(CudaOpsTest, UnalignedProductsWithABiasTakeTwoPasses) {
  MemoryMeter meter;
  CublasMatmul matmul(meter);
  const Tensor x(DType::kBF16, {6, 72}, &backend()), w(DType::kBF16, {72, 72}, &backend());
  const Tensor y(DType::kF32, {6, 72}, &backend()), bias(DType::kF32, {72}, &backend());
  const MatmulPointers pointers{x.view().data, w.view().data, bias.view().data, y.view().data};
  const MatmulProblem aligned{.rows = 6, .in = 64, .out = 72, .bias = true};
  MatmulProblem odd_in = aligned, odd_out = aligned, relu = aligned;
  odd_in.in = 7, odd_out.out = 65;
  relu.out = 65, relu.bias = false, relu.activation = Activation::kRelu;
  EXPECT_TRUE(matmul.Run(aligned, pointers, nullptr));
  EXPECT_FALSE(matmul.Run(odd_in, pointers, nullptr));
  EXPECT_FALSE(matmul.Run(odd_out, pointers, nullptr));
  EXPECT_FALSE(matmul.Run(relu, pointers, nullptr));
  backend().Synchronize();
}

TEST_F(CudaOpsTest, ProductsOfTheModelTakeOnePass) {
  MemoryMeter meter;
  CublasMatmul matmul(meter);
  const Tensor x(DType::kBF16, {4680, 8960}, &backend()), w(DType::kBF16, {8960, 1536}, &backend());
  const Tensor y(DType::kF32, {4680, 8960}, &backend()), bias(DType::kF32, {8960}, &backend());
  const MatmulPointers pointers{x.view().data, w.view().data, bias.view().data, y.view().data};
  const MatmulProblem attention{.rows = 4680, .in = 1536, .out = 1536, .bias = true};
  MatmulProblem up{.rows = 4680, .in = 1536, .out = 8960, .bias = true}, cross = attention;
  up.activation = Activation::kGeluTanh;
  cross.y = DType::kF32, cross.add = true;
  const MatmulProblem down{.rows = 4680, .in = 8960, .out = 1536, .y = DType::kF32};
  EXPECT_TRUE(matmul.Run(attention, pointers, nullptr)) << "bias";
  EXPECT_TRUE(matmul.Run(up, pointers, nullptr)) << "bias and GELU";
  EXPECT_TRUE(matmul.Run(cross, pointers, nullptr)) << "bias, added to float32";
  EXPECT_TRUE(matmul.Run(down, pointers, nullptr)) << "to float32";
  backend().Synchronize();
}

TEST_F(CudaOpsTest, BatchedMatmul) {
  constexpr DType kDTypes[] = {DType::kBF16, DType::kF32};
  for (const auto& [batch, m, k, n] :
       {std::array<int64_t, 4>{3, 17, 33, 9}, {1, 96, 384, 200}, {2, 64, 128, 72}, {1, 1, 1, 1}})
    for (bool transposed : {false, true})
      for (DType a_dtype : kDTypes)
        for (DType b_dtype : kDTypes)
          for (DType y_dtype : kDTypes) {
            const Activation activation = transposed ? Activation::kGeluTanh : Activation::kNone;
            const Tensor a = RandomTensor(a_dtype, {batch, m, k}, 1);
            const Tensor b =
                RandomTensor(b_dtype, transposed ? Shape{batch, n, k} : Shape{batch, k, n}, 2, 0.2);
            const Tensor want(DType::kF32, {batch, m, n});
            const Output output = y_dtype == DType::kF32 ? Output::kFloat : Output::kActivation;
            BatchedMatmul(here(), ToFloat32(a), ToFloat32(b), transposed, want, output, activation);
            const Tensor y = Poisoned(y_dtype, {batch, m, n});
            BatchedMatmul(there(), There(a), There(b), transposed, y, output, activation);
            ASSERT_EQ(FirstMismatch(Here(y), want, AllowedFor(activation, y_dtype, 4 * k)), "")
                << m << " x " << k << " x " << n << ", transposed " << transposed << ", "
                << DTypeName(a_dtype) << " and " << DTypeName(b_dtype) << " to "
                << DTypeName(y_dtype);
          }
}

}  // namespace
}  // namespace mrt::ops
