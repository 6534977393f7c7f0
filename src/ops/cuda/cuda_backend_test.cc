// Memory, copies, attention and refusals of the backend.
#include <gmock/gmock.h>

#include <new>
#include <vector>

#include "ops/attention.h"
#include "ops/cuda/test_util.h"
#include "ops/rowwise.h"

namespace mrt::ops {
namespace {

using ::testing::HasSubstr;

TEST(CudaBackendTest, RefusesADeviceThatIsNotThere) {
  for (int index : {-1, 1000}) {
    const auto made = MakeCudaBackend(index);
    ASSERT_FALSE(made.ok());
    EXPECT_EQ(made.status().code(), StatusCode::kUnavailable);
    EXPECT_THAT(made.status().message(), HasSubstr("[device] "));
  }
}

TEST_F(CudaOpsTest, ListsTheDevice) {
  const std::vector<GpuDescription> gpus = ListGpus();
  ASSERT_FALSE(gpus.empty());
  EXPECT_FALSE(gpus[0].name.empty());
  EXPECT_GT(gpus[0].memory_available_bytes, 0);
  EXPECT_GE(gpus[0].memory_total_bytes, gpus[0].memory_available_bytes);
}

TEST_F(CudaOpsTest, CopiesBytesBothWays) {
  constexpr int64_t kSlot = int64_t{4} << 20;  // of the ring of page-locked memory
  for (int64_t count : {int64_t{1}, int64_t{3}, kSlot - 1, kSlot, kSlot + 5, 10 * kSlot + 77}) {
    std::vector<uint8_t> bytes(static_cast<size_t>(count)), back(bytes.size());
    for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<uint8_t>(i * 7 + i / 251);
    const std::vector<uint8_t> before = bytes;
    const Tensor a = Poisoned(DType::kU8, {count}), b = Poisoned(DType::kU8, {count});
    backend().Copy(a.view().data, bytes.data(), count);
    std::fill(bytes.begin(), bytes.end(), uint8_t{0});  // the caller may do so
    backend().Copy(b.view().data, a.view().data, count);
    backend().Copy(back.data(), b.view().data, count);
    ASSERT_TRUE(back == before) << count << " bytes";
  }
}

TEST_F(CudaOpsTest, ManySmallCopies) {
  std::vector<Tensor> tensors;
  for (int i = 0; i < 3000; ++i) {
    const Tensor host = RandomTensor(DType::kF32, {i % 7 == 0 ? 100'000 : 33}, 1);
    host.as<float>()[0] = static_cast<float>(i);
    tensors.push_back(There(host));
  }
  for (int i = 0; i < 3000; ++i)
    ASSERT_EQ(Here(tensors[static_cast<size_t>(i)]).as<float>()[0], static_cast<float>(i));
}

TEST_F(CudaOpsTest, ZeroAndNoMemory) {
  const Tensor x = Poisoned(DType::kF32, {1001});
  backend().Zero(x.view().data, x.bytes());
  EXPECT_EQ(FirstMismatch(Here(x), Tensor(DType::kF32, {1001}), {}), "");
  EXPECT_THROW(backend().Allocate(int64_t{1} << 50), std::bad_alloc);
  backend().Synchronize();  // the refusal left nothing behind
}

TEST_F(CudaOpsTest, MemoryThatWasFreedIsKeptAndServesWorkInOrder) {
  constexpr int64_t kBytes = int64_t{1} << 30;
  const int64_t available = backend().available_bytes();
  void* const big = backend().Allocate(kBytes);
  EXPECT_LE(backend().available_bytes(), available - kBytes);
  backend().Free(big);
  EXPECT_GE(backend().available_bytes(), available - (int64_t{64} << 20)) << "what is kept counts";
  EXPECT_EQ(backend().Allocate(kBytes), big);
  backend().Free(big);

  // Each product goes to memory that the one before may still be writing.
  const Bf16Pair x({2048, 1024}, 1), weight({1024, 1024}, 2);
  const Linear linear(there(), weight.bf16, {});
  const Tensor x_there = There(x.bf16), want(DType::kBF16, {2048, 1024}, &backend());
  linear.Run(there(), x_there, want);
  const Tensor sum(DType::kF32, {2048, 1024}, &backend());
  for (int i = 0; i < 50; ++i) {
    const Tensor y = Tensor::ToBeWritten(DType::kBF16, {2048, 1024}, &backend());
    linear.Run(there(), x_there, y);
    Add(there(), sum, y, /*relu=*/false, Output::kFloat);
    const Tensor zero(DType::kBF16, {2048, 1024}, &backend());
    Add(there(), sum, zero, /*relu=*/false, Output::kFloat);
  }
  const Tensor once = ToFloat32(Here(want));
  for (int64_t i = 0; i < once.shape().elements(); ++i) once.as<float>()[i] *= 50;
  EXPECT_EQ(FirstMismatch(Here(sum), once, {1e-3, 1e-4}), "");
}

TEST_F(CudaOpsTest, CountsItsMemory) {
  const int64_t before = backend().peak_bytes(), more = before + (int64_t{1} << 20);
  EXPECT_GT(before, 0) << "cuBLASLt's workspace";
  backend().Free(backend().Allocate(more));
  const int64_t peak = backend().peak_bytes();
  EXPECT_GE(peak, more);
  backend().Free(backend().Allocate(more));
  EXPECT_EQ(backend().peak_bytes(), peak);
}

double RelativeDistance(const ConstTensorView& got, const ConstTensorView& want) {
  double difference = 0, square = 0;
  for (int64_t i = 0; i < got.shape.elements(); ++i) {
    const double x = ElementAsFloat(got, i), y = ElementAsFloat(want, i);
    difference += (x - y) * (x - y);
    square += y * y;
  }
  return std::sqrt(difference / square);
}

// What attention may lose to bfloat16: as the kernels' own tests.
constexpr double kAttentionTolerance = 0.0085;

/// Keys and values of the frames, filled by StoreKeys and StoreValues from x.
struct StoredFrames {
  std::vector<Tensor> tensors;
  std::vector<void*> keys, values;
  KvFrames kv;

  StoredFrames(Context& context, const ConstTensorView& k, const ConstTensorView& v,
               const RotaryNorm& norm, int64_t frames)
      : kv{keys, values, context.activation()} {
    const Shape one{k.shape[0] / frames, k.shape[1], k.shape[2]};
    for (int64_t f = 0; f < frames; ++f)
      for (std::vector<void*>* pointers : {&keys, &values}) {
        tensors.emplace_back(context.activation(), one, context.memory());
        pointers->push_back(tensors.back().view().data);
      }
    kv = {keys, values, context.activation()};
    StoreKeys(context, k, norm, kv);
    StoreValues(context, v, kv);
  }
};

TEST_F(CudaOpsTest, SelfAttention) {
  constexpr int kFramesQ = 3, kFramesKv = 6;
  for (AttentionMode mode : {AttentionMode::kDense, AttentionMode::kMonarch})
    for (int head_dim : {64, 128}) {
      const AttentionGrid grid{.rows = 6, .cols = 10, .heads = 3, .head_dim = head_dim};
      const AttentionConfig config{.mode = mode};
      const int64_t tokens = int64_t{grid.rows} * grid.cols;
      const Shape q_shape{kFramesQ, grid.rows, grid.cols, grid.heads, head_dim};
      const Shape kv_shape{kFramesKv * tokens, grid.heads, head_dim};
      const Bf16Pair q(q_shape, 1), k(kv_shape, 2), v(kv_shape, 3);
      const Tensor weight = RandomTensor(DType::kF32, {grid.heads * head_dim}, 4);
      const Tensor cos = RandomTensor(DType::kF32, {kFramesKv * tokens, head_dim / 2}, 5);
      const Tensor sin = RandomTensor(DType::kF32, {kFramesKv * tokens, head_dim / 2}, 6);
      const Tensor want(DType::kF32, q_shape), out = Poisoned(DType::kBF16, q_shape);

      const StoredFrames here_kv(here(), k.f32, v.f32, {weight, cos, sin, 1e-6f}, kFramesKv);
      SelfAttention(here(), config, grid, q.f32, here_kv.kv, want);

      ASSERT_TRUE(backend().ValidateAttention(config, grid, kFramesQ, kFramesKv).ok());
      const Tensor there_weight = There(weight), there_cos = There(cos), there_sin = There(sin);
      const StoredFrames there_kv(there(), There(k.bf16), There(v.bf16),
                                  {there_weight, there_cos, there_sin, 1e-6f}, kFramesKv);
      SelfAttention(there(), config, grid, There(q.bf16), there_kv.kv, out);
      EXPECT_LE(RelativeDistance(Here(out), want), kAttentionTolerance)
          << (mode == AttentionMode::kDense ? "dense" : "monarch") << ", head_dim " << head_dim;
    }
}

TEST_F(CudaOpsTest, AnotherStreamComputesTheSameAndCountsItsMemory) {
  const auto other = backend().NewStream();
  Context beside(Precision::kBF16, other.get());
  const Bf16Pair x({700, 256}, 1), weight({512, 256}, 2);
  const Linear linear(there(), weight.bf16, {}), linear_beside(beside, weight.bf16, {});
  const int64_t before = backend().peak_bytes();
  const Tensor big(DType::kU8, {int64_t{256} << 20}, other.get());
  EXPECT_GE(backend().peak_bytes(), before + big.bytes() / 2);
  EXPECT_EQ(other->peak_bytes(), backend().peak_bytes());
  Tensor x_beside(DType::kBF16, x.bf16.shape(), other.get());
  other->Copy(x_beside.view().data, x.bf16.view().data, x.bf16.bytes());
  const Tensor x_there = There(x.bf16), y = Poisoned(DType::kBF16, {700, 512});
  const Tensor y_beside(DType::kBF16, y.shape(), other.get());
  for (int repeat = 0; repeat < 20; ++repeat) {
    linear.Run(there(), x_there, y);
    linear_beside.Run(beside, x_beside, y_beside);
  }
  const Tensor want = Here(y), got(DType::kBF16, y.shape());
  other->Copy(got.view().data, y_beside.view().data, got.bytes());
  EXPECT_EQ(std::memcmp(got.view().data, want.view().data, static_cast<size_t>(got.bytes())), 0);
}

TEST_F(CudaOpsTest, DenseAttentionToTextWithABias) {
  constexpr int64_t kQ = 190, kHeads = 2;
  for (int64_t tokens_kv : {1, 33, 512})
    for (const Shape& bias_shape : {Shape{0}, Shape{tokens_kv}, Shape{kHeads, kQ + tokens_kv - 1},
                                    Shape{kHeads, kQ, tokens_kv}}) {
      const Shape kv{tokens_kv, kHeads, 128};
      const Bf16Pair q({kQ, kHeads, 128}, 1), k(kv, 2), v(kv, 3);
      Tensor bias, there_bias;
      if (bias_shape.elements() > 0) bias = RandomTensor(DType::kF32, bias_shape, 4, 3);
      if (!bias.empty()) there_bias = There(bias);
      const Tensor want(DType::kF32, q.f32.shape()), out = Poisoned(DType::kBF16, q.f32.shape());
      DenseAttention(here(), q.f32, k.f32, v.f32, 0.09f, bias, want);
      DenseAttention(there(), There(q.bf16), There(k.bf16), There(v.bf16), 0.09f, there_bias, out);
      EXPECT_LE(RelativeDistance(Here(out), want), kAttentionTolerance)
          << tokens_kv << " keys, bias " << bias_shape.ToString();
    }
}

TEST_F(CudaOpsTest, RefusesAttentionItHasNot) {
  const AttentionGrid grid{.rows = 4, .cols = 6, .heads = 2, .head_dim = 64};
  const auto refusal = [&](const AttentionConfig& config, const AttentionGrid& of) {
    return backend().ValidateAttention(config, of, 3, 3).message();
  };
  EXPECT_THAT(refusal({.mode = AttentionMode::kTopK}, grid), HasSubstr("need 'dense'"));
  EXPECT_THAT(refusal({.implementation = "avx2"}, grid), HasSubstr("need 'cuda'"));
  AttentionGrid narrow = grid;
  narrow.head_dim = 24;
  EXPECT_THAT(refusal({.mode = AttentionMode::kDense}, narrow), HasSubstr("head_dim"));
  EXPECT_THAT(refusal({}, narrow), HasSubstr("head_dim"));
}

}  // namespace
}  // namespace mrt::ops
