// The way from tensors to the attention kernels; the kernels have their own tests.
#include "ops/attention.h"

#include <gtest/gtest.h>

#include <vector>

#include "ops/for_test.h"
#include "ops/rowwise.h"

namespace mrt::ops {
namespace {

constexpr AttentionGrid kGrid{.rows = 3, .cols = 5, .heads = 2, .head_dim = 8};
constexpr int64_t kFramesQ = 2, kFramesKv = 4, kTokens = kGrid.rows * kGrid.cols;
constexpr int64_t kHeads = kGrid.heads, kHeadDim = kGrid.head_dim;

/// Plain attention of every head in doubles: q [tokens_q, heads, head_dim], k and v the same.
std::vector<double> Dense(const Tensor& q, const Tensor& k, const Tensor& v, double scale,
                          const Tensor& bias) {
  const int64_t tokens_q = q.shape().elements() / (kHeads * kHeadDim);
  const int64_t tokens_kv = k.shape().elements() / (kHeads * kHeadDim);
  std::vector<double> out(q.shape().elements(), 0.0), weight(tokens_kv);
  for (int64_t head = 0; head < kHeads; ++head)
    for (int64_t i = 0; i < tokens_q; ++i) {
      const int64_t query = (i * kHeads + head) * kHeadDim;
      double sum = 0;
      for (int64_t l = 0; l < tokens_kv; ++l) {
        double score =
            bias.empty() ? 0 : ElementAsFloat(bias, (head * tokens_q + i) * tokens_kv + l);
        for (int64_t d = 0; d < kHeadDim; ++d)
          score += scale * ElementAsFloat(q, query + d) *
                   ElementAsFloat(k, (l * kHeads + head) * kHeadDim + d);
        sum += weight[l] = std::exp(score);
      }
      for (int64_t l = 0; l < tokens_kv; ++l)
        for (int64_t d = 0; d < kHeadDim; ++d)
          out[query + d] += weight[l] / sum * ElementAsFloat(v, (l * kHeads + head) * kHeadDim + d);
    }
  return out;
}

class AttentionTest : public ::testing::TestWithParam<Precision> {
 protected:
  void SetUp() override {
    if (const char* reason = Unsupported(GetParam())) GTEST_SKIP() << reason;
  }

  /// Probabilities may be rounded to bfloat16 inside a kernel: twice the half step of the output.
  void Expect(const Tensor& got, const std::vector<double>& want) {
    const double relative = GetParam() == Precision::kF32 ? 0 : 0x1p-7;
    double size = 0;
    for (double w : want) size = std::max(size, std::abs(w));
    for (size_t i = 0; i < want.size(); ++i)
      ASSERT_NEAR(ElementAsFloat(got, static_cast<int64_t>(i)), want[i],
                  relative * size + 2e-6 * size)
          << i;
  }

  /// The frames of a ring cache: here in reverse order in memory.
  struct Frames {
    Tensor tensor;
    std::vector<void*> pointers;
  };
  Frames Reversed(const Tensor& x, DType dtype) {
    Frames frames{Tensor(dtype, x.shape()), {}};
    for (int64_t f = 0; f < kFramesKv; ++f) {
      void* const to = frames.tensor.view().Slice(kFramesKv - 1 - f, kFramesKv - f).data;
      const Shape shape = {kTokens, kHeads, kHeadDim};
      StoreValues(context_, x.view().Slice(f, f + 1).Reshape(shape),
                  {{&to, 1}, {&to, 1}, frames.tensor.dtype()});
      frames.pointers.push_back(to);
    }
    return frames;
  }

  DType act() const { return context_.activation(); }

  Context context_{GetParam()};
  Tensor q_ = RandomActivation(context_, {kFramesQ, kTokens, kHeads, kHeadDim}, 1);
  Tensor k_ = RandomActivation(context_, {kFramesKv, kTokens, kHeads, kHeadDim}, 2);
  Tensor v_ = RandomActivation(context_, {kFramesKv, kTokens, kHeads, kHeadDim}, 3);
  Tensor out_{context_.activation(), q_.shape()};
};

TEST_P(AttentionTest, DenseSelfAttentionOverARing) {
  const AttentionConfig config{.mode = AttentionMode::kDense};
  ASSERT_TRUE(ValidateAttention(config, kGrid, kFramesQ, kFramesKv, GetParam()).ok());
  const Frames k = Reversed(k_, act()), v = Reversed(v_, act());
  SelfAttention(context_, config, kGrid, q_, {k.pointers, v.pointers, k.tensor.dtype()}, out_);
  Expect(out_, Dense(q_, k_, v_, 1 / std::sqrt(1.0 * kHeadDim), {}));
}

TEST_P(AttentionTest, StoresKeysAsTheValuesThatRmsNormRopeMakes) {
  const Shape all = {kFramesKv * kTokens, kHeads, kHeadDim};
  const Shape angles = {all[0], kHeadDim / 2};
  const Tensor weight = RandomTensor(DType::kF32, {kHeads * kHeadDim}, 4);
  const Tensor cos = RandomTensor(DType::kF32, angles, 5);
  const Tensor sin = RandomTensor(DType::kF32, angles, 6);
  const RotaryNorm norm = {.weight = weight, .cos = cos, .sin = sin, .eps = 1e-6f};
  const Tensor rotated = RandomActivation(context_, all, 2);  // as k_
  RmsNormRope(context_, rotated, norm);
  for (const DType dtype : {act(), DType::kBF16}) {
    const Tensor keys(dtype, k_.shape()), want(dtype, k_.shape());
    std::vector<void*> key_frames, want_frames;
    for (int64_t f = kFramesKv - 1; f >= 0; --f) {  // not in the order of memory
      key_frames.push_back(keys.view().Slice(f, f + 1).data);
      want_frames.push_back(want.view().Slice(f, f + 1).data);
    }
    StoreKeys(context_, k_.view().Reshape(all), norm, {key_frames, key_frames, dtype});
    StoreValues(context_, rotated, {want_frames, want_frames, dtype});
    for (int64_t i = 0; i < keys.shape().elements(); ++i)
      ASSERT_EQ(ElementAsFloat(keys, i), ElementAsFloat(want, i)) << i;
  }
}

TEST_P(AttentionTest, MonarchWithOneRowPerTileIsDense) {
  const AttentionConfig config{.mode = AttentionMode::kMonarch, .h_reduce = kGrid.rows};
  ASSERT_TRUE(ValidateAttention(config, kGrid, kFramesQ, kFramesKv, GetParam()).ok());
  const Frames k = Reversed(k_, act()), v = Reversed(v_, act());
  SelfAttention(context_, config, kGrid, q_, {k.pointers, v.pointers, k.tensor.dtype()}, out_);
  Expect(out_, Dense(q_, k_, v_, 1 / std::sqrt(1.0 * kHeadDim), {}));
}

TEST_P(AttentionTest, MonarchTakesItsTilingFromTheConfig) {
  const Frames k = Reversed(k_, act()), v = Reversed(v_, act());
  const std::vector<double> dense = Dense(q_, k_, v_, 1 / std::sqrt(1.0 * kHeadDim), {});
  std::vector<float> outputs;
  for (int f_tied : {1, 2})
    for (int w_reduce : {1, 5})
      for (int iterations : {1, 2}) {
        const AttentionConfig config{
            .f_tied = f_tied, .w_reduce = w_reduce, .iterations = iterations};
        SelfAttention(context_, config, kGrid, q_, {k.pointers, v.pointers, k.tensor.dtype()},
                      out_);
        outputs.push_back(ElementAsFloat(out_, 7));
      }
  // One column per tile is exact in one step, so only f_tied = 1 and 2 there may agree.
  EXPECT_NE(outputs[0], outputs[1]);
  EXPECT_NE(outputs[0], outputs[4]);
  EXPECT_NE(outputs[0], outputs[2]);
  EXPECT_NEAR(outputs[2], dense[7], GetParam() == Precision::kF32 ? 1e-5 : 0.02);
}

TEST_P(AttentionTest, ReadsKeysAndValuesThatWereStoredAsBf16) {
  const Tensor rounded_k = ToFloat32(k_), rounded_v = ToFloat32(v_);
  for (const Tensor* x : {&rounded_k, &rounded_v})
    for (int64_t i = 0; i < x->shape().elements(); ++i)
      x->as<float>()[i] = RoundToBFloat16(x->as<float>()[i]);
  const Frames k = Reversed(k_, DType::kBF16), v = Reversed(v_, DType::kBF16);
  for (AttentionMode mode :
       {AttentionMode::kDense, AttentionMode::kMonarch, AttentionMode::kTopK}) {
    const AttentionConfig exact{.mode = mode, .h_reduce = kGrid.rows, .density = 1};
    SelfAttention(context_, exact, kGrid, q_, {k.pointers, v.pointers, DType::kBF16}, out_);
    Expect(out_, Dense(q_, rounded_k, rounded_v, 1 / std::sqrt(1.0 * kHeadDim), {}));
  }
}

TEST_P(AttentionTest, BaselinesTakeTheirDensityFromTheConfig) {
  const Frames k = Reversed(k_, act()), v = Reversed(v_, act());
  const std::vector<double> dense = Dense(q_, k_, v_, 1 / std::sqrt(1.0 * kHeadDim), {});
  for (AttentionMode mode :
       {AttentionMode::kTopK, AttentionMode::kWindow, AttentionMode::kRadial}) {
    const AttentionConfig all{.mode = mode, .density = 1}, some{.mode = mode, .density = 0.1};
    ASSERT_TRUE(ValidateAttention(all, kGrid, kFramesQ, kFramesKv, GetParam()).ok());
    SelfAttention(context_, all, kGrid, q_, {k.pointers, v.pointers, k.tensor.dtype()}, out_);
    Expect(out_, dense);
    SelfAttention(context_, some, kGrid, q_, {k.pointers, v.pointers, k.tensor.dtype()}, out_);
    EXPECT_GT(std::abs(ElementAsFloat(out_, 7) - dense[7]), 0.02);
    EXPECT_EQ(AttentionDensity(all, kGrid, kFramesQ, kFramesKv), 1);
    EXPECT_LT(AttentionDensity(some, kGrid, kFramesQ, kFramesKv), 0.15);
    EXPECT_GT(AttentionScratchBytes(all, kGrid, kFramesQ, kFramesKv, GetParam()), 0);
    EXPECT_FALSE(ValidateAttention({.mode = mode, .density = 0}, kGrid, kFramesQ, kFramesKv).ok());
  }
}

TEST_P(AttentionTest, DenseAttentionWithBias) {
  constexpr int64_t kQ = 11, kKv = 19;
  const Tensor q = RandomActivation(context_, {kQ, kHeads, kHeadDim}, 1);
  const Tensor k = RandomActivation(context_, {kKv, kHeads, kHeadDim}, 2);
  const Tensor v = RandomActivation(context_, {kKv, kHeads, kHeadDim}, 3);
  const Tensor bias = RandomTensor(DType::kF32, {kHeads, kQ, kKv}, 4);
  const Tensor out(context_.activation(), q.shape());
  DenseAttention(context_, q, k, v, 1.0f, bias, out);
  Expect(out, Dense(q, k, v, 1, bias));
  DenseAttention(context_, q, k, v, 0.25f, {}, out);
  Expect(out, Dense(q, k, v, 0.25, {}));
  // One bias for each key.
  const Tensor of_keys = RandomTensor(DType::kF32, {kKv}, 5), all(DType::kF32, bias.shape());
  for (int64_t i = 0; i < all.shape().elements(); ++i)
    all.as<float>()[i] = of_keys.as<float>()[i % kKv];
  DenseAttention(context_, q, k, v, 1.0f, of_keys, out);
  Expect(out, Dense(q, k, v, 1, all));
  // One for each distance.
  const Tensor of_distances = RandomTensor(DType::kF32, {kHeads, kQ + kKv - 1}, 6);
  for (int64_t h = 0; h < kHeads; ++h)
    for (int64_t i = 0; i < kQ; ++i)
      for (int64_t l = 0; l < kKv; ++l)
        all.as<float>()[(h * kQ + i) * kKv + l] =
            of_distances.as<float>()[h * (kQ + kKv - 1) + l - i + kQ - 1];
  DenseAttention(context_, q, k, v, 1.0f, of_distances, out);
  Expect(out, Dense(q, k, v, 1, all));
}

INSTANTIATE_TEST_SUITE_P(All, AttentionTest, ::testing::ValuesIn(kPrecisions),
                         [](const auto& test) { return PrecisionName(test.param); });

TEST(ValidateAttention, NamesTheNearestDivisors) {
  constexpr AttentionGrid kWan{.rows = 30, .cols = 52, .heads = 12, .head_dim = 128};
  const auto message = [&](const AttentionConfig& config, int frames_kv = 21) {
    const Status status = ValidateAttention(config, kWan, 3, frames_kv);
    EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
    return status.message();
  };
  EXPECT_EQ(message({.h_reduce = 4}),
            "[attention] got h_reduce 4 for 30 rows, need a divisor: 3 or 5");
  EXPECT_EQ(message({.w_reduce = 0}),
            "[attention] got w_reduce 0 for 52 columns, need a divisor: 1");
  EXPECT_EQ(message({.w_reduce = 53}),
            "[attention] got w_reduce 53 for 52 columns, need a divisor: 52");
  EXPECT_EQ(message({.w_reduce = 2147483647}),
            "[attention] got w_reduce 2147483647 for 52 columns, need a divisor: 52");
  EXPECT_EQ(message({.f_tied = -3}),
            "[attention] got f_tied -3 for 3 query and 21 key frames, need a divisor: 1");
  EXPECT_EQ(message({.f_tied = 3}, 20),
            "[attention] got f_tied 3 for 3 query and 20 key frames, need a divisor: 1");
}

TEST(ValidateAttention, RefusesWhatNoKernelCanDo) {
  EXPECT_TRUE(ValidateAttention({}, kGrid, 3, 21).ok());
  EXPECT_FALSE(ValidateAttention({}, {.rows = 0, .cols = 5}, 3, 21).ok());
  EXPECT_FALSE(ValidateAttention({}, kGrid, 0, 21).ok());
  EXPECT_FALSE(ValidateAttention({.iterations = 0}, kGrid, 3, 21).ok());
  for (AttentionMode mode : {AttentionMode::kDense, AttentionMode::kMonarch, AttentionMode::kTopK,
                             AttentionMode::kWindow, AttentionMode::kRadial}) {
    const Status status =
        ValidateAttention({.mode = mode, .implementation = "abacus"}, kGrid, 3, 21);
    EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
    EXPECT_NE(status.message().find("abacus"), std::string::npos);
    EXPECT_TRUE(
        ValidateAttention({.mode = mode, .implementation = "reference"}, kGrid, 3, 21).ok());
  }
}

}  // namespace
}  // namespace mrt::ops
