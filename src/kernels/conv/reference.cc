#include "kernels/conv/reference.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace mrt {
namespace {

// Of one output pixel and channel.
double SumOfTaps(const ConvCudaShape& s, std::span<const double> x, std::span<const double> w,
                 int64_t time, int64_t row, int64_t col) {
  double sum = 0;
  for (int64_t a = 0; a < s.kernel_time; ++a)
    for (int64_t b = 0; b < s.kernel_rows; ++b)
      for (int64_t d = 0; d < s.kernel_cols; ++d) {
        const int64_t from_row = row * s.stride_space + b - s.pad_top;
        const int64_t from_col = col * s.stride_space + d - s.pad_left;
        if (from_row < 0 || from_row >= s.rows || from_col < 0 || from_col >= s.cols) continue;
        const int64_t from_time = time * s.stride_time + a;
        const int64_t pixel = (from_time * s.rows + from_row) * s.cols + from_col;
        const int64_t tap = (a * s.kernel_rows + b) * s.kernel_cols + d;
        for (int64_t i = 0; i < s.in; ++i) sum += x[pixel * s.in + i] * w[i * s.taps() + tap];
      }
  return sum;
}

}  // namespace

std::vector<double> ConvReference(const ConvCudaShape& s, std::span<const double> x,
                                  std::span<const double> weight, std::span<const double> bias) {
  std::vector<double> y;
  const auto row_elements = static_cast<size_t>(s.in * s.taps());
  for (int64_t time = 0; time < s.out_time(); ++time)
    for (int64_t row = 0; row < s.out_rows(); ++row)
      for (int64_t col = 0; col < s.out_cols(); ++col)
        for (size_t o = 0; o < static_cast<size_t>(s.out); ++o)
          y.push_back(
              (bias.empty() ? 0 : bias[o]) +
              SumOfTaps(s, x, weight.subspan(o * row_elements, row_elements), time, row, col));
  return y;
}

double ActivationReference(ConvCudaActivation activation, double x) {
  switch (activation) {
    case ConvCudaActivation::kRelu: return std::max(x, 0.0);
    case ConvCudaActivation::kSilu: return x / (1 + std::exp(-x));
    case ConvCudaActivation::kGeluTanh:
      return 0.5 * x *
             (1 + std::tanh(std::sqrt(2 / std::numbers::pi) * (x + 0.044715 * x * x * x)));
    case ConvCudaActivation::kNone: break;
  }
  return x;
}

}  // namespace mrt
