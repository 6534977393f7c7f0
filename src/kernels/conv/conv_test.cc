// The AMX convolution against the definition in doubles.
#include "kernels/conv/conv.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "base/threads.h"
#include "kernels/conv/reference.h"
#include "tensor/tensor.h"
#include "testing/random_tensor.h"

namespace mrt {
namespace {

using testing::RandomTensor;

std::vector<double> Doubles(const Tensor& x) {
  std::vector<double> y(static_cast<size_t>(x.shape().elements()));
  for (size_t i = 0; i < y.size(); ++i)
    y[i] = x.view().dtype == DType::kF32 ? double{x.as<float>()[i]}
                                         : double{ToFloat(x.as<BFloat16>()[i])};
  return y;
}

struct Case {
  ConvShape shape;
  int64_t rows = 0, cols = 0;  // of x
  int64_t pad_bottom = 0, pad_right = 0;

  int64_t out_rows() const {
    return (rows + shape.pad_top + pad_bottom - shape.kernel_rows) / shape.stride + 1;
  }
  int64_t out_cols() const {
    return (cols + shape.pad_left + pad_right - shape.kernel_cols) / shape.stride + 1;
  }
  Shape y() const { return {out_rows(), out_cols(), shape.out}; }
  std::string ToString() const {
    return std::to_string(rows) + "x" + std::to_string(cols) + " " + std::to_string(shape.in) +
           " to " + std::to_string(shape.out) + ", kernel " + std::to_string(shape.kernel_time) +
           "x" + std::to_string(shape.kernel_rows) + "x" + std::to_string(shape.kernel_cols);
  }
};

ConvShape Same(int64_t in, int64_t out, int64_t time, int64_t size) {
  return {.in = in,
          .out = out,
          .kernel_time = time,
          .kernel_rows = size,
          .kernel_cols = size,
          .pad_top = size / 2,
          .pad_left = size / 2};
}

// Odd sizes, frames smaller than a block, channels that fill no panel, several tasks each way.
std::vector<Case> Cases() {
  std::vector<Case> cases = {
      {Same(32, 32, 3, 3), 1, 1, 1, 1},   {Same(32, 3, 3, 3), 5, 7, 1, 1},
      {Same(64, 16, 1, 3), 4, 16, 1, 1},  {Same(32, 48, 3, 3), 9, 33, 1, 1},
      {Same(96, 96, 3, 3), 19, 50, 1, 1}, {Same(32, 40, 3, 1), 6, 20, 0, 0},
      {Same(32, 32, 1, 1), 3, 130, 0, 0}, {Same(384, 64, 3, 3), 10, 40, 1, 1},
      {Same(32, 32, 3, 5), 6, 18, 2, 2}};
  ConvShape halve = Same(32, 64, 1, 3);
  halve.stride = 2;
  cases.push_back({halve, 11, 40, 1, 1});
  halve.pad_top = halve.pad_left = 0;
  cases.push_back({halve, 12, 41, 1, 1});
  ConvShape lopsided = Same(64, 32, 2, 2);
  for (const int64_t top : {0, 1})
    for (const int64_t left : {0, 1}) {
      lopsided.pad_top = top, lopsided.pad_left = left;
      cases.push_back({lopsided, 7, 35, 1 - top, 1 - left});
    }
  return cases;
}

struct Data {
  Case c;
  Tensor x, weight, bias, packed;

  explicit Data(const Case& from)
      : c(from),
        x(RandomTensor(DType::kBF16, {c.shape.kernel_time, c.rows, c.cols, c.shape.in}, 1)),
        weight(DType::kBF16, {PaddedConvOut(c.shape.out), c.shape.taps(), c.shape.in}),
        bias(DType::kF32, {PaddedConvOut(c.shape.out)}),
        packed(DType::kBF16, {PaddedConvOut(c.shape.out), c.shape.taps(), c.shape.in}) {
    const int64_t row = c.shape.taps() * c.shape.in;
    const Tensor random = RandomTensor(DType::kBF16, {c.shape.out, row}, 2);
    std::memcpy(weight.view().data, random.view().data, static_cast<size_t>(random.bytes()));
    const Tensor random_bias = RandomTensor(DType::kF32, {c.shape.out}, 3);
    std::memcpy(bias.view().data, random_bias.view().data,
                static_cast<size_t>(random_bias.bytes()));
    PackConvWeight(c.shape, weight.view().data, packed.view().data);
  }

  std::vector<double> Want() const {
    const ConvShape& s = c.shape;
    const ConvCudaShape cuda{.time = s.kernel_time,
                             .rows = c.rows,
                             .cols = c.cols,
                             .in = s.in,
                             .out = s.out,
                             .kernel_time = s.kernel_time,
                             .kernel_rows = s.kernel_rows,
                             .kernel_cols = s.kernel_cols,
                             .stride_space = s.stride,
                             .pad_top = s.pad_top,
                             .pad_left = s.pad_left,
                             .pad_bottom = c.pad_bottom,
                             .pad_right = c.pad_right};
    const std::vector<double> w = Doubles(weight);
    std::vector<double> in_first(static_cast<size_t>(s.out * s.in * s.taps()));
    for (int64_t o = 0; o < s.out; ++o)
      for (int64_t t = 0; t < s.taps(); ++t)
        for (int64_t i = 0; i < s.in; ++i)
          in_first[static_cast<size_t>((o * s.in + i) * s.taps() + t)] =
              w[static_cast<size_t>((o * s.taps() + t) * s.in + i)];
    std::vector<double> b = Doubles(bias);
    b.resize(static_cast<size_t>(s.out));
    return ConvReference(cuda, Doubles(x), in_first, b);
  }

  ConvArgs Args(const Tensor& y, std::vector<const void*>& frames) const {
    frames.clear();
    for (int64_t t = 0; t < c.shape.kernel_time; ++t)
      frames.push_back(x.view().Slice(t, t + 1).data);
    const bool bf16 = y.view().dtype == DType::kBF16;
    return {.shape = c.shape,
            .frames = frames.data(),
            .rows = c.rows,
            .cols = c.cols,
            .weight = packed.view().data,
            .bias = bias.as<float>(),
            .y = {y.view().data, bf16 ? StorageType::kBF16 : StorageType::kF32},
            .out_rows = c.out_rows(),
            .out_cols = c.out_cols(),
            .y_row = c.out_cols() * c.shape.out,
            .y_col = c.shape.out};
  }
};

void RunWithScratch(ConvArgs args) {
  const Tensor scratch(DType::kU8, {ConvScratchBytes(args, ThreadCount())});
  args.scratch = scratch.view().data;
  RunConv(args);
}

class ConvKernel : public ::testing::Test {
 protected:
  void SetUp() override {
    if (const char* reason = ConvRefuses(Same(32, 32, 3, 3), GetCpuFeatures()))
      GTEST_SKIP() << reason;
  }
};

double Magnitude(const ConvShape& s) { return std::sqrt(static_cast<double>(s.taps() * s.in)); }

TEST_F(ConvKernel, EqualsTheDefinition) {
  for (const Case& c : Cases()) {
    SCOPED_TRACE(c.ToString());
    const Data data(c);
    const std::vector<double> want = data.Want();
    const Tensor y(DType::kF32, c.y()), rounded(DType::kBF16, c.y());
    std::vector<const void*> frames;
    RunWithScratch(data.Args(y, frames));
    RunWithScratch(data.Args(rounded, frames));
    for (size_t i = 0; i < want.size(); ++i) {
      ASSERT_NEAR(y.as<float>()[i], want[i], 1e-6 * Magnitude(c.shape) + 1e-5) << i;
      ASSERT_EQ(ToFloat(rounded.as<BFloat16>()[i]), ToFloat(ToBFloat16(y.as<float>()[i]))) << i;
    }
  }
}

TEST_F(ConvKernel, AddsToWhatIsThere) {
  for (const Case& c : Cases())
    for (const DType dtype : {DType::kF32, DType::kBF16}) {
      SCOPED_TRACE(c.ToString());
      const Data data(c);
      const std::vector<double> want = data.Want();
      const Tensor y = RandomTensor(dtype, c.y(), 5);
      const std::vector<double> before = Doubles(y);
      std::vector<const void*> frames;
      ConvArgs args = data.Args(y, frames);
      args.add = true;
      RunWithScratch(args);
      const std::vector<double> after = Doubles(y);
      const double steps = dtype == DType::kBF16 ? 0x1p-8 : 0x1p-22;
      for (size_t i = 0; i < want.size(); ++i)
        ASSERT_NEAR(after[i], before[i] + want[i],
                    1e-6 * Magnitude(c.shape) + 1e-5 + steps * std::abs(before[i] + want[i]))
            << i;
    }
}

TEST_F(ConvKernel, AppliesTheEpilogue) {
  const Data data(Cases()[4]);
  const std::vector<double> want = data.Want();
  const Tensor y(DType::kF32, data.c.y());
  std::vector<const void*> frames;
  ConvArgs args = data.Args(y, frames);
  for (const auto& [epilogue, activation] :
       {std::pair(Epilogue::kRelu, ConvCudaActivation::kRelu),
        std::pair(Epilogue::kSilu, ConvCudaActivation::kSilu)}) {
    args.epilogue = epilogue;
    RunWithScratch(args);
    for (size_t i = 0; i < want.size(); ++i)
      ASSERT_NEAR(y.as<float>()[i], ActivationReference(activation, want[i]),
                  3e-4 * std::abs(want[i]) + 5e-5);
  }
}

// Every second row and column: what is between them stays.
TEST_F(ConvKernel, WritesRowsAndColumnsApart) {
  const Data data(Cases()[3]);
  const Case& c = data.c;
  const Tensor close(DType::kBF16, c.y());
  std::vector<const void*> frames;
  RunWithScratch(data.Args(close, frames));
  const int64_t out = c.shape.out, wide = 2 * c.out_cols();
  const Tensor y = RandomTensor(DType::kBF16, {2 * c.out_rows(), wide, out}, 6);
  const Tensor before = RandomTensor(DType::kBF16, {2 * c.out_rows(), wide, out}, 6);
  ConvArgs args = data.Args(y, frames);
  args.y_row = 2 * wide * out;
  args.y_col = 2 * out;
  RunWithScratch(args);
  for (int64_t i = 0; i < y.shape().elements(); ++i) {
    const int64_t row = i / (wide * out), col = i / out % wide;
    const bool written = row % 2 == 0 && col % 2 == 0;
    const int64_t from = (row / 2 * c.out_cols() + col / 2) * out + i % out;
    ASSERT_EQ(ToFloat(y.as<BFloat16>()[i]),
              ToFloat(written ? close.as<BFloat16>()[from] : before.as<BFloat16>()[i]))
        << i;
  }
}

TEST_F(ConvKernel, ThreadsChangeNoBit) {
  const Data data({Same(96, 96, 3, 3), 40, 70, 1, 1});
  const Tensor one(DType::kF32, data.c.y()), three(DType::kF32, data.c.y());
  std::vector<const void*> frames;
  {
    const ThreadCountScope threads(1);
    RunWithScratch(data.Args(one, frames));
  }
  {
    const ThreadCountScope threads(3);
    RunWithScratch(data.Args(three, frames));
  }
  EXPECT_EQ(std::memcmp(one.view().data, three.view().data, one.bytes()), 0);
}

TEST(ConvKernelRefuses, SaysWhy) {
  CpuFeatures cpu;
  EXPECT_NE(ConvRefuses(Same(32, 32, 3, 3), cpu), nullptr);
  cpu.amx_bf16 = true;
  EXPECT_EQ(ConvRefuses(Same(32, 3, 3, 3), cpu), nullptr);
  EXPECT_NE(ConvRefuses(Same(16, 32, 3, 3), cpu), nullptr);
  EXPECT_NE(ConvRefuses(Same(32, 32, 3, 7), cpu), nullptr);
  ConvShape far = Same(32, 32, 3, 3);
  far.stride = 3;
  EXPECT_NE(ConvRefuses(far, cpu), nullptr);
}

}  // namespace
}  // namespace mrt
