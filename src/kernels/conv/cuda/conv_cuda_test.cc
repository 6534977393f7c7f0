#include <cuda_runtime.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "kernels/common/cuda/device_buffer.cuh"
#include "kernels/conv/cuda/conv_cuda.h"
#include "kernels/conv/reference.h"
#include "testing/attention_inputs.h"

namespace mrt {
namespace {

using testing::RandomBf16;
using Activation = ConvCudaActivation;

constexpr int64_t kGuardBytes = 4096;
constexpr int kGuardByte = 0xA5;

// The inputs of one call and what the definition makes of them.
struct ConvCase {
  ConvCudaShape shape;
  std::vector<double> x, weight, bias;
  double magnitude = 0;  // of the sums

  explicit ConvCase(const ConvCudaShape& s, bool with_bias = true)
      : shape(s),
        x(RandomBf16(s.time * s.rows * s.cols * s.in, 1)),
        weight(RandomBf16(s.out * s.in * s.taps(), 2, 0.25)),
        magnitude(1 + 0.25 * std::sqrt(static_cast<double>(s.in * s.taps()))) {
    if (with_bias) bias = RandomBf16(s.out, 3);
  }

  DeviceBuffer PackedWeight() const {
    const ConvCudaPacking packing = ConvCudaPackingOf(shape.out, shape.in, shape.taps());
    std::vector<BFloat16> packed(static_cast<size_t>(packing.elements()));
    const int64_t row_elements = shape.in * shape.taps();
    for (int64_t o = 0; o < shape.out; ++o) {
      std::vector<float> row(static_cast<size_t>(row_elements));
      for (size_t n = 0; n < row.size(); ++n)
        row[n] = static_cast<float>(weight[static_cast<size_t>(o * row_elements) + n]);
      PackConvCudaRow(packing, shape.in, shape.taps(), row.data(),
                      packed.data() + o * packing.pitch);
    }
    return ToDevice(packed.data(), 2 * packing.elements());
  }

  // The output lies between guards and was not a number; x has what is not a number around it and
  // begins `skew` elements after a multiple of 16 bytes.
  template <typename Element>
  std::vector<double> Run(Activation activation, int64_t skew = 0) const {
    std::vector<BFloat16> bits(64, ToBFloat16(NAN));
    bits.resize(static_cast<size_t>(64 + skew), ToBFloat16(NAN));
    for (double value : x) bits.push_back(ToBFloat16(static_cast<float>(value)));
    bits.resize(bits.size() + 64, ToBFloat16(NAN));
    const auto device_x = ToDevice(bits.data(), static_cast<int64_t>(2 * bits.size()));
    const auto packed = PackedWeight();
    const std::vector<float> floats(bias.begin(), bias.end());
    DeviceBuffer device_bias;
    if (!bias.empty()) device_bias = ToDevice(floats.data(), 4 * shape.out);
    const int64_t elements = shape.out_time() * shape.out_rows() * shape.out_cols() * shape.out;
    const int64_t bytes = elements * int64_t{sizeof(Element)};
    const auto out = AllocateDevice(bytes + 2 * kGuardBytes);
    char* y = static_cast<char*>(out.get()) + kGuardBytes;
    EXPECT_EQ(cudaMemset(out.get(), kGuardByte, static_cast<size_t>(bytes + 2 * kGuardBytes)),
              cudaSuccess);
    EXPECT_EQ(cudaMemset(y, 0xFF, static_cast<size_t>(bytes)), cudaSuccess);
    const Status status =
        RunConvCuda({.shape = shape,
                     .x = static_cast<const BFloat16*>(device_x.get()) + 64 + skew,
                     .weight = packed.get(),
                     .bias = static_cast<const float*>(device_bias.get()),
                     .activation = activation,
                     .y = y,
                     .y_f32 = sizeof(Element) == 4},
                    nullptr);
    EXPECT_TRUE(status.ok()) << status.message();
    const cudaError_t error = cudaDeviceSynchronize();
    EXPECT_EQ(error, cudaSuccess) << cudaGetErrorString(error) << ", " << shape.ToString();
    std::vector<char> all(static_cast<size_t>(bytes + 2 * kGuardBytes));
    EXPECT_EQ(cudaMemcpy(all.data(), out.get(), all.size(), cudaMemcpyDeviceToHost), cudaSuccess);
    const auto guards = std::count(all.begin(), all.begin() + kGuardBytes, char(kGuardByte)) +
                        std::count(all.end() - kGuardBytes, all.end(), char(kGuardByte));
    EXPECT_EQ(guards, 2 * kGuardBytes) << "written outside the output, " << shape.ToString();
    std::vector<Element> values(static_cast<size_t>(elements));
    std::memcpy(values.data(), all.data() + kGuardBytes, static_cast<size_t>(bytes));
    std::vector<double> result;
    for (Element value : values) result.push_back(AsDouble(value));
    return result;
  }

  // Empty, or the first element that is too far off.
  std::string Mismatch(std::span<const double> got, std::span<const double> sums,
                       Activation activation, bool rounded) const {
    for (size_t n = 0; n < sums.size(); ++n) {
      const double want = ActivationReference(activation, sums[n]);
      // The tensor cores cut off what does not fit a sum, hundreds of times.
      const double allowed = 1e-4 * magnitude + (rounded ? 0x1p-8 * std::abs(want) : 0);
      if (std::abs(got[n] - want) <= allowed) continue;
      const int64_t pixel = static_cast<int64_t>(n) / shape.out;
      return "pixel " + std::to_string(pixel) + " channel " +
             std::to_string(static_cast<int64_t>(n) % shape.out) + ": got " +
             std::to_string(got[n]) + ", want " + std::to_string(want) + " +- " +
             std::to_string(allowed);
    }
    return "";
  }

  void Check(Activation activation = Activation::kNone, int64_t skew = 0) const {
    const std::vector<double> sums = ConvReference(shape, x, weight, bias);
    EXPECT_EQ(Mismatch(Run<BFloat16>(activation, skew), sums, activation, true), "")
        << shape.ToString() << ", bf16";
    EXPECT_EQ(Mismatch(Run<float>(activation, skew), sums, activation, false), "")
        << shape.ToString() << ", f32";
  }

 private:
  static double AsDouble(BFloat16 x) { return ToFloat(x); }
  static double AsDouble(float x) { return x; }
};

class ConvCuda : public ::testing::Test {
 protected:
  void SetUp() override {
    int devices = 0;
    const cudaError_t error = cudaGetDeviceCount(&devices);
    if (error != cudaSuccess || devices == 0)
      GTEST_SKIP() << "no CUDA device: " << cudaGetErrorString(error);
  }
};

ConvCudaShape Padded(ConvCudaShape s) {
  s.kernel_rows = s.kernel_cols = 3;
  s.pad_top = s.pad_left = s.pad_bottom = s.pad_right = 1;
  return s;
}
// One row and column at the end.
ConvCudaShape Halved(ConvCudaShape s) {
  s.kernel_rows = s.kernel_cols = 3;
  s.stride_space = 2;
  s.pad_bottom = s.pad_right = 1;
  return s;
}

TEST_F(ConvCuda, MatchesTheDefinition) {
  const ConvCudaShape shapes[] = {
      {.in = 8, .out = 2},
      {.time = 2, .rows = 5, .cols = 7, .in = 8, .out = 8},
      {.time = 4, .rows = 6, .cols = 5, .in = 3, .out = 5},
      {.time = 3, .rows = 9, .cols = 17, .in = 48, .out = 33},
      {.time = 6, .rows = 9, .cols = 11, .in = 20, .out = 36, .kernel_time = 3},
      {.time = 5, .rows = 4, .cols = 6, .in = 24, .out = 20, .kernel_time = 3, .stride_time = 2},
      {.time = 3,
       .rows = 6,
       .cols = 8,
       .in = 4,
       .out = 16,
       .kernel_rows = 2,
       .kernel_cols = 2,
       .stride_space = 2},
      {.time = 3,
       .rows = 7,
       .cols = 6,
       .in = 9,
       .out = 17,
       .kernel_time = 2,
       .kernel_rows = 3,
       .kernel_cols = 3,
       .pad_top = 2,
       .pad_bottom = 1,
       .pad_right = 3},
      Padded({.time = 3, .rows = 1, .cols = 1, .in = 16, .out = 40, .kernel_time = 3}),
      Halved({.time = 2, .rows = 10, .cols = 14, .in = 16, .out = 24}),
      Halved({.time = 2, .rows = 9, .cols = 13, .in = 16, .out = 24}),
  };
  for (const ConvCudaShape& shape : shapes) ConvCase(shape).Check();
}

// Every width of a block, tails in all dimensions, more steps than stages.
TEST_F(ConvCuda, MatchesTheDefinitionWithTheModelsChannels) {
  const int64_t channels[][2] = {{16, 384}, {384, 96}, {96, 192}, {192, 96}, {96, 3},
                                 {3, 64},   {64, 64},  {128, 64}, {12, 256}, {256, 128},
                                 {64, 12},  {16, 32},  {32, 16},  {1, 1},    {96, 96}};
  for (const auto& [in, out] : channels) {
    ConvCase(Padded({.time = 2, .rows = 9, .cols = 15, .in = in, .out = out})).Check();
    ConvCase(Padded({.time = 3, .rows = 8, .cols = 17, .in = in, .out = out, .kernel_time = 3}),
             /*with_bias=*/out != 1)
        .Check();
  }
}

TEST_F(ConvCuda, Activations) {
  const ConvCase c(Padded({.time = 1, .rows = 6, .cols = 9, .in = 16, .out = 24}));
  for (Activation a : {Activation::kRelu, Activation::kSilu, Activation::kGeluTanh}) c.Check(a);
}

TEST_F(ConvCuda, TakesInputsThatAreNotAligned) {
  ConvCase(Padded({.time = 1, .rows = 6, .cols = 9, .in = 16, .out = 24}))
      .Check(Activation::kNone, /*skew=*/3);
}

TEST_F(ConvCuda, GivesTheSameBitsEveryTime) {
  const ConvCase c(
      Padded({.time = 3, .rows = 20, .cols = 30, .in = 96, .out = 96, .kernel_time = 3}));
  const auto first = c.Run<float>(Activation::kNone);
  for (int repeat = 0; repeat < 4; ++repeat) EXPECT_EQ(c.Run<float>(Activation::kNone), first);
}

}  // namespace
}  // namespace mrt
