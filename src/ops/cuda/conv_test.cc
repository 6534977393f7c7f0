// Convolutions on a GPU against those of the CPU.
#include <gtest/gtest.h>

#include <cmath>
#include <string>

#include "ops/backend.h"
#include "ops/conv.h"
#include "ops/for_test.h"

namespace mrt::ops {
namespace {

constexpr ConvParams kSame{1, 1, 1, 1, 1, 1};
constexpr ConvParams kHalve{1, 2, 0, 0, 1, 1};
constexpr ConvParams kHalveTime{2, 1, 0, 0, 0, 0};

struct ConvCase {
  Shape weight;  // [out, in, (time,) rows, columns]
  Shape x;       // [time, rows, columns, in]
  ConvParams params;
  bool bias = true;
};

// Device memory with a tensor's bytes.
class OnDevice {
 public:
  OnDevice(Backend& backend, const Tensor& host)
      : backend_(backend), data_(backend.Allocate(host.bytes())) {
    backend.Copy(data_, host.view().data, host.bytes());
  }
  OnDevice(const OnDevice&) = delete;
  OnDevice& operator=(const OnDevice&) = delete;
  ~OnDevice() { backend_.Free(data_); }
  void* data() const { return data_; }

 private:
  Backend& backend_;
  void* data_;
};

class CudaConvTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (ListGpus().empty()) GTEST_SKIP() << "no GPU";
    auto backend = MakeCudaBackend(0);
    ASSERT_TRUE(backend.ok()) << backend.status().message();
    backend_ = std::move(backend).value();
  }

  // What the device makes of x (bfloat16 numbers), as F32.
  Tensor RunOnDevice(const BackendConv& conv, const Tensor& x, const Shape& y, DType dtype,
                     Activation activation) {
    Tensor x_bf16(DType::kBF16, x.shape()), got(dtype, y);
    for (int64_t i = 0; i < x.shape().elements(); ++i)
      x_bf16.as<BFloat16>()[i] = ToBFloat16(x.as<float>()[i]);
    for (int64_t i = 0; i < got.bytes(); ++i) static_cast<char*>(got.view().data)[i] = '\xff';
    const OnDevice device_x(*backend_, x_bf16), device_y(*backend_, got);
    conv.Run(cpu_, {device_x.data(), DType::kBF16, x.shape()}, {device_y.data(), dtype, y},
             activation);
    backend_->Copy(got.view().data, device_y.data(), got.bytes());
    return ToFloat32(got);
  }

  void Check(const ConvCase& c, Activation activation = Activation::kNone) {
    SCOPED_TRACE("weight " + c.weight.ToString() + " x " + c.x.ToString());
    const Tensor weight = RandomTensor(DType::kBF16, c.weight, 1, 0.25);
    const Tensor bias = c.bias ? RandomTensor(DType::kF32, {c.weight[0]}, 2) : Tensor();
    const Conv conv(cpu_, weight, bias, c.params);
    const auto device_conv = backend_->MakeConv(cpu_, weight, bias, c.params);
    const Tensor x = RandomActivation(cpu_, c.x, 3);
    const Shape y = conv.OutputShape(c.x);
    Tensor want(DType::kF32, y), want_float(DType::kF32, y);
    conv.Run(cpu_, x, want, activation);
    conv.Run(cpu_, x, want_float, activation, Output::kFloat);
    const double magnitude =
        25 * (1 + 0.25 * std::sqrt(static_cast<double>(c.weight.elements() / c.weight[0])));
    EXPECT_EQ(MoreThanOneBf16Step(RunOnDevice(*device_conv, x, y, DType::kBF16, activation), want,
                                  magnitude),
              "");
    const Tensor floats = RunOnDevice(*device_conv, x, y, DType::kF32, activation);
    EXPECT_EQ(Mismatch(
                  cpu_, floats, Output::kFloat,
                  [&](int64_t i) { return want_float.as<float>()[i]; }, 2 * magnitude),
              "");
  }

  std::unique_ptr<Backend> backend_;
  Context cpu_{Precision::kBF16Emulated};
};

// Of the Wan VAE and of TAEHV, in smaller pictures.
TEST_F(CudaConvTest, MatchesTheCpuInTheModelsShapes) {
  const ConvCase cases[] = {
      {{384, 16, 3, 3, 3}, {3, 15, 26, 16}, kSame},
      {{384, 384, 3, 3, 3}, {3, 15, 26, 384}, kSame},
      {{1152, 384, 1, 1}, {1, 15, 26, 384}, {}},
      {{384, 384, 3, 1, 1}, {3, 15, 26, 384}, {}},
      {{192, 384, 3, 3}, {1, 30, 52, 384}, kSame},
      {{96, 192, 1, 1, 1}, {1, 30, 52, 192}, {}},
      {{96, 96, 3, 3, 3}, {3, 40, 52, 96}, kSame},
      {{3, 96, 3, 3, 3}, {3, 40, 52, 96}, kSame},
      {{96, 3, 3, 3, 3}, {6, 20, 24, 3}, kSame},
      {{96, 96, 3, 3}, {2, 30, 52, 96}, kHalve},
      {{192, 192, 3, 1, 1}, {5, 15, 26, 192}, kHalveTime},
      {{256, 16, 3, 3}, {1, 15, 26, 16}, kSame},
      {{256, 512, 3, 3}, {1, 15, 26, 512}, kSame},
      {{128, 256, 3, 3}, {1, 30, 52, 256}, kSame, false},
      {{64, 64, 3, 3}, {1, 60, 104, 64}, kSame},
      {{3, 64, 3, 3}, {1, 60, 104, 64}, kSame},
      {{12, 64, 3, 3}, {2, 30, 52, 64}, kSame},
      {{64, 12, 3, 3}, {2, 30, 52, 12}, kSame},
  };
  for (const ConvCase& c : cases) Check(c);
}

TEST_F(CudaConvTest, Activations) {
  const ConvCase c{{64, 64, 3, 3}, {2, 12, 13, 64}, kSame};
  for (Activation a : {Activation::kRelu, Activation::kSilu, Activation::kGeluTanh}) Check(c, a);
}

}  // namespace
}  // namespace mrt::ops
