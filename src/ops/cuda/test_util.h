// What the tests of the operations on CUDA share. Each operation runs there in kBF16 and on the CPU
// in kBF16Emulated, which has its own tests against plain loops in double.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <memory>
#include <optional>
#include <string>

#include "ops/backend.h"
#include "ops/for_test.h"

namespace mrt::ops {

/// How far an element may be off.
struct Tolerance {
  double absolute = 0, relative = 0;
};
/// Of sums in float32 whose terms have a total size of about `magnitude`.
inline Tolerance FloatSums(double magnitude) { return {4e-6 * magnitude, 4e-6}; }
/// The same, rounded to bfloat16 on both sides: by one step, where the sums lie on two sides of a
/// boundary.
inline Tolerance Bf16Step(double magnitude) { return {4e-6 * magnitude, 0x1p-7}; }

/// Empty if all elements are as wanted, else which is the first that is not, and how many.
inline std::string FirstMismatch(const ConstTensorView& got, const ConstTensorView& want,
                                 Tolerance tolerance) {
  if (!(got.shape == want.shape))
    return "got shape " + got.shape.ToString() + ", want " + want.shape.ToString();
  int64_t first = -1, count = 0;
  for (int64_t i = 0; i < got.shape.elements(); ++i) {
    const double x = ElementAsFloat(got, i), y = ElementAsFloat(want, i);
    if (std::abs(x - y) <= tolerance.absolute + tolerance.relative * std::abs(y)) continue;
    if (first < 0) first = i;
    ++count;
  }
  if (count == 0) return "";
  return std::to_string(count) + " of " + got.shape.ToString() +
         " are wrong, the first is element " + std::to_string(first) + " got " +
         std::to_string(ElementAsFloat(got, first)) + ", want " +
         std::to_string(ElementAsFloat(want, first)) + " +- " + std::to_string(tolerance.absolute) +
         " +- " + std::to_string(100 * tolerance.relative) + " %";
}

class CudaOpsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (ListGpus().empty()) GTEST_SKIP() << "no GPU that CUDA can use";
    Result<std::unique_ptr<Backend>> made = MakeCudaBackend(0);
    ASSERT_TRUE(made.ok()) << made.status().message();
    backend_ = std::move(made).value();
    there_.emplace(Precision::kBF16, backend_.get());
  }

  Context& here() { return here_; }
  Context& there() { return *there_; }
  Backend& backend() { return *backend_; }

  /// A copy of a host tensor on the device.
  Tensor There(const ConstTensorView& host) {
    Tensor copy(host.dtype, host.shape, backend_.get());
    if (host.bytes() > 0) backend_->Copy(copy.view().data, host.data, host.bytes());
    return copy;
  }
  /// On the device, and no element is a number.
  Tensor Poisoned(DType dtype, const Shape& shape) {
    const Tensor nan(dtype, shape);
    std::memset(nan.view().data, 0xff, static_cast<size_t>(nan.bytes()));
    return There(nan);
  }
  /// A copy on the host.
  Tensor Here(const ConstTensorView& device) {
    Tensor copy(device.dtype, device.shape);
    if (device.bytes() > 0) backend_->Copy(copy.view().data, device.data, device.bytes());
    return copy;
  }

 private:
  std::unique_ptr<Backend> backend_;
  Context here_{Precision::kBF16Emulated};
  std::optional<Context> there_;
};

/// Random, and the same values as float32.
struct Bf16Pair {
  Tensor bf16, f32;
  Bf16Pair(const Shape& shape, uint32_t seed)
      : bf16(RandomTensor(DType::kBF16, shape, seed)), f32(ToFloat32(bf16)) {}
};

inline Tensor CopyOf(const ConstTensorView& x) {
  Tensor copy(x.dtype, x.shape);
  std::memcpy(copy.view().data, x.data, static_cast<size_t>(x.bytes()));
  return copy;
}

}  // namespace mrt::ops
