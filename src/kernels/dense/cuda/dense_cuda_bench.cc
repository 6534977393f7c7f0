// dense_cuda_bench [f16]: a table of milliseconds and TFLOP/s for self-attention over a window of
// frames and cross-attention.
#include <cmath>
#include <string>
#include <vector>

#include "kernels/common/cuda/bench_util.h"
#include "kernels/dense/cuda/dense_cuda.h"

namespace mrt {
namespace {

struct Case {
  const char* name;
  int heads, head_dim;
  int64_t tokens_q, tokens_per_frame;
  int frames_kv;
  bool bias;
};

constexpr Case kCases[] = {
    {"self 480p, 3 x 21 frames", 12, 128, 4680, 1560, 21, false},
    {"self 480p, 3 x 3 frames", 12, 128, 4680, 1560, 3, false},
    {"self 720p, 3 x 21 frames", 12, 128, 10800, 3600, 21, false},
    {"cross 480p, 512 keys", 12, 128, 4680, 512, 1, true},
    {"cross 480p, 41 keys", 12, 128, 4680, 41, 1, true},
    {"self 480p, 24 heads of 64", 24, 64, 4680, 1560, 21, false},
    {"self 480p, 16 heads of 96", 16, 96, 4680, 1560, 21, false},
};

// The numbers of f16 are other ones: bits of bfloat16 below 1 are f16 below 2.
void Bench(const Case& c, StorageType storage) {
  const int64_t width = int64_t{c.heads} * c.head_dim, frame = c.tokens_per_frame * width;
  const auto q = RandomOnDevice(c.tokens_q * width), kv = RandomOnDevice(2 * c.frames_kv * frame);
  const auto out = AllocateDevice(2 * c.tokens_q * width);
  std::vector<const void*> k_frames, v_frames;
  for (int f = 0; f < c.frames_kv; ++f) {
    k_frames.push_back(static_cast<const char*>(kv.get()) + 2 * f * frame);
    v_frames.push_back(static_cast<const char*>(kv.get()) + 2 * (c.frames_kv + f) * frame);
  }
  const std::vector<float> zeros(static_cast<size_t>(c.frames_kv * c.tokens_per_frame));
  const auto bias = ToDevice(zeros.data(), static_cast<int64_t>(4 * zeros.size()));
  const double ms = MedianMs([&] {
    return RunDenseCuda({.heads = c.heads,
                         .head_dim = c.head_dim,
                         .tokens_q = c.tokens_q,
                         .tokens_per_frame = c.tokens_per_frame,
                         .frames_kv = c.frames_kv,
                         .storage = storage,
                         .scale = 1 / std::sqrt(static_cast<float>(c.head_dim)),
                         .q = q.get(),
                         .k_frames = k_frames.data(),
                         .v_frames = v_frames.data(),
                         .bias = c.bias ? static_cast<const float*>(bias.get()) : nullptr,
                         .out = out.get()},
                        nullptr);
  });
  const double flop =
      4.0 * double(c.tokens_q) * double(c.frames_kv) * double(c.tokens_per_frame) * double(width);
  std::printf("%-28s %8.4f ms %7.1f TFLOP/s\n", c.name, ms, flop / ms / 1e9);
  std::fflush(stdout);
}

}  // namespace
}  // namespace mrt

int main(int argc, char** argv) {
  const bool f16 = argc > 1 && std::string(argv[1]) == "f16";
  const mrt::StorageType storage = f16 ? mrt::StorageType::kF16 : mrt::StorageType::kBF16;
  for (const mrt::Case& c : mrt::kCases) mrt::Bench(c, storage);
  return 0;
}
