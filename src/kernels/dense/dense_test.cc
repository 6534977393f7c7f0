#include "kernels/dense/dense.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <ostream>
#include <string>
#include <string_view>

#include "base/threads.h"
#include "kernels/dense/reference.h"
#include "testing/attention_inputs.h"
#include "testing/golden_attention.h"
#include "testing/sanitizer.h"

namespace mrt {

std::ostream& operator<<(std::ostream& out, const DenseShape& s) {
  return out << s.heads << " heads of " << s.head_dim << ", " << s.tokens_q << " queries, "
             << s.frames_kv << " frames of " << s.tokens_per_frame << " keys, causal block "
             << s.causal_block_frames << (s.storage == StorageType::kF32 ? ", f32" : ", bf16");
}

namespace {

using testing::GuardedBuffer;
using ::testing::HasSubstr;
using testing::InLayoutOf;
using testing::Loaded;
using testing::RandomBf16;
using testing::RelativeL2;
using testing::Stored;

constexpr double kToleranceF32 = 1e-4;  // relative L2, as for every golden file

// Relative; what storing the output may cost even where the definition's output is exact.
constexpr double kBf16HalfUlp = 0x1p-9;

// However much rounding costs on an input, more than this is a defect.
constexpr double kToleranceBf16Max = 8.5e-3;

// Rows that round the operands of their products to bfloat16.

enum class Fill { kNormal, kHugeLogits, kEqualKeys, kConstantV };

std::vector<Fill> Fills() {
  if (testing::kSanitized) return {Fill::kHugeLogits};
  return {Fill::kNormal, Fill::kHugeLogits, Fill::kEqualKeys, Fill::kConstantV};
}

// The inputs of one call and what the definition makes of them.
struct DenseCase {
  DenseShape shape;
  std::vector<double> q, k, v;
  std::vector<float> bias;
  bool key_bias = false;

  explicit DenseCase(const DenseShape& s, Fill fill = Fill::kNormal, bool with_bias = false)
      : shape(s),
        q(RandomBf16(s.tokens_q * Width(), 1, fill == Fill::kHugeLogits ? 40 : 1)),
        k(RandomBf16(TokensKv() * Width(), 2)),
        v(RandomBf16(TokensKv() * Width(), 3)) {
    for (size_t i = 0; i < k.size(); ++i) {
      if (fill == Fill::kEqualKeys) k[i] = k[i % Width()];
      if (fill == Fill::kConstantV) v[i] = v[i % Width()];
    }
    if (!with_bias) return;
    for (double x : RandomBf16(s.heads * s.tokens_q * TokensKv(), 4, 3))
      bias.push_back(static_cast<float>(x));
  }

  int64_t Width() const { return int64_t{shape.heads} * shape.head_dim; }
  int64_t TokensKv() const { return shape.frames_kv * shape.tokens_per_frame; }

  std::vector<double> Reference(Rounding rounding = Rounding::kNone) const {
    return DenseReference(shape, q, k, v, bias, rounding);
  }

  // Every tensor ends at a guard page.
  std::vector<double> Run(const DenseImpl& impl) const {
    const bool bf16 = shape.storage == StorageType::kBF16;
    const bool kv_bf16 = shape.kv_storage() == StorageType::kBF16;
    const size_t frame = static_cast<size_t>(shape.tokens_per_frame * Width());
    std::vector<GuardedBuffer> frames;
    std::vector<const void*> k_frames, v_frames;
    for (int f = 0; f < shape.frames_kv; ++f) {
      frames.push_back(Stored(InLayoutOf(shape, {k.data() + f * frame, frame}), kv_bf16));
      k_frames.push_back(frames.back().data());
      frames.push_back(Stored(InLayoutOf(shape, {v.data() + f * frame, frame}), kv_bf16));
      v_frames.push_back(frames.back().data());
    }
    const std::vector<double> bias_values(bias.begin(), bias.end());
    const GuardedBuffer stored_bias = Stored(bias_values, false);
    const GuardedBuffer query = Stored(q, bf16);
    const GuardedBuffer out = Stored(std::vector<double>(q.size(), NAN), bf16);
    const GuardedBuffer scratch(impl.scratch_bytes(shape, ThreadCount()), testing::kNotANumberByte);
    impl.run({.shape = shape,
              .q = query.data(),
              .k_frames = k_frames.data(),
              .v_frames = v_frames.data(),
              .bias = bias.empty() ? nullptr : static_cast<const float*>(stored_bias.data()),
              .key_bias = key_bias,
              .out = out.data(),
              .scratch = scratch.data()});
    return Loaded(out, static_cast<int64_t>(q.size()), bf16);
  }

  // Twice what the definition loses when it rounds where the kernel does.
  double Allowed(const DenseImpl& impl, std::span<const double> exact) const {
    if (shape.storage == StorageType::kF32) return kToleranceF32;
    if (testing::kSanitized) return kToleranceBf16Max;  // the definition takes long there
    const Rounding rounding = impl.bf16_products ? Rounding::kBf16Operands : Rounding::kBf16Output;
    return std::clamp(2 * RelativeL2(Reference(rounding), exact), kBf16HalfUlp, kToleranceBf16Max);
  }
};

DenseShape WithStorage(DenseShape shape, StorageType storage) {
  shape.storage = storage;
  return shape;
}

// Tails on purpose; a block of keys spans several frames, and a frame several blocks.
constexpr DenseShape kOneToken = {.heads = 1, .head_dim = 1};
constexpr DenseShape kOddTail = {.heads = 3,
                                 .tokens_q = 7,
                                 .tokens_per_frame = 5,
                                 .frames_kv = 3,
                                 .head_dim = 17,
                                 .scale = 0.3f};
constexpr DenseShape kManyBlocks = {.heads = 2,
                                    .tokens_q = 330,
                                    .tokens_per_frame = 97,
                                    .frames_kv = 2,
                                    .head_dim = 64,
                                    .scale = 0.125f};
constexpr DenseShape kTextLike = {  // UMT5 does not scale its scores
    .heads = 2,
    .tokens_q = 70,
    .tokens_per_frame = 70,
    .head_dim = 32,
    .scale = 1};
constexpr DenseShape kWideHead = {  // the VAE's one head
    .tokens_q = 35,
    .tokens_per_frame = 35,
    .head_dim = 384,
    .scale = 0.05f};
constexpr DenseShape kCausal = {.heads = 2,
                                .tokens_q = 6 * 35,
                                .tokens_per_frame = 35,
                                .frames_kv = 6,
                                .head_dim = 20,
                                .causal_block_frames = 2,
                                .scale = 0.2f};
// More than one block of keys and an odd tail, queries of more than one task, for AMX.
constexpr DenseShape kOddBlocks = {
    .tokens_q = 83, .tokens_per_frame = 267, .frames_kv = 2, .head_dim = 96, .scale = -0.1f};
constexpr DenseShape kShapes[] = {kOneToken, kOddTail, kManyBlocks, kTextLike,
                                  kWideHead, kCausal,  kOddBlocks};

constexpr StorageType kStorageTypes[] = {StorageType::kF32, StorageType::kBF16};

class DenseImplTest : public ::testing::TestWithParam<const DenseImpl*> {
 protected:
  // A shape that every row takes on its own CPU.
  void SetUp() override {
    if (const char* refusal = impl().refuses(Suited(kOddTail), GetCpuFeatures()))
      GTEST_SKIP() << refusal;
  }
  void TearDown() override { SetThreadCount(0); }
  const DenseImpl& impl() const { return *GetParam(); }
  bool Refuses(const DenseShape& shape) const {
    return impl().refuses(shape, GetCpuFeatures()) != nullptr;
  }

  // `shape`, or the nearest one that this row can run.
  DenseShape Suited(DenseShape shape) const {
    if (!impl().bf16_products) return shape;
    shape.storage = StorageType::kBF16;
    shape.head_dim = (shape.head_dim + 31) / 32 * 32;
    return shape;
  }
};

TEST_P(DenseImplTest, MatchesTheGoldenFiles) {
  if (testing::kSanitized) GTEST_SKIP() << "other numbers, no other code than MatchesTheReference";
  int checked = 0;
  for (const auto& golden : testing::ReadGoldenAttention(MRT_GOLDEN_DIR)) {
    if (golden.dense_out.empty()) continue;
    for (StorageType storage : kStorageTypes) {
      const int64_t frame_tokens = int64_t{golden.rows} * golden.cols;
      DenseCase c(WithStorage({.heads = golden.heads,
                               .tokens_q = golden.frames_q * frame_tokens,
                               .tokens_per_frame = frame_tokens,
                               .frames_kv = golden.frames_kv,
                               .head_dim = golden.head_dim,
                               .scale = 1 / std::sqrt(static_cast<float>(golden.head_dim))},
                              storage));
      if (Refuses(c.shape)) continue;
      c.q = golden.q, c.k = golden.k, c.v = golden.v;
      EXPECT_LE(RelativeL2(c.Run(impl()), golden.dense_out), c.Allowed(impl(), golden.dense_out))
          << golden.name << ": " << c.shape;
      ++checked;
    }
  }
  EXPECT_GE(checked, impl().bf16_products ? 10 : 20);
}

TEST_P(DenseImplTest, MatchesTheReference) {
  for (const DenseShape& shape : kShapes)
    for (Fill fill : Fills())
      for (bool with_bias : {false, true}) {
        std::vector<double> exact;  // however the tensors are stored
        for (StorageType storage : kStorageTypes) {
          if (impl().bf16_products && storage == StorageType::kF32) continue;
          const DenseCase c(Suited(WithStorage(shape, storage)), fill, with_bias);
          if (exact.empty()) exact = c.Reference();
          EXPECT_LE(RelativeL2(c.Run(impl()), exact), c.Allowed(impl(), exact))
              << c.shape << ", fill " << static_cast<int>(fill) << ", bias " << with_bias;
        }
      }
}

TEST_P(DenseImplTest, IgnoresKeysThatTheBiasMasks) {
  DenseCase c(Suited(kManyBlocks), Fill::kNormal, true);
  const int64_t visible = 3;  // the last three keys: every block of keys before them is masked
  for (size_t i = 0; i < c.bias.size(); ++i)
    if (static_cast<int64_t>(i) % c.TokensKv() < c.TokensKv() - visible) c.bias[i] = -INFINITY;
  const std::vector<double> exact = c.Reference();
  EXPECT_LE(RelativeL2(c.Run(impl()), exact), c.Allowed(impl(), exact));
}

TEST_P(DenseImplTest, TakesOneBiasForAllHeadsAndQueries) {
  for (const DenseShape& plain : {kOddTail, kManyBlocks}) {
    DenseCase c(Suited(plain));
    std::vector<float> of_keys;
    for (int64_t l = 0; l < c.TokensKv(); ++l)
      of_keys.push_back(std::log(static_cast<float>(1 + l % 7 * 80)));
    for (int64_t n = 0; n < c.shape.heads * c.shape.tokens_q; ++n)
      c.bias.insert(c.bias.end(), of_keys.begin(), of_keys.end());
    const std::vector<double> want = c.Run(impl());
    c.bias = of_keys;
    c.key_bias = true;
    const double tolerance = c.shape.storage == StorageType::kF32 ? 1e-6 : kBf16HalfUlp;
    EXPECT_LE(RelativeL2(c.Run(impl()), want), tolerance) << plain;
  }
}

TEST_P(DenseImplTest, SeesNothingOfLaterBlocksWhenCausal) {
  DenseCase c(Suited(kCausal));
  const std::vector<double> before = c.Run(impl());
  const size_t first_hidden = static_cast<size_t>(2 * kCausal.tokens_per_frame * c.Width());
  for (size_t i = first_hidden; i < c.k.size(); ++i) c.k[i] = NAN, c.v[i] = NAN;
  const std::vector<double> after = c.Run(impl());
  for (size_t i = 0; i < first_hidden; ++i) ASSERT_EQ(after[i], before[i]);
  EXPECT_TRUE(std::isnan(after[first_hidden]));
}

TEST_P(DenseImplTest, PassesNotANumberOn) {
  DenseCase c(Suited(kOddTail));
  c.q[0] = NAN;
  const std::vector<double> out = c.Run(impl());
  EXPECT_TRUE(std::isnan(out[0]));
  EXPECT_FALSE(std::isnan(out[static_cast<size_t>(c.Width())]));
}

TEST_P(DenseImplTest, GivesTheSameBitsWithAnyNumberOfThreads) {
  for (const DenseShape& shape : {kOddTail, kManyBlocks, kCausal}) {
    const DenseCase c(Suited(shape), Fill::kNormal, true);
    SetThreadCount(1);
    const std::vector<double> one = c.Run(impl());
    for (int threads : {2, 5}) {
      SetThreadCount(threads);
      EXPECT_EQ(c.Run(impl()), one) << threads << " threads, " << shape;
    }
  }
}

TEST_P(DenseImplTest, GivesTheSameBitsHoweverKeysAndValuesAreStored) {
  for (const DenseShape& plain : {kOddTail, kManyBlocks, kCausal}) {
    DenseShape shape = Suited(plain);
    const std::vector<double> token_major = DenseCase(shape, Fill::kNormal, true).Run(impl());
    shape.kv_layout = KvLayout::kHeadMajor;
    EXPECT_EQ(DenseCase(shape, Fill::kNormal, true).Run(impl()), token_major) << shape;
    shape.kv_bf16 = true;  // the inputs are exact in it
    EXPECT_EQ(DenseCase(shape, Fill::kNormal, true).Run(impl()), token_major) << shape;
  }
}

TEST_P(DenseImplTest, NeedsTheSameScratchForAnyWindow) {
  DenseShape shape = Suited(kManyBlocks);
  const int64_t bytes = impl().scratch_bytes(shape, 4);
  shape.frames_kv *= 100;
  EXPECT_EQ(impl().scratch_bytes(shape, 4), bytes);
}

std::vector<const DenseImpl*> AllImpls() {
  std::vector<const DenseImpl*> all;
  for (const DenseImpl& impl : DenseImpls()) all.push_back(&impl);
  return all;
}

INSTANTIATE_TEST_SUITE_P(All, DenseImplTest, ::testing::ValuesIn(AllImpls()),
                         [](const auto& row) { return std::string(row.param->name); });

TEST(DenseReference, AveragesValuesOfEqualKeys) {
  const DenseCase c(kOddTail, Fill::kEqualKeys);
  const std::vector<double> out = c.Reference();
  for (int64_t d = 0; d < c.Width(); ++d) {
    double mean = 0;
    for (int64_t l = 0; l < c.TokensKv(); ++l) mean += c.v[l * c.Width() + d] / c.TokensKv();
    for (int64_t i = 0; i < kOddTail.tokens_q; ++i)
      EXPECT_NEAR(out[i * c.Width() + d], mean, 1e-12);
  }
}

TEST(Dense, RefusesShapesThatCannotBe) {
  constexpr int kHuge = 2147483647;
  constexpr int64_t kHuger = 9223372036854775807;
  const struct {
    DenseShape shape;
    const char* message;
  } cases[] = {
      {{.heads = 0}, "got heads 0, need at least 1"},
      {{.tokens_q = -1}, "got tokens_q -1"},
      {{.tokens_per_frame = 0}, "got tokens_per_frame 0"},
      {{.frames_kv = -2}, "got frames_kv -2"},
      {{.head_dim = 0}, "got head_dim 0"},
      {{.tokens_q = kHuger}, "2^36 elements"},
      {{.tokens_per_frame = kHuger, .frames_kv = 2}, "2^36 elements"},
      {{.heads = kHuge, .head_dim = kHuge}, "2^36 elements"},
      {{.causal_block_frames = -1}, "got causal_block_frames -1"},
      {{.tokens_q = 7, .tokens_per_frame = 4, .frames_kv = 2, .causal_block_frames = 1},
       "got tokens_q 7"},
      {{.tokens_q = 8, .tokens_per_frame = 4, .frames_kv = 2, .causal_block_frames = 3},
       "need a divisor of frames_kv 2"},
      {{.scale = INFINITY}, "need a finite number"},
      {{.storage = static_cast<StorageType>(9)}, "unknown storage type"},
  };
  for (const auto& c : cases) {
    const Status status = ValidateDense(c.shape);
    EXPECT_EQ(status.code(), StatusCode::kInvalidArgument) << c.message;
    EXPECT_THAT(status.message(), HasSubstr("[dense] got ")) << c.shape;
    EXPECT_THAT(status.message(), HasSubstr(c.message));
    EXPECT_EQ(PickDense(c.shape).status().code(), StatusCode::kInvalidArgument);
  }
  for (const DenseShape& shape : kShapes) EXPECT_TRUE(ValidateDense(shape).ok()) << shape;
}

TEST(Dense, PicksWhatIsForcedOrSaysWhyNot) {
  EXPECT_STREQ(DenseImpls().back().name, "reference");
  const Result<const DenseImpl*> unknown = PickDense(kOddTail, "fastest");
  EXPECT_EQ(unknown.status().code(), StatusCode::kInvalidArgument);
  EXPECT_THAT(unknown.status().message(), HasSubstr("need one of "));
  for (const DenseImpl& impl : DenseImpls()) {
    const Result<const DenseImpl*> picked = PickDense(kOddTail, impl.name);
    const char* refusal = impl.refuses(kOddTail, GetCpuFeatures());
    if (refusal == nullptr) {
      EXPECT_EQ(picked.value(), &impl);
    } else {
      EXPECT_EQ(picked.status().code(), StatusCode::kUnavailable);
      EXPECT_THAT(picked.status().message(), HasSubstr(refusal));
    }
  }
  const char* before = std::getenv("MRT_DENSE_IMPL");
  const std::string restore = before == nullptr ? "" : before;
  setenv("MRT_DENSE_IMPL", "portable", 1);
  EXPECT_STREQ(PickDense(kOddTail).value()->name, "portable");
  setenv("MRT_DENSE_IMPL", restore.c_str(), 1);
  if (before == nullptr) unsetenv("MRT_DENSE_IMPL");
}

}  // namespace
}  // namespace mrt
