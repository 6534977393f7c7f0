// What of conv_cuda.h needs no GPU.
#include <algorithm>
#include <limits>
#include <string>
#include <utility>

#include "kernels/conv/cuda/conv_cuda.h"

namespace mrt {
namespace {

// Input channels that one copy of 16 bytes takes, and columns of the weight of one step.
constexpr int64_t kChannelsAtOnce = 8, kStepColumns = 64;

constexpr int64_t RoundUp(int64_t x, int64_t to) { return (x + to - 1) / to * to; }

}  // namespace

std::string ConvCudaShape::ToString() const {
  const std::pair<const char*, int64_t> numbers[] = {{"time", time},
                                                     {"rows", rows},
                                                     {"cols", cols},
                                                     {"in", in},
                                                     {"out", out},
                                                     {"kernel_time", kernel_time},
                                                     {"kernel_rows", kernel_rows},
                                                     {"kernel_cols", kernel_cols},
                                                     {"stride_time", stride_time},
                                                     {"stride_space", stride_space},
                                                     {"pad_top", pad_top},
                                                     {"pad_left", pad_left},
                                                     {"pad_bottom", pad_bottom},
                                                     {"pad_right", pad_right}};
  std::string line;
  for (const auto& [name, value] : numbers)
    line += (line.empty() ? "" : " ") + std::string(name) + "=" + std::to_string(value);
  return line;
}

ConvCudaPacking ConvCudaPackingOf(int64_t out, int64_t in, int64_t taps) {
  ConvCudaPacking p;
  // The widest block of those with the least padding.
  for (const int columns : {128, 96, 64, 32})
    if (p.block_columns == 0 || RoundUp(out, columns) < p.rows) {
      p.block_columns = columns;
      p.rows = RoundUp(out, columns);
    }
  p.channels = RoundUp(in, kChannelsAtOnce);
  p.pitch = RoundUp(taps * p.channels, kStepColumns);
  return p;
}

void PackConvCudaRow(const ConvCudaPacking& packing, int64_t in, int64_t taps, const float* w,
                     BFloat16* row) {
  std::fill(row, row + packing.pitch, BFloat16{});
  for (int64_t i = 0; i < in; ++i)
    for (int64_t tap = 0; tap < taps; ++tap)
      row[tap * packing.channels + i] = ToBFloat16(w[i * taps + tap]);
}

Status ValidateConvCuda(const ConvCudaShape& s) {
  const auto refuse = [&](const char* need) {
    return InvalidArgument("[conv] got " + s.ToString() + ", need " + need);
  };
  for (int64_t n : {s.time, s.rows, s.cols, s.in, s.out, s.kernel_time, s.kernel_rows,
                    s.kernel_cols, s.stride_time, s.stride_space})
    if (n < 1 || n > 1 << 20) return refuse("sizes from 1 to 2^20");
  constexpr int64_t kSmall = 64;
  for (int64_t n : {s.kernel_time, s.kernel_rows, s.kernel_cols, s.stride_time, s.stride_space})
    if (n > kSmall) return refuse("kernels and strides of at most 64");
  for (int64_t n : {s.pad_top, s.pad_left, s.pad_bottom, s.pad_right})
    if (n < 0 || n > kSmall) return refuse("padding from 0 to 64");
  if (s.time < s.kernel_time || s.rows + s.pad_top + s.pad_bottom < s.kernel_rows ||
      s.cols + s.pad_left + s.pad_right < s.kernel_cols)
    return refuse("an input that the kernel fits in");
  // Offsets are 32-bit numbers, and padding adds to them.
  constexpr int64_t kElementsMax = std::numeric_limits<int32_t>::max() / 2;
  const int64_t padded_rows = s.rows + s.pad_top + s.pad_bottom;
  const int64_t padded_cols = s.cols + s.pad_left + s.pad_right;
  if (padded_rows * padded_cols > kElementsMax / (s.time * s.in) ||
      s.out_rows() * s.out_cols() > kElementsMax / s.out_time())
    return refuse("fewer than 2^30 input elements and output pixels");
  const ConvCudaPacking packing = ConvCudaPackingOf(s.out, s.in, s.taps());
  if (packing.elements() > kElementsMax) return refuse("fewer than 2^30 weights");
  return {};
}

}  // namespace mrt
