// conv_cuda_bench: a table of milliseconds and TFLOP/s, for the convolutions of the Wan VAE's
// decoder and of TAEHV at 480x832, one video frame (or latent frame) each.
#include "kernels/common/cuda/bench_util.h"
#include "kernels/conv/cuda/conv_cuda.h"

namespace mrt {
namespace {

struct Case {
  const char* name;
  ConvCudaShape shape;
};

constexpr ConvCudaShape Spatial(int64_t rows, int64_t cols, int64_t in, int64_t out,
                                int64_t kernel_time = 1) {
  return {.time = kernel_time,
          .rows = rows,
          .cols = cols,
          .in = in,
          .out = out,
          .kernel_time = kernel_time,
          .kernel_rows = 3,
          .kernel_cols = 3,
          .pad_top = 1,
          .pad_left = 1,
          .pad_bottom = 1,
          .pad_right = 1};
}

constexpr Case kCases[] = {
    {"vae input 16->384", Spatial(60, 104, 16, 384, 3)},
    {"vae 384->384, 60x104", Spatial(60, 104, 384, 384, 3)},
    {"vae 384->384, 120x208", Spatial(120, 208, 384, 384, 3)},
    {"vae 192->192, 240x416", Spatial(240, 416, 192, 192, 3)},
    {"vae 96->96, 480x832", Spatial(480, 832, 96, 96, 3)},
    {"vae head 96->3, 480x832", Spatial(480, 832, 96, 3, 3)},
    {"vae 2d 384->192, 240x416", Spatial(240, 416, 384, 192)},
    {"vae 2d 192->96, 480x832", Spatial(480, 832, 192, 96)},
    {"vae qkv 384->1152", {.rows = 60, .cols = 104, .in = 384, .out = 1152}},
    {"vae encoder 3->96", Spatial(480, 832, 3, 96, 3)},
    {"taehv 512->256, 60x104", Spatial(60, 104, 512, 256)},
    {"taehv 256->128, 120x208", Spatial(120, 208, 256, 128)},
    {"taehv 128->64, 240x416", Spatial(240, 416, 128, 64)},
    {"taehv 64->64, 480x832", Spatial(480, 832, 64, 64)},
    {"taehv 64->3, 480x832", Spatial(480, 832, 64, 3)},
};

void Bench(const Case& c) {
  const ConvCudaShape& s = c.shape;
  const int64_t pixels = s.out_time() * s.out_rows() * s.out_cols();
  const auto x = RandomOnDevice(s.time * s.rows * s.cols * s.in);
  const auto weight = RandomOnDevice(ConvCudaPackingOf(s.out, s.in, s.taps()).elements());
  const auto y = AllocateDevice(2 * pixels * s.out);
  const double ms = MedianMs([&] {
    return RunConvCuda({.shape = s, .x = x.get(), .weight = weight.get(), .y = y.get()}, nullptr);
  });
  const double flop = 2.0 * double(pixels) * double(s.out) * double(s.in * s.taps());
  std::printf("%-28s %8.4f ms %7.1f TFLOP/s\n", c.name, ms, flop / ms / 1e9);
  std::fflush(stdout);
}

}  // namespace
}  // namespace mrt

int main() {
  for (const mrt::Case& c : mrt::kCases) mrt::Bench(c);
  return 0;
}
