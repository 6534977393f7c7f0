#include "kernels/dense/cuda/dense_cuda.h"

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
#include "kernels/dense/reference.h"
#include "testing/attention_inputs.h"

namespace mrt {
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

// kLargestV: means of f16 are the largest numbers.
enum class Fill { kNormal, kHugeLogits, kEqualKeys, kConstantV, kLargestV };

enum class Bias { kNone, kKeys, kAll, kDistance };

struct Size {
  int heads, head_dim, tokens_q, tokens_per_frame, frames_kv;
  Bias bias = Bias::kNone;
  StorageType storage = StorageType::kBF16;

  Size With(StorageType type) const {
    Size size = *this;
    size.storage = type;
    return size;
  }
};
constexpr StorageType kStorages[] = {StorageType::kBF16, StorageType::kF16};

std::ostream& operator<<(std::ostream& out, const Size& s) {
  return out << s.heads << " heads of " << s.head_dim << ", " << s.tokens_q << " queries, "
             << s.frames_kv << " frames of " << s.tokens_per_frame << " keys"
             << ", bias " << static_cast<int>(s.bias)
             << (s.storage == StorageType::kF16 ? ", f16" : ", bf16");
}

// Device memory of `bytes` bytes that is poisoned, between two guards.
class GuardedDevice {
 public:
  explicit GuardedDevice(int64_t bytes)
      : bytes_(bytes), buffer_(AllocateDevice(bytes + 2 * kGuardBytes)) {
    char* begin = static_cast<char*>(buffer_.get());
    EXPECT_EQ(cudaMemset(begin, kGuardByte, static_cast<size_t>(bytes + 2 * kGuardBytes)),
              cudaSuccess);
    EXPECT_EQ(cudaMemset(data(), kPoisonByte, static_cast<size_t>(bytes)), cudaSuccess);
  }
  char* data() const { return static_cast<char*>(buffer_.get()) + kGuardBytes; }
  void CheckGuards() const {
    std::vector<unsigned char> guards(2 * kGuardBytes);
    EXPECT_EQ(cudaMemcpy(guards.data(), buffer_.get(), kGuardBytes, cudaMemcpyDeviceToHost),
              cudaSuccess);
    EXPECT_EQ(cudaMemcpy(guards.data() + kGuardBytes, data() + bytes_, kGuardBytes,
                         cudaMemcpyDeviceToHost),
              cudaSuccess);
    EXPECT_EQ(std::count(guards.begin(), guards.end(), kGuardByte), 2 * kGuardBytes)
        << "written outside the output";
  }

 private:
  int64_t bytes_;
  DeviceBuffer buffer_;
};

// The frames of a tensor in device memory: last frame first, with what is not a number between
// them.
struct DeviceFrames {
  DeviceBuffer buffer;
  std::vector<const void*> pointers;

  DeviceFrames(std::span<const double> x, int frames, StorageType storage) {
    const int64_t frame_bytes = static_cast<int64_t>(x.size()) / frames * 2;
    const int64_t pitch = (frame_bytes + 255) / 256 * 256 + 256;
    buffer = AllocateDevice(pitch * frames);
    EXPECT_EQ(cudaMemset(buffer.get(), kPoisonByte, static_cast<size_t>(pitch * frames)),
              cudaSuccess);
    const std::vector<Bits16> bits = ToBits(x, storage);
    for (int f = 0; f < frames; ++f) {
      char* to = static_cast<char*>(buffer.get()) + (frames - 1 - f) * pitch;
      EXPECT_EQ(cudaMemcpy(to, reinterpret_cast<const char*>(bits.data()) + f * frame_bytes,
                           static_cast<size_t>(frame_bytes), cudaMemcpyHostToDevice),
                cudaSuccess);
      pointers.push_back(to);
    }
  }
};

// The inputs of one call and what the definition makes of them.
struct DenseCase {
  Size size;
  std::vector<double> q, k, v;
  std::vector<float> bias;

  explicit DenseCase(const Size& s, Fill fill = Fill::kNormal, uint32_t seed = 1)
      : size(s),
        q(Random(s.tokens_q * Width(), seed, fill == Fill::kHugeLogits ? 40 : 1)),
        k(Random(Keys() * Width(), seed + 1)),
        v(Random(Keys() * Width(), seed + 2)) {
    for (size_t i = 0; i < k.size(); ++i) {
      if (fill == Fill::kEqualKeys) k[i] = k[i % static_cast<size_t>(Width())];
      if (fill == Fill::kConstantV) v[i] = v[i % static_cast<size_t>(Width())];
      if (fill == Fill::kLargestV) v[i] = v[i % static_cast<size_t>(Width())] < 0 ? -65504 : 65504;
    }
    for (double x : RandomBf16(Biases(), seed + 3, 2)) bias.push_back(static_cast<float>(x));
  }

  std::vector<double> Random(int64_t count, uint32_t seed, double scale = 1) const {
    return size.storage == StorageType::kF16 ? RandomF16(count, seed, scale)
                                             : RandomBf16(count, seed, scale);
  }
  int64_t Width() const { return int64_t{size.heads} * size.head_dim; }
  int64_t Keys() const { return int64_t{size.frames_kv} * size.tokens_per_frame; }
  int64_t Biases() const {
    switch (size.bias) {
      case Bias::kNone: return 0;
      case Bias::kKeys: return Keys();
      case Bias::kAll: return size.heads * size.tokens_q * Keys();
      case Bias::kDistance: return size.heads * HeadStride();
    }
    return 0;
  }
  int64_t HeadStride() const {
    switch (size.bias) {
      case Bias::kAll: return size.tokens_q * Keys();
      case Bias::kDistance: return size.tokens_q + Keys() - 1;
      case Bias::kNone:
      case Bias::kKeys: break;
    }
    return 0;
  }
  int64_t QueryStride() const {
    if (size.bias == Bias::kDistance) return -1;
    return size.bias == Bias::kAll ? Keys() : 0;
  }
  // Of the first head's first query.
  int64_t FirstBias() const { return size.bias == Bias::kDistance ? size.tokens_q - 1 : 0; }
  float Scale() const { return 1 / std::sqrt(static_cast<float>(size.head_dim)); }

  std::vector<double> Reference(Rounding rounding = Rounding::kNone) const {
    const DenseShape shape = {.heads = size.heads,
                              .tokens_q = size.tokens_q,
                              .tokens_per_frame = size.tokens_per_frame,
                              .frames_kv = size.frames_kv,
                              .head_dim = size.head_dim,
                              .scale = Scale()};
    std::vector<float> of_all;
    if (size.bias != Bias::kNone)
      for (int64_t h = 0; h < size.heads; ++h)
        for (int64_t i = 0; i < size.tokens_q; ++i) {
          const auto row = bias.begin() + FirstBias() + h * HeadStride() + i * QueryStride();
          of_all.insert(of_all.end(), row, row + Keys());
        }
    return DenseReference(shape, q, k, v, of_all, rounding);
  }

  std::vector<Bits16> RunBits() const {
    const int64_t q_bytes = 2 * size.tokens_q * Width();
    const auto device_q = ToDevice(ToBits(q, size.storage).data(), q_bytes);
    const DeviceFrames k_frames(k, size.frames_kv, size.storage);
    const DeviceFrames v_frames(v, size.frames_kv, size.storage);
    DeviceBuffer device_bias;
    if (size.bias != Bias::kNone) device_bias = ToDevice(bias.data(), 4 * Biases());
    const float* const first_bias =
        device_bias == nullptr ? nullptr
                               : static_cast<const float*>(device_bias.get()) + FirstBias();
    const GuardedDevice out(q_bytes);
    const Status status = RunDenseCuda({.heads = size.heads,
                                        .head_dim = size.head_dim,
                                        .tokens_q = size.tokens_q,
                                        .tokens_per_frame = size.tokens_per_frame,
                                        .frames_kv = size.frames_kv,
                                        .storage = size.storage,
                                        .scale = Scale(),
                                        .q = device_q.get(),
                                        .k_frames = k_frames.pointers.data(),
                                        .v_frames = v_frames.pointers.data(),
                                        .bias = first_bias,
                                        .bias_head_stride = HeadStride(),
                                        .bias_query_stride = QueryStride(),
                                        .out = out.data()},
                                       nullptr);
    EXPECT_TRUE(status.ok()) << status.message();
    const cudaError_t error = cudaDeviceSynchronize();
    EXPECT_EQ(error, cudaSuccess) << cudaGetErrorString(error) << ", " << size;
    out.CheckGuards();
    std::vector<Bits16> bits(static_cast<size_t>(size.tokens_q * Width()));
    EXPECT_EQ(
        cudaMemcpy(bits.data(), out.data(), static_cast<size_t>(q_bytes), cudaMemcpyDeviceToHost),
        cudaSuccess);
    return bits;
  }

  std::vector<double> Run() const {
    std::vector<double> values;
    for (Bits16 x : RunBits()) values.push_back(FromBits(x, size.storage));
    return values;
  }

  // The first element that is far off, in words.
  std::string FirstWrong(std::span<const double> got, std::span<const double> want) const {
    for (size_t i = 0; i < want.size(); ++i) {
      if (std::abs(got[i] - want[i]) <= 0.02 + 0.05 * std::abs(want[i])) continue;
      const int64_t token = static_cast<int64_t>(i) / Width();
      const int64_t in_token = static_cast<int64_t>(i) % Width();
      return "first wrong: query " + std::to_string(token) + ", head " +
             std::to_string(in_token / size.head_dim) + ", channel " +
             std::to_string(in_token % size.head_dim) + ": got " + std::to_string(got[i]) +
             ", want " + std::to_string(want[i]);
    }
    return "no single element is far off";
  }

  // Against the definition, with twice what rounding the operands of products loses.
  void ExpectMatch(const std::string& what) const {
    const std::vector<double> exact = Reference(), got = Run();
    const double error = RelativeL2(got, exact);
    const bool f16 = size.storage == StorageType::kF16;
    const Rounding rounding = f16 ? Rounding::kF16Operands : Rounding::kBf16Operands;
    const double loss = RelativeL2(Reference(rounding), exact);
    const double allowed = std::min(kToleranceMax, 2 * std::max(loss, f16 ? kHalfStepF16 : 0));
    EXPECT_LE(error, allowed) << size << what << "; " << FirstWrong(got, exact);
  }
};

class DenseCuda : public ::testing::Test {
 protected:
  void SetUp() override {
    int devices = 0;
    const cudaError_t error = cudaGetDeviceCount(&devices);
    if (error != cudaSuccess || devices == 0)
      GTEST_SKIP() << "no CUDA device: " << cudaGetErrorString(error);
  }
};

// Tails everywhere: queries are taken by 128, keys by 64 (head_dim 64) or 32.
const Size kSizes[] = {
    {1, 64, 1, 1, 1},
    {1, 128, 1, 1, 1},
    {2, 64, 128, 64, 1},
    {2, 128, 128, 32, 1},
    {3, 128, 129, 33, 1},
    {3, 64, 127, 65, 1},
    {2, 96, 130, 77, 1},
    {2, 128, 200, 41, 1, Bias::kKeys},
    {2, 64, 333, 41, 1, Bias::kKeys},
    {1, 96, 65, 257, 1, Bias::kKeys},
    {2, 128, 70, 512, 1, Bias::kKeys},
    {2, 128, 150, 52, 7},
    {3, 64, 100, 30, 11},
    {2, 96, 40, 19, 5, Bias::kKeys},
    {1, 128, 300, 130, 9},
    {1, 64, 33, 1, 300},
    {1, 128, 33, 3, 128, Bias::kKeys},
    {1, 128, 17, 5, 1024},
    {12, 128, 260, 390, 2},
    {3, 64, 51, 51, 1, Bias::kDistance},
    {2, 64, 200, 200, 1, Bias::kDistance},
    {2, 96, 40, 19, 5, Bias::kDistance},
    {2, 128, 130, 33, 1, Bias::kAll},
    {3, 64, 37, 65, 2, Bias::kAll},
};

TEST_F(DenseCuda, MatchesTheReference) {
  for (const Size& size : kSizes)
    for (StorageType storage : kStorages) DenseCase(size.With(storage)).ExpectMatch("");
}

TEST_F(DenseCuda, MatchesTheReferenceOnNastyInputs) {
  const auto check = [](const Size& size, Fill fill) {
    for (StorageType storage : kStorages)
      DenseCase(size.With(storage), fill)
          .ExpectMatch(", fill " + std::to_string(static_cast<int>(fill)));
  };
  for (const Size& size : {Size{2, 128, 140, 100, 3}, Size{2, 64, 140, 41, 1, Bias::kKeys}})
    for (Fill fill : {Fill::kHugeLogits, Fill::kEqualKeys, Fill::kConstantV}) check(size, fill);
  // Not kConstantV: where few keys count, rounding their weights moves the result by a step.
  for (Fill fill : {Fill::kHugeLogits, Fill::kEqualKeys})
    check({2, 64, 140, 141, 1, Bias::kDistance}, fill);
}

TEST_F(DenseCuda, TakesTheLargestValuesOfF16) {
  for (int head_dim : {64, 96, 128})
    DenseCase({2, head_dim, 140, 100, 3, Bias::kNone, StorageType::kF16}, Fill::kLargestV)
        .ExpectMatch(", largest values");
}

// Key 0 has 2^23 times the weight of each other, and a value of 0 where theirs is 1000.
TEST_F(DenseCuda, LosesNoSmallWeightsInF16) {
  DenseCase c({2, 128, 140, 1000, 2, Bias::kNone, StorageType::kF16});
  const double side = RoundToFloat16(std::sqrt(23 * std::log(2.0F) / c.Scale()));
  for (size_t i = 0; i < c.q.size(); ++i) c.q[i] = i % 128 == 0 ? side : 0;
  for (size_t i = 0; i < c.k.size(); ++i) {
    c.k[i] = i % 128 == 0 && i < 256 ? side : 0;
    c.v[i] = i < 256 ? 0 : 1000;
  }
  EXPECT_LE(RelativeL2(c.Run(), c.Reference()), kToleranceMax);
}

TEST_F(DenseCuda, GivesTheSameBitsEveryTime) {
  const DenseCase c({4, 128, 500, 100, 6});
  const auto first = c.RunBits();
  for (int repeat = 0; repeat < 5; ++repeat) {
    const auto again = c.RunBits();
    ASSERT_EQ(std::memcmp(again.data(), first.data(), 2 * first.size()), 0);
  }
}

TEST_F(DenseCuda, PassesNotANumberOn) {
  for (StorageType storage : kStorages) {
    DenseCase c(Size{2, 128, 140, 41, 1}.With(storage));
    c.q[0] = NAN;
    const std::vector<double> out = c.Run();
    EXPECT_TRUE(std::isnan(out[0]));
    EXPECT_FALSE(std::isnan(out[128]));  // the other head
    EXPECT_FALSE(std::isnan(out[256]));  // the next query
  }
}

TEST(DenseCudaArgs, AreRefusedWithGotAndNeed) {
  alignas(16) static char memory[32] = {};
  const void* frames[] = {memory};
  const DenseCudaArgs good = {.q = memory, .k_frames = frames, .v_frames = frames, .out = memory};
  EXPECT_TRUE(ValidateDenseCuda(good).ok());
  const auto message = [&](auto change, StatusCode code) {
    DenseCudaArgs args = good;
    change(args);
    const Status status = RunDenseCuda(args, nullptr);
    EXPECT_EQ(status.code(), code);
    return status.message();
  };
  EXPECT_THAT(message([](auto& a) { a.head_dim = 80; }, StatusCode::kUnavailable),
              HasSubstr("head_dim 64, 96 or 128, got 80"));
  EXPECT_THAT(message([](auto& a) { a.storage = StorageType::kF32; }, StatusCode::kUnavailable),
              HasSubstr("bf16 and f16 only"));
  EXPECT_THAT(message([](auto& a) { a.frames_kv = 1025; }, StatusCode::kInvalidArgument),
              HasSubstr("got key frames 1025"));
  EXPECT_THAT(message([](auto& a) { a.tokens_q = 0; }, StatusCode::kInvalidArgument),
              HasSubstr("got query tokens 0"));
  EXPECT_THAT(message([](auto& a) { a.q = memory + 2; }, StatusCode::kInvalidArgument),
              HasSubstr("got q misaligned"));
  EXPECT_THAT(message([](auto& a) { a.out = nullptr; }, StatusCode::kInvalidArgument),
              HasSubstr("got out null"));
}

}  // namespace
}  // namespace mrt
