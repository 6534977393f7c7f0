#include <cuda_runtime.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <ostream>
#include <string>
#include <vector>

#include "kernels/common/cuda/device_buffer.cuh"
#include "kernels/monarch/cuda/monarch_cuda.h"
#include "kernels/monarch/reference.h"
#include "testing/attention_inputs.h"
#include "testing/golden_attention.h"

namespace mrt {

std::ostream& operator<<(std::ostream& out, const MonarchShape& s) {
  return out << s.heads << " heads of " << s.head_dim << ", frames " << s.frames_q << " x "
             << s.frames_kv << ", grid " << s.rows << " x " << s.cols << ", tiling " << s.f_tied
             << "," << s.h_reduce << "," << s.w_reduce << ", causal block "
             << s.causal_block_frames;
}

namespace {

using ::testing::HasSubstr;
using testing::RandomBf16;
using testing::RelativeL2;

// Relative L2. Operands of products, and what is handed from pass to pass, are bfloat16.
constexpr double kTolerance = 0.0125;

int64_t FrameElements(const MonarchShape& s) {
  return int64_t{s.rows} * s.cols * s.heads * s.head_dim;
}

std::vector<BFloat16> ToBf16(std::span<const double> x) {
  std::vector<BFloat16> y;
  for (double value : x) y.push_back(ToBFloat16(static_cast<float>(value)));
  return y;
}

std::vector<double> FromDevice(const void* device, size_t count) {
  std::vector<float> x(count);
  EXPECT_EQ(cudaMemcpy(x.data(), device, 4 * count, cudaMemcpyDeviceToHost), cudaSuccess);
  return {x.begin(), x.end()};
}

// Device memory that holds no number.
DeviceBuffer Poisoned(int64_t bytes) {
  DeviceBuffer buffer = AllocateDevice(bytes);
  EXPECT_EQ(cudaMemset(buffer.get(), 0xFF, static_cast<size_t>(bytes)), cudaSuccess);
  return buffer;
}

struct BackwardCase {
  MonarchShape shape;
  std::vector<double> q, k, v, d_out;

  explicit BackwardCase(const MonarchShape& s, uint32_t seed = 1)
      : shape(s),
        q(RandomBf16(s.frames_q * FrameElements(s), seed)),
        k(RandomBf16(s.frames_kv * FrameElements(s), seed + 1)),
        v(RandomBf16(s.frames_kv * FrameElements(s), seed + 2)),
        d_out(RandomBf16(s.frames_q * FrameElements(s), seed + 3)) {
    shape.storage = StorageType::kBF16;
  }

  MonarchGradients Run() const {
    const int64_t frame = FrameElements(shape);
    const auto device = [](std::span<const double> x) {
      return ToDevice(ToBf16(x).data(), static_cast<int64_t>(2 * x.size()));
    };
    const DeviceBuffer dq = device(q), dk = device(k), dv = device(v), dout = device(d_out);
    const DeviceBuffer gq = Poisoned(4 * shape.frames_q * frame);
    const DeviceBuffer gk = Poisoned(4 * shape.frames_kv * frame);
    const DeviceBuffer gv = Poisoned(4 * shape.frames_kv * frame);
    std::vector<const void*> k_frames, v_frames;
    std::vector<float*> d_k_frames, d_v_frames;
    for (int f = 0; f < shape.frames_kv; ++f) {
      k_frames.push_back(static_cast<const char*>(dk.get()) + 2 * f * frame);
      v_frames.push_back(static_cast<const char*>(dv.get()) + 2 * f * frame);
      d_k_frames.push_back(static_cast<float*>(gk.get()) + f * frame);
      d_v_frames.push_back(static_cast<float*>(gv.get()) + f * frame);
    }
    const DeviceBuffer scratch = Poisoned(MonarchBackwardCudaScratchBytes(shape).value());
    const Status status = RunMonarchBackwardCuda({.shape = shape,
                                                  .q = dq.get(),
                                                  .k_frames = k_frames.data(),
                                                  .v_frames = v_frames.data(),
                                                  .d_out = dout.get(),
                                                  .d_q = static_cast<float*>(gq.get()),
                                                  .d_k_frames = d_k_frames.data(),
                                                  .d_v_frames = d_v_frames.data(),
                                                  .scratch = scratch.get()},
                                                 nullptr);
    EXPECT_TRUE(status.ok()) << status.message();
    const cudaError_t error = cudaDeviceSynchronize();
    EXPECT_EQ(error, cudaSuccess) << cudaGetErrorString(error) << ", " << shape;
    return {FromDevice(gq.get(), q.size()), FromDevice(gk.get(), k.size()),
            FromDevice(gv.get(), v.size())};
  }
};

class MonarchCudaBackward : public ::testing::Test {
 protected:
  void SetUp() override {
    int devices = 0;
    if (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0)
      GTEST_SKIP() << "no CUDA device";
    const Result<int64_t> bytes =
        MonarchBackwardCudaScratchBytes({.rows = 2, .cols = 2, .storage = StorageType::kBF16});
    if (!bytes.ok()) GTEST_SKIP() << bytes.status().message();
  }

  static void ExpectNear(const MonarchGradients& got, const MonarchGradients& want,
                         const MonarchShape& shape, double tolerance = kTolerance) {
    EXPECT_LE(RelativeL2(got.q, want.q), tolerance) << "d_q of " << shape;
    EXPECT_LE(RelativeL2(got.k, want.k), tolerance) << "d_k of " << shape;
    EXPECT_LE(RelativeL2(got.v, want.v), tolerance) << "d_v of " << shape;
  }
};

// Both widths of kernel and both sizes of heads; parts of items, of row tiles and of warpgroups;
// several groups of query tiles; more rows than BackMeans holds.
const MonarchShape kShapes[] = {
    {.heads = 1, .frames_kv = 2, .rows = 1, .cols = 2},
    {.heads = 3, .frames_q = 2, .frames_kv = 3, .rows = 5, .cols = 7},
    {.heads = 2, .frames_q = 3, .frames_kv = 4, .rows = 6, .cols = 52, .head_dim = 64},
    {.heads = 1, .frames_q = 3, .frames_kv = 2, .rows = 30, .cols = 52},
    {.heads = 2, .frames_q = 5, .frames_kv = 2, .rows = 9, .cols = 53},
    {.heads = 1, .frames_q = 2, .frames_kv = 3, .rows = 21, .cols = 80},
    {.heads = 1,
     .frames_q = 2,
     .frames_kv = 2,
     .rows = 20,
     .cols = 66,
     .head_dim = 64,
     .f_tied = 2,
     .h_reduce = 2},
    {.heads = 1, .frames_q = 3, .frames_kv = 3, .rows = 45, .cols = 20, .f_tied = 3, .w_reduce = 2},
    {.heads = 1, .frames_q = 1, .frames_kv = 1, .rows = 199, .cols = 3},
    {.heads = 2, .frames_q = 6, .frames_kv = 6, .rows = 7, .cols = 30, .causal_block_frames = 2},
    // More items than BackColumns has slots, and more columns than multiprocessors.
    {.heads = 1, .frames_q = 2, .frames_kv = 20, .rows = 30, .cols = 6},
    {.heads = 6, .frames_q = 3, .frames_kv = 14, .rows = 28, .cols = 8, .head_dim = 64},
    {.heads = 3, .frames_q = 3, .frames_kv = 8, .rows = 36, .cols = 15, .head_dim = 64},
    {.heads = 4,
     .frames_q = 12,
     .frames_kv = 12,
     .rows = 34,
     .cols = 3,
     .head_dim = 64,
     .causal_block_frames = 3},
};

class MonarchCudaBackwardShape : public MonarchCudaBackward,
                                 public ::testing::WithParamInterface<MonarchShape> {};

TEST_P(MonarchCudaBackwardShape, MatchesTheReference) {
  const BackwardCase c(GetParam());
  ExpectNear(c.Run(), MonarchReferenceBackward(c.shape, c.q, c.k, c.v, c.d_out), c.shape);
}

INSTANTIATE_TEST_SUITE_P(All, MonarchCudaBackwardShape, ::testing::ValuesIn(kShapes));

TEST_F(MonarchCudaBackward, MatchesTheGoldenFiles) {
  int checked = 0;
  for (const auto& golden : testing::ReadGoldenAttention(MRT_GOLDEN_DIR)) {
    BackwardCase c({.heads = golden.heads,
                    .frames_q = golden.frames_q,
                    .frames_kv = golden.frames_kv,
                    .rows = golden.rows,
                    .cols = golden.cols,
                    .head_dim = golden.head_dim,
                    .f_tied = golden.f_tied,
                    .h_reduce = golden.h_reduce,
                    .w_reduce = golden.w_reduce,
                    .iterations = golden.iterations,
                    .causal_block_frames = golden.causal_block_frames});
    // `sharp` nearly picks one key: its gradients are differences of numbers that are almost equal.
    if (!MonarchBackwardCudaScratchBytes(c.shape).ok() || golden.grad_out.empty() ||
        golden.name == "sharp")
      continue;
    c.q = golden.q, c.k = golden.k, c.v = golden.v, c.d_out = golden.grad_out;
    ExpectNear(c.Run(), {golden.grad_q, golden.grad_k, golden.grad_v}, c.shape);
    ++checked;
  }
  EXPECT_EQ(checked, 4);
}

TEST_F(MonarchCudaBackward, GivesTheSameBitsEveryTime) {
  const BackwardCase c({.heads = 2, .frames_q = 3, .frames_kv = 4, .rows = 30, .cols = 52});
  const MonarchGradients first = c.Run();
  for (int repeat = 0; repeat < 3; ++repeat) {
    const MonarchGradients again = c.Run();
    ASSERT_EQ(again.q, first.q);
    ASSERT_EQ(again.k, first.k);
    ASSERT_EQ(again.v, first.v);
  }
}

TEST_F(MonarchCudaBackward, RefusesWhatItCannotDo) {
  MonarchShape shape = {.rows = 2, .cols = 2};
  EXPECT_THAT(MonarchBackwardCudaScratchBytes(shape).status().message(), HasSubstr("bf16"));
  shape.storage = StorageType::kBF16;
  shape.iterations = 2;
  EXPECT_THAT(MonarchBackwardCudaScratchBytes(shape).status().message(), HasSubstr("one"));
  shape.iterations = 1;
  shape.cols = 81;
  EXPECT_THAT(MonarchBackwardCudaScratchBytes(shape).status().message(), HasSubstr("80 columns"));
  shape.cols = 2;
  EXPECT_THAT(RunMonarchBackwardCuda({.shape = shape}, nullptr).message(), HasSubstr("null"));
}

}  // namespace
}  // namespace mrt
