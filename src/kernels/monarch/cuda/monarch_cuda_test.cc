#include "kernels/monarch/cuda/monarch_cuda.h"

#include <cuda_runtime.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <ostream>
#include <string>
#include <vector>

#include "kernels/common/cuda/device_buffer.cuh"
#include "kernels/monarch/cuda/launch.cuh"
#include "kernels/monarch/reference.h"
#include "testing/attention_inputs.h"
#include "testing/golden_attention.h"

namespace mrt {

std::ostream& operator<<(std::ostream& out, const MonarchShape& s) {
  return out << s.heads << " heads of " << s.head_dim << ", frames " << s.frames_q << " x "
             << s.frames_kv << ", grid " << s.rows << " x " << s.cols << ", tiling " << s.f_tied
             << "," << s.h_reduce << "," << s.w_reduce << ", causal block " << s.causal_block_frames
             << ", iterations " << s.iterations
             << (s.storage == StorageType::kF16 ? ", f16" : ", bf16");
}

namespace {

using testing::FromBits;
using ::testing::HasSubstr;
using testing::RandomBf16;
using testing::RandomF16;
using testing::RelativeL2;
using testing::ToBits;

// Never more than this, whatever the emulated rounding loses.
constexpr double kToleranceMax = 0.0085;
// A constant value may lose this or nothing, by chance.
constexpr double kHalfStepF16 = 0x1p-12;
constexpr int64_t kGuardBytes = 4096;
constexpr int kGuardByte = 0xA5;
// Both bytes of a bfloat16, or an f16, that is not a number.
constexpr int kPoisonByte = 0xFF;

int64_t FrameElements(const MonarchShape& s) {
  return int64_t{s.rows} * s.cols * s.heads * s.head_dim;
}

enum class Fill {
  kNormal,
  kHugeLogits,
  kEqualKeys,
  kConstantV,
  // Of f16: values of which the means are the largest numbers, or the smallest; large keys; one
  // key that outweighs each other by 2^27, but not all of them by much.
  kLargestV,
  kTinyV,
  kLargeKeys,
  kSmallWeights,
};
constexpr Fill kF16Fills[] = {Fill::kLargestV, Fill::kTinyV, Fill::kLargeKeys, Fill::kSmallWeights};

// The inputs of one call and what the definition makes of them.
struct MonarchCase {
  MonarchShape shape;
  std::vector<double> q, k, v;
  std::string kernel;  // "ring", "resident", "passes", or empty for the usual one
  int pass_pairs = 0;  // of the plan, if not 0
  void (*change)(MonarchCudaPlan&) = nullptr;  // of the plan

  explicit MonarchCase(MonarchShape s, Fill fill = Fill::kNormal, uint32_t seed = 1)
      : shape(s),
        q(Random(s, s.frames_q, seed,
                 fill == Fill::kHugeLogits  ? 40
                 : fill == Fill::kLargeKeys ? 2e-4
                                            : 1)),
        k(Random(s, s.frames_kv, seed + 1, fill == Fill::kLargeKeys ? 2e4 : 1)),
        v(Random(s, s.frames_kv, seed + 2, fill == Fill::kTinyV ? 2e-5 : 1)) {
    if (shape.storage == StorageType::kF32) shape.storage = StorageType::kBF16;
    const int64_t width = int64_t{s.heads} * s.head_dim;
    for (size_t i = 0; i < k.size(); ++i) {
      if (fill == Fill::kEqualKeys) k[i] = k[i % width];
      if (fill == Fill::kConstantV || fill == Fill::kTinyV) v[i] = v[i % width];
      if (fill == Fill::kLargestV) v[i] = v[i % width] < 0 ? -65504 : 65504;
    }
    if (fill == Fill::kSmallWeights) OutweighByOneKey();
  }

  // Key 0 has 2^27 times the weight of each other, and a value of 0 where theirs is 1000.
  void OutweighByOneKey() {
    const double side = std::sqrt(27 * std::log(2.0) * std::sqrt(double(shape.head_dim)));
    const auto is_first = [&](size_t i) { return i % static_cast<size_t>(shape.head_dim) == 0; };
    for (size_t i = 0; i < q.size(); ++i)
      q[i] = is_first(i) ? RoundToFloat16(static_cast<float>(side)) : 0;
    const size_t width = static_cast<size_t>(shape.heads) * shape.head_dim;
    for (size_t i = 0; i < k.size(); ++i) {
      k[i] = is_first(i) && i < width ? q[0] : 0;
      v[i] = i < width ? 0 : 1000;
    }
  }

  static std::vector<double> Random(const MonarchShape& s, int frames, uint32_t seed,
                                    double scale) {
    const int64_t count = frames * FrameElements(s);
    return s.storage == StorageType::kF16 ? RandomF16(count, seed, scale)
                                          : RandomBf16(count, seed, scale);
  }

  std::vector<double> Reference(Rounding rounding = Rounding::kNone) const {
    return MonarchReference(shape, q, k, v, rounding);
  }

  // The bits of the output. The output lies between guards, and all memory that the call may not
  // read before it wrote it is poisoned.
  std::vector<Bits16> RunBits() const {
    const int64_t frame = FrameElements(shape), q_bytes = 2 * shape.frames_q * frame;
    const auto device_q = ToDevice(ToBits(q, shape.storage).data(), q_bytes);
    const auto device_k = ToDevice(ToBits(k, shape.storage).data(), 2 * shape.frames_kv * frame);
    const auto device_v = ToDevice(ToBits(v, shape.storage).data(), 2 * shape.frames_kv * frame);
    std::vector<const void*> k_frames, v_frames;
    for (int f = 0; f < shape.frames_kv; ++f) {
      k_frames.push_back(static_cast<const char*>(device_k.get()) + 2 * f * frame);
      v_frames.push_back(static_cast<const char*>(device_v.get()) + 2 * f * frame);
    }
    const MonarchCudaPlan plan = Plan().value();
    const auto out = Guarded(q_bytes), scratch = Guarded(plan.scratch_bytes);
    const MonarchArgs args = {.shape = shape,
                              .q = device_q.get(),
                              .k_frames = k_frames.data(),
                              .v_frames = v_frames.data(),
                              .out = static_cast<char*>(out.get()) + kGuardBytes,
                              .scratch = static_cast<char*>(scratch.get()) + kGuardBytes};
    const Status status =
        kernel.empty() ? RunMonarchCuda(args, nullptr) : LaunchMonarchPlan(args, plan, nullptr);
    EXPECT_TRUE(status.ok()) << status.message();
    const cudaError_t error = cudaDeviceSynchronize();
    EXPECT_EQ(error, cudaSuccess) << cudaGetErrorString(error) << ", " << shape;
    CheckGuards(out, q_bytes);
    CheckGuards(scratch, plan.scratch_bytes);
    std::vector<Bits16> bits(static_cast<size_t>(shape.frames_q * frame));
    EXPECT_EQ(cudaMemcpy(bits.data(), static_cast<char*>(out.get()) + kGuardBytes,
                         static_cast<size_t>(q_bytes), cudaMemcpyDeviceToHost),
              cudaSuccess);
    return bits;
  }

  Result<MonarchCudaPlan> Plan() const {
    MRT_ASSIGN_OR_RETURN(const GpuLimits gpu, CurrentGpu());
    MRT_ASSIGN_OR_RETURN(MonarchCudaPlan plan, PickMonarchCudaPlan(shape, gpu, kernel));
    if (pass_pairs != 0) plan.pass_pairs = pass_pairs;
    if (change != nullptr) change(plan);
    if (pass_pairs != 0 || change != nullptr) FinishMonarchCudaPlan(shape, plan);
    return plan;
  }

  std::vector<double> Run() const {
    std::vector<double> values;
    for (Bits16 x : RunBits()) values.push_back(FromBits(x, shape.storage));
    return values;
  }

  // Twice what the definition loses when it rounds every operand of a product as the kernel does.
  double Allowed(std::span<const double> exact) const {
    const bool f16 = shape.storage == StorageType::kF16;
    const Rounding rounding = f16 ? Rounding::kF16Operands : Rounding::kBf16Operands;
    const double loss = RelativeL2(Reference(rounding), exact);
    return std::min(kToleranceMax, 2 * std::max(loss, f16 ? kHalfStepF16 : 0));
  }

 private:
  static DeviceBuffer Guarded(int64_t bytes) {
    DeviceBuffer buffer = AllocateDevice(bytes + 2 * kGuardBytes);
    char* begin = static_cast<char*>(buffer.get());
    EXPECT_EQ(cudaMemset(begin, kGuardByte, static_cast<size_t>(bytes + 2 * kGuardBytes)),
              cudaSuccess);
    EXPECT_EQ(cudaMemset(begin + kGuardBytes, kPoisonByte, static_cast<size_t>(bytes)),
              cudaSuccess);
    return buffer;
  }

  static void CheckGuards(const DeviceBuffer& buffer, int64_t bytes) {
    std::vector<unsigned char> guards(2 * kGuardBytes);
    const char* begin = static_cast<const char*>(buffer.get());
    EXPECT_EQ(cudaMemcpy(guards.data(), begin, kGuardBytes, cudaMemcpyDeviceToHost), cudaSuccess);
    EXPECT_EQ(cudaMemcpy(guards.data() + kGuardBytes, begin + kGuardBytes + bytes, kGuardBytes,
                         cudaMemcpyDeviceToHost),
              cudaSuccess);
    EXPECT_EQ(std::count(guards.begin(), guards.end(), kGuardByte), 2 * kGuardBytes);
  }
};

class MonarchCuda : public ::testing::Test {
 protected:
  void SetUp() override {
    int devices = 0;
    const cudaError_t error = cudaGetDeviceCount(&devices);
    if (error != cudaSuccess || devices == 0)
      GTEST_SKIP() << "no CUDA device: " << cudaGetErrorString(error);
  }
};

// Every kernel of kMonarchCudaKernels, tails everywhere, more slices than the ring holds.
const MonarchShape kShapes[] = {
    {.heads = 1, .rows = 1, .cols = 1, .head_dim = 64},
    {.heads = 3, .frames_q = 2, .frames_kv = 3, .rows = 5, .cols = 7, .head_dim = 128},
    {.heads = 2, .frames_q = 3, .frames_kv = 21, .rows = 30, .cols = 52, .head_dim = 128},
    {.heads = 1, .frames_q = 1, .frames_kv = 4, .rows = 30, .cols = 52, .head_dim = 64},
    {.heads = 2, .frames_q = 3, .frames_kv = 6, .rows = 30, .cols = 52, .h_reduce = 2},
    {.heads = 1, .frames_q = 3, .frames_kv = 6, .rows = 30, .cols = 52, .f_tied = 3},
    {.heads = 1, .frames_q = 3, .frames_kv = 3, .rows = 30, .cols = 52, .w_reduce = 2},
    {.heads = 1, .frames_q = 2, .frames_kv = 3, .rows = 45, .cols = 80},
    {.heads = 1, .frames_q = 3, .frames_kv = 3, .rows = 45, .cols = 80, .f_tied = 3},
    {.heads = 1, .frames_q = 1, .frames_kv = 2, .rows = 9, .cols = 128, .head_dim = 64},
    {.heads = 2, .frames_q = 1, .frames_kv = 2, .rows = 33, .cols = 99, .head_dim = 128},
    {.heads = 5, .frames_q = 7, .frames_kv = 9, .rows = 4, .cols = 53, .head_dim = 64},
    {.heads = 2,
     .frames_q = 6,
     .frames_kv = 6,
     .rows = 6,
     .cols = 20,
     .head_dim = 64,
     .f_tied = 1,
     .h_reduce = 3,
     .w_reduce = 2,
     .causal_block_frames = 3},
    {.heads = 1,
     .frames_q = 9,
     .frames_kv = 9,
     .rows = 17,
     .cols = 52,
     .head_dim = 128,
     .causal_block_frames = 3},
};

class MonarchCudaShape : public MonarchCuda, public ::testing::WithParamInterface<MonarchShape> {};

TEST_P(MonarchCudaShape, MatchesTheReference) {
  MonarchCase c(GetParam());
  c.kernel = "ring";
  const std::vector<double> exact = c.Reference();
  const double error = RelativeL2(c.Run(), exact), allowed = c.Allowed(exact);
  EXPECT_LE(error, allowed) << c.shape;
  RecordProperty("error", std::to_string(error));
  RecordProperty("allowed", std::to_string(allowed));
}

INSTANTIATE_TEST_SUITE_P(All, MonarchCudaShape, ::testing::ValuesIn(kShapes));

// The first element that is far off, in words.
std::string FirstWrong(const MonarchShape& s, std::span<const double> got,
                       std::span<const double> want) {
  for (size_t i = 0; i < want.size(); ++i) {
    if (std::abs(got[i] - want[i]) <= 0.02 + 0.05 * std::abs(want[i])) continue;
    const int64_t n = static_cast<int64_t>(i), token = n / s.head_dim / s.heads;
    return "first wrong: frame " + std::to_string(token / s.cols / s.rows) + ", row " +
           std::to_string(token / s.cols % s.rows) + ", column " + std::to_string(token % s.cols) +
           ", head " + std::to_string(n / s.head_dim % s.heads) + ", channel " +
           std::to_string(n % s.head_dim) + ": got " + std::to_string(got[i]) + ", want " +
           std::to_string(want[i]);
  }
  return "no single element is far off";
}

// More pairs than take turns, a short last turn and group, tiles of several heights.
const MonarchShape kResidentShapes[] = {
    {.heads = 1, .rows = 1, .cols = 1},
    {.heads = 1, .frames_q = 3, .frames_kv = 4, .rows = 30, .cols = 52},
    {.heads = 5, .frames_q = 3, .frames_kv = 12, .rows = 20, .cols = 24},
    {.heads = 3, .frames_q = 7, .frames_kv = 9, .rows = 6, .cols = 52},
    {.heads = 7, .frames_q = 3, .frames_kv = 40, .rows = 5, .cols = 52},
    {.heads = 1, .frames_q = 2, .frames_kv = 3, .rows = 45, .cols = 80},
    {.heads = 4, .frames_q = 3, .frames_kv = 3, .rows = 30, .cols = 52, .head_dim = 64},
};

// The tests of the resident kernel alone.
class MonarchCudaResident : public MonarchCuda {
 protected:
  void SetUp() override {
    MonarchCuda::SetUp();
    if (IsSkipped()) return;
    const Result<GpuLimits> gpu = CurrentGpu();
    ASSERT_TRUE(gpu.ok()) << gpu.status().message();
    if (!gpu->wgmma) GTEST_SKIP() << "a build without sm_90a has no resident kernel";
  }
};

TEST_F(MonarchCudaResident, MatchesTheReference) {
  for (const MonarchShape& shape : kResidentShapes) {
    MonarchCase c(shape);
    c.kernel = "resident";
    const std::vector<double> exact = c.Reference(), got = c.Run();
    ASSERT_LE(RelativeL2(got, exact), c.Allowed(exact))
        << c.shape << "; " << FirstWrong(shape, got, exact) << "; " << Describe(c.Plan().value());
  }
}

TEST_F(MonarchCudaResident, AgreesWithTheRing) {
  int checked = 0;
  for (const MonarchShape& shape : kShapes) {
    MonarchCase c(shape);
    c.kernel = "resident";
    if (!c.Plan().ok()) continue;
    ++checked;
    const std::vector<double> got = c.Run();
    const std::string plan = Describe(c.Plan().value());
    c.kernel = "ring";
    const std::vector<double> ring = c.Run();
    ASSERT_LE(RelativeL2(got, ring), kToleranceMax)
        << c.shape << "; " << FirstWrong(shape, got, ring) << "; " << plan;
  }
  EXPECT_GE(checked, 6);
}

TEST_F(MonarchCudaResident, GivesTheSameBitsEveryTime) {
  MonarchCase c({.heads = 5, .frames_q = 3, .frames_kv = 21, .rows = 30, .cols = 52});
  c.kernel = "ring";
  const auto ring = c.Run();
  c.kernel = "resident";
  const auto first = c.RunBits();
  EXPECT_LE(RelativeL2(c.Run(), ring), kToleranceMax);
  for (int repeat = 0; repeat < 10; ++repeat) {
    const auto again = c.RunBits();
    ASSERT_EQ(std::memcmp(again.data(), first.data(), 2 * first.size()), 0);
  }
}

constexpr StorageType kStorages[] = {StorageType::kBF16, StorageType::kF16};

MonarchShape With(MonarchShape shape, StorageType storage, int iterations) {
  shape.storage = storage, shape.iterations = iterations;
  return shape;
}

// The tests of the kernels that run in passes: all that the ring takes, and more than one step.
class MonarchCudaPasses : public MonarchCudaResident {
 protected:
  static void ExpectMatch(const MonarchShape& shape, Fill fill = Fill::kNormal) {
    MonarchCase c(shape, fill);
    c.kernel = "passes";
    const std::vector<double> exact = c.Reference(), got = c.Run();
    const double error = RelativeL2(got, exact), allowed = c.Allowed(exact);
    EXPECT_LE(error, allowed) << c.shape << "; " << FirstWrong(shape, got, exact) << "; "
                              << Describe(c.Plan().value());
  }
};

// Every kernel, several items of keys and a part of one, one to three warpgroups and more rows than
// they hold, and more than the refinement keeps in shared memory.
const MonarchShape kPassShapes[] = {
    {.heads = 1, .rows = 1, .cols = 1, .head_dim = 64},
    {.heads = 3, .frames_q = 2, .frames_kv = 3, .rows = 5, .cols = 7},
    {.heads = 2, .frames_q = 3, .frames_kv = 5, .rows = 4, .cols = 53, .head_dim = 64},
    {.heads = 1, .frames_q = 1, .frames_kv = 3, .rows = 30, .cols = 52},
    {.heads = 1,
     .frames_q = 4,
     .frames_kv = 4,
     .rows = 30,
     .cols = 20,
     .head_dim = 64,
     .f_tied = 2,
     .h_reduce = 2,
     .w_reduce = 2},
    {.heads = 1, .frames_q = 2, .frames_kv = 1, .rows = 9, .cols = 128},
    {.heads = 1, .frames_q = 1, .frames_kv = 2, .rows = 9, .cols = 99, .head_dim = 64},
    {.heads = 2, .frames_q = 2, .frames_kv = 4, .rows = 50, .cols = 20, .f_tied = 2},
    {.heads = 1, .frames_q = 3, .frames_kv = 3, .rows = 45, .cols = 80, .f_tied = 3},
    {.heads = 1, .frames_q = 1, .frames_kv = 2, .rows = 199, .cols = 3},
    {.heads = 1, .frames_q = 1, .frames_kv = 1, .rows = 399, .cols = 2, .head_dim = 64},
    {.heads = 2, .frames_q = 6, .frames_kv = 6, .rows = 17, .cols = 20, .causal_block_frames = 2},
};

class MonarchCudaPassShape : public MonarchCudaPasses,
                             public ::testing::WithParamInterface<MonarchShape> {};

TEST_P(MonarchCudaPassShape, MatchesTheReference) {
  for (StorageType storage : kStorages) ExpectMatch(With(GetParam(), storage, 1));
}

TEST_P(MonarchCudaPassShape, MatchesTheReferenceInTwoSteps) {
  for (StorageType storage : kStorages) ExpectMatch(With(GetParam(), storage, 2));
}

INSTANTIATE_TEST_SUITE_P(All, MonarchCudaPassShape, ::testing::ValuesIn(kPassShapes));

TEST_F(MonarchCudaPasses, MatchTheReferenceInMoreSteps) {
  for (int n : {1, 2, 11})
    for (int iterations : {3, 4})
      for (StorageType storage : kStorages) ExpectMatch(With(kPassShapes[n], storage, iterations));
}

TEST_F(MonarchCudaPasses, AgreeWithTheRing) {
  for (const MonarchShape& shape : kShapes) {
    MonarchCase c(shape);
    c.kernel = "passes";
    const std::vector<double> got = c.Run();
    c.kernel = "ring";
    const std::vector<double> ring = c.Run();
    EXPECT_LE(RelativeL2(got, ring), kToleranceMax) << c.shape << FirstWrong(shape, got, ring);
  }
}

TEST_F(MonarchCudaPasses, MatchTheReferenceOnNastyInputs) {
  for (int n : {1, 11, 12})
    for (Fill fill : {Fill::kHugeLogits, Fill::kEqualKeys, Fill::kConstantV})
      for (int iterations : {1, 2})
        for (StorageType storage : kStorages)
          ExpectMatch(With(kShapes[n], storage, iterations), fill);
}

TEST_F(MonarchCudaPasses, MatchTheReferenceAtTheEndsOfF16) {
  for (int n : {1, 2, 4, 11})
    for (Fill fill : kF16Fills)
      for (int iterations : {1, 2})
        ExpectMatch(With(kPassShapes[n], StorageType::kF16, iterations), fill);
}

TEST_F(MonarchCudaPasses, PassNotANumberOnInF16) {
  for (int iterations : {1, 2}) {
    MonarchCase c(With(kPassShapes[1], StorageType::kF16, iterations));
    c.kernel = "passes";
    c.q[0] = NAN;
    const std::vector<double> out = c.Run();
    EXPECT_TRUE(std::isnan(out[0])) << c.shape;
    EXPECT_FALSE(std::isnan(out[static_cast<size_t>(FrameElements(c.shape))])) << c.shape;
  }
}

TEST_F(MonarchCudaPasses, GiveTheSameBitsInOneLaunchAndInMany) {
  constexpr MonarchShape kShape = {
      .heads = 5, .frames_q = 3, .frames_kv = 6, .rows = 30, .cols = 52, .f_tied = 3};
  for (StorageType storage : kStorages)
    for (int iterations : {1, 2}) {
      MonarchCase c(With(kShape, storage, iterations));
      c.kernel = "passes";
      const auto first = c.RunBits();
      c.pass_pairs = 2;
      for (int repeat = 0; repeat < 5; ++repeat) {
        const auto again = c.RunBits();
        ASSERT_EQ(std::memcmp(again.data(), first.data(), 2 * first.size()), 0) << c.shape;
      }
    }
}

// What stays in L2, how passes are launched and which of them share a kernel changes no bit.
TEST_F(MonarchCudaPasses, GiveTheSameBitsWhateverThePlan) {
  constexpr void (*kChanges[])(MonarchCudaPlan&) = {
      [](MonarchCudaPlan& p) { p.kept = p.dropped = 0; },
      [](MonarchCudaPlan& p) { p.kept = p.dropped = 17; },
      [](MonarchCudaPlan& p) { p.dependent = 0; },
      [](MonarchCudaPlan& p) { p.own_sums = 0; },
  };
  for (const MonarchShape& shape : {kPassShapes[2], kPassShapes[11], kShapes[3], kShapes[7]})
    for (StorageType storage : kStorages)
      for (int iterations : {1, 2}) {
        MonarchCase c(With(shape, storage, iterations));
        c.kernel = "passes";
        const auto first = c.RunBits();
        for (const auto change : kChanges) {
          c.change = change;
          const auto again = c.RunBits();
          EXPECT_EQ(std::memcmp(again.data(), first.data(), 2 * first.size()), 0)
              << c.shape << Describe(c.Plan().value());
        }
      }
}

TEST_F(MonarchCudaPasses, SeeNothingOfLaterBlocksWhenCausal) {
  for (int iterations : {1, 2}) {
    MonarchCase c(kShapes[13]);
    c.shape.iterations = iterations;
    c.kernel = "passes";
    const std::vector<double> before = c.Run();
    const size_t first_hidden = static_cast<size_t>(3 * FrameElements(c.shape));
    for (size_t i = first_hidden; i < c.k.size(); ++i) c.k[i] = NAN, c.v[i] = NAN;
    const std::vector<double> after = c.Run();
    for (size_t i = 0; i < first_hidden; ++i) ASSERT_EQ(after[i], before[i]) << c.shape;
    EXPECT_TRUE(std::isnan(after[first_hidden])) << c.shape;
  }
}

TEST_F(MonarchCudaPasses, AreWhatMoreStepsTake) {
  MonarchCase c(kShapes[1]);
  c.shape.iterations = 2;
  const std::vector<double> exact = c.Reference();
  EXPECT_LE(RelativeL2(c.Run(), exact), c.Allowed(exact));
  EXPECT_GE(c.Plan()->passes, 0);
}

TEST_F(MonarchCuda, MatchesTheReferenceOnNastyInputs) {
  for (int n : {1, 7, 11, 12})
    for (Fill fill : {Fill::kHugeLogits, Fill::kEqualKeys, Fill::kConstantV}) {
      MonarchCase c(kShapes[n], fill);
      const std::vector<double> exact = c.Reference();
      for (const char* kernel : {"ring", "resident"}) {
        c.kernel = kernel;
        if (!c.Plan().ok()) continue;
        EXPECT_LE(RelativeL2(c.Run(), exact), c.Allowed(exact))
            << c.shape << ", fill " << static_cast<int>(fill) << ", " << kernel;
      }
    }
}

TEST_F(MonarchCuda, MatchesTheGoldenFiles) {
  int checked = 0;
  for (const auto& golden : testing::ReadGoldenAttention(MRT_GOLDEN_DIR)) {
    MonarchCase c(MonarchShape{.heads = golden.heads,
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
    c.q = golden.q, c.k = golden.k, c.v = golden.v;
    if (!MonarchCudaScratchBytes(c.shape).ok()) continue;
    EXPECT_LE(RelativeL2(c.Run(), golden.out), c.Allowed(golden.out)) << golden.name;
    ++checked;
  }
  EXPECT_EQ(checked, 6);
}

TEST_F(MonarchCuda, RingGivesTheSameBitsEveryTime) {
  for (int n : {2, 6, 11}) {
    MonarchCase c(kShapes[n]);
    c.kernel = "ring";
    const auto first = c.RunBits();
    for (int repeat = 0; repeat < 5; ++repeat) {
      const auto again = c.RunBits();
      ASSERT_EQ(std::memcmp(again.data(), first.data(), 2 * first.size()), 0) << c.shape;
    }
  }
}

TEST_F(MonarchCuda, SeesNothingOfLaterBlocksWhenCausal) {
  for (const char* kernel : {"ring", "resident"}) {
    MonarchCase c(kShapes[13]);
    c.kernel = kernel;
    if (!c.Plan().ok()) continue;
    const std::vector<double> before = c.Run();
    const size_t first_hidden = static_cast<size_t>(3 * FrameElements(c.shape));
    for (size_t i = first_hidden; i < c.k.size(); ++i) c.k[i] = NAN, c.v[i] = NAN;
    const std::vector<double> after = c.Run();
    for (size_t i = 0; i < first_hidden; ++i) ASSERT_EQ(after[i], before[i]) << kernel;
    EXPECT_TRUE(std::isnan(after[first_hidden])) << kernel;
  }
}

TEST_F(MonarchCuda, PassesNotANumberOn) {
  for (const char* kernel : {"ring", "resident"}) {
    MonarchCase c(kShapes[1]);
    c.kernel = kernel;
    if (!c.Plan().ok()) continue;
    c.q[0] = NAN;
    const std::vector<double> out = c.Run();
    EXPECT_TRUE(std::isnan(out[0])) << kernel;
    EXPECT_FALSE(std::isnan(out[static_cast<size_t>(FrameElements(c.shape))])) << kernel;
  }
}

TEST_F(MonarchCuda, RefusesWhatItCannotDo) {
  MonarchShape shape = kShapes[1];
  EXPECT_EQ(RunMonarchCuda({.shape = shape}, nullptr).code(), StatusCode::kUnavailable);  // f32
  shape.storage = StorageType::kBF16;
  shape.head_dim = 96;
  const Status status = RunMonarchCuda({.shape = shape}, nullptr);
  EXPECT_EQ(status.code(), StatusCode::kUnavailable);
  EXPECT_THAT(status.message(), HasSubstr("head_dim 64 or 128"));
  shape.head_dim = 128;
  shape.iterations = 0;
  EXPECT_EQ(RunMonarchCuda({.shape = shape}, nullptr).code(), StatusCode::kInvalidArgument);
  shape.iterations = 1;
  EXPECT_THAT(RunMonarchCuda({.shape = shape}, nullptr).message(), HasSubstr("got a null"));
  shape.storage = StorageType::kF16;
  const GpuLimits gpu = CurrentGpu().value();
  EXPECT_THAT(PlanMonarchCuda(shape, gpu).status().message(), HasSubstr("bf16 only"));
  EXPECT_THAT(PlanMonarchResident(shape, gpu).status().message(), HasSubstr("bf16 only"));
  EXPECT_THAT(MonarchBackwardCudaScratchBytes(shape).status().message(), HasSubstr("bf16 only"));
}

}  // namespace
}  // namespace mrt
