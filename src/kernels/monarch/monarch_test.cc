#include "kernels/monarch/monarch.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <numeric>
#include <ostream>
#include <string>
#include <string_view>

#include "base/threads.h"
#include "kernels/dense/reference.h"
#include "kernels/monarch/reference.h"
#include "testing/attention_inputs.h"
#include "testing/golden_attention.h"
#include "testing/sanitizer.h"

namespace mrt {

std::ostream& operator<<(std::ostream& out, const MonarchShape& s) {
  return out << s.heads << " heads of " << s.head_dim << ", frames " << s.frames_q << " x "
             << s.frames_kv << ", grid " << s.rows << " x " << s.cols << ", tiling " << s.f_tied
             << "," << s.h_reduce << "," << s.w_reduce << ", steps " << s.iterations
             << ", causal block " << s.causal_block_frames
             << (s.storage == StorageType::kF32 ? ", f32" : ", bf16");
}

namespace {

using ::testing::HasSubstr;
using testing::InLayoutOf;
using testing::Loaded;
using testing::RandomBf16;
using testing::RelativeL2;
using testing::Stored;

constexpr double kToleranceF32 = 1e-4;  // relative L2, as for every golden file

int64_t FrameElements(const MonarchShape& s) {
  return int64_t{s.rows} * s.cols * s.heads * s.head_dim;
}

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
struct MonarchCase {
  MonarchShape shape;
  std::vector<double> q, k, v;

  explicit MonarchCase(const MonarchShape& s, Fill fill = Fill::kNormal, uint32_t seed = 1)
      : shape(s),
        q(RandomBf16(s.frames_q * FrameElements(s), seed, fill == Fill::kHugeLogits ? 40 : 1)),
        k(RandomBf16(s.frames_kv * FrameElements(s), seed + 1)),
        v(RandomBf16(s.frames_kv * FrameElements(s), seed + 2)) {
    const int64_t width = int64_t{s.heads} * s.head_dim;
    for (size_t i = 0; i < k.size(); ++i) {
      if (fill == Fill::kEqualKeys) k[i] = k[i % width];
      if (fill == Fill::kConstantV) v[i] = v[i % width];
    }
  }

  std::vector<double> Reference(Rounding rounding = Rounding::kNone) const {
    return MonarchReference(shape, q, k, v, rounding);
  }

  // The oracle of the definition itself.
  std::vector<double> Dense() const {
    const int64_t frame_tokens = int64_t{shape.rows} * shape.cols;
    const DenseShape dense = {.heads = shape.heads,
                              .tokens_q = shape.frames_q * frame_tokens,
                              .tokens_per_frame = frame_tokens,
                              .frames_kv = shape.frames_kv,
                              .head_dim = shape.head_dim,
                              .causal_block_frames = shape.causal_block_frames,
                              .scale = 1 / std::sqrt(static_cast<float>(shape.head_dim))};
    return DenseReference(dense, q, k, v, {});
  }

  // Key frame f of the call is frame order[f] of k and v. Every tensor ends at a guard page.
  std::vector<double> Run(const MonarchImpl& impl, const std::vector<int>& order) const {
    const bool bf16 = shape.storage == StorageType::kBF16;
    const bool kv_bf16 = shape.kv_storage() == StorageType::kBF16;
    const size_t frame = static_cast<size_t>(FrameElements(shape));
    std::vector<testing::GuardedBuffer> frames;
    std::vector<const void*> k_frames, v_frames;
    for (int f : order) {
      frames.push_back(Stored(InLayoutOf(shape, {k.data() + f * frame, frame}), kv_bf16));
      k_frames.push_back(frames.back().data());
      frames.push_back(Stored(InLayoutOf(shape, {v.data() + f * frame, frame}), kv_bf16));
      v_frames.push_back(frames.back().data());
    }
    const testing::GuardedBuffer query = Stored(q, bf16);
    const testing::GuardedBuffer out = Stored(std::vector<double>(q.size(), NAN), bf16);
    const testing::GuardedBuffer scratch(impl.scratch_bytes(shape, ThreadCount()),
                                         testing::kNotANumberByte);
    impl.run({.shape = shape,
              .q = query.data(),
              .k_frames = k_frames.data(),
              .v_frames = v_frames.data(),
              .out = out.data(),
              .scratch = scratch.data()});
    return Loaded(out, static_cast<int64_t>(q.size()), bf16);
  }

  std::vector<double> Run(const MonarchImpl& impl) const {
    std::vector<int> order(static_cast<size_t>(shape.frames_kv));
    std::iota(order.begin(), order.end(), 0);
    return Run(impl, order);
  }

  // Twice what the definition loses when it rounds where the kernel does.
  double Allowed(const MonarchImpl& impl, std::span<const double> exact) const {
    if (shape.storage == StorageType::kF32) return kToleranceF32;
    if (testing::kSanitized) return kToleranceBf16Max;  // the definition takes long there
    const Rounding rounding = impl.bf16_products ? Rounding::kBf16Operands : Rounding::kBf16Output;
    return std::clamp(2 * RelativeL2(Reference(rounding), exact), kBf16HalfUlp, kToleranceBf16Max);
  }
};

MonarchShape WithStorage(MonarchShape shape, StorageType storage) {
  shape.storage = storage;
  return shape;
}

// Tails on purpose: no extent but those of kWideRow fills whole vectors.
constexpr MonarchShape kOneToken = {.heads = 1, .head_dim = 1};
constexpr MonarchShape kOddTail = {
    .heads = 3, .frames_q = 2, .frames_kv = 3, .rows = 5, .cols = 7, .head_dim = 17};
constexpr MonarchShape kWideRow = {.frames_kv = 2, .rows = 3, .cols = 80, .head_dim = 64};
constexpr MonarchShape kTallTile = {
    .frames_q = 3, .frames_kv = 6, .rows = 30, .cols = 4, .head_dim = 24, .f_tied = 3};
constexpr MonarchShape kManyCuts = {.heads = 2,
                                    .frames_q = 2,
                                    .frames_kv = 4,
                                    .rows = 6,
                                    .cols = 12,
                                    .head_dim = 40,
                                    .f_tied = 2,
                                    .h_reduce = 3,
                                    .w_reduce = 2};
constexpr MonarchShape kTwoSteps = {
    .frames_q = 2, .frames_kv = 3, .rows = 5, .cols = 18, .head_dim = 33, .iterations = 2};
constexpr MonarchShape kFourStepsTall = {.frames_q = 5,
                                         .frames_kv = 5,
                                         .rows = 14,
                                         .cols = 3,
                                         .head_dim = 16,
                                         .f_tied = 5,
                                         .iterations = 4};
constexpr MonarchShape kCausal = {.heads = 2,
                                  .frames_q = 4,
                                  .frames_kv = 4,
                                  .rows = 3,
                                  .cols = 5,
                                  .head_dim = 20,
                                  .f_tied = 2,
                                  .iterations = 2,
                                  .causal_block_frames = 2};
// What the tiles of AMX make of it: three tiles of columns from three query frames, the last one
// partly filled; a row of more than one step of 32; more than 32 rows, odd in number.
constexpr MonarchShape kManyTiles = {.heads = 2,
                                     .frames_q = 3,
                                     .frames_kv = 3,
                                     .rows = 15,
                                     .cols = 15,
                                     .head_dim = 96,
                                     .causal_block_frames = 3};
constexpr MonarchShape kWideAndTall = {
    .frames_q = 1, .frames_kv = 2, .rows = 35, .cols = 37, .head_dim = 32};
// AMX makes two blocks of it, the second one smaller and of an odd number of rows.
constexpr MonarchShape kManyRows = {.frames_kv = 7, .rows = 45, .cols = 17, .head_dim = 32};
constexpr MonarchShape kShapes[] = {kOneToken, kOddTail,       kWideRow, kTallTile,  kManyCuts,
                                    kTwoSteps, kFourStepsTall, kCausal,  kManyTiles, kWideAndTall};

constexpr StorageType kStorageTypes[] = {StorageType::kF32, StorageType::kBF16};

MonarchShape ShapeOf(const testing::GoldenAttention& golden) {
  return {.heads = golden.heads,
          .frames_q = golden.frames_q,
          .frames_kv = golden.frames_kv,
          .rows = golden.rows,
          .cols = golden.cols,
          .head_dim = golden.head_dim,
          .f_tied = golden.f_tied,
          .h_reduce = golden.h_reduce,
          .w_reduce = golden.w_reduce,
          .iterations = golden.iterations,
          .causal_block_frames = golden.causal_block_frames};
}

class MonarchImplTest : public ::testing::TestWithParam<const MonarchImpl*> {
 protected:
  // A shape that every row takes on its own CPU.
  void SetUp() override {
    if (const char* refusal = impl().refuses(Suited(kOddTail), GetCpuFeatures()))
      GTEST_SKIP() << refusal;
  }
  void TearDown() override { SetThreadCount(0); }
  const MonarchImpl& impl() const { return *GetParam(); }
  bool Refuses(const MonarchShape& shape) const {
    return impl().refuses(shape, GetCpuFeatures()) != nullptr;
  }

  // `shape`, or the nearest one that this row can run.
  MonarchShape Suited(MonarchShape shape) const {
    if (!impl().bf16_products) return shape;
    shape.storage = StorageType::kBF16;
    shape.head_dim = (shape.head_dim + 31) / 32 * 32;
    return shape;
  }

  // For shapes of Suited: what summing in another order may change.
  double Allowed(const MonarchCase& c, double allowed_f32) const {
    return c.shape.storage == StorageType::kF32 ? allowed_f32 : c.Allowed(impl(), c.Reference());
  }
};

TEST_P(MonarchImplTest, MatchesTheGoldenFiles) {
  if (testing::kSanitized) GTEST_SKIP() << "other numbers, no other code than MatchesTheReference";
  const auto all = testing::ReadGoldenAttention(MRT_GOLDEN_DIR);
  ASSERT_GE(all.size(), 12u);
  int checked = 0;
  for (const auto& golden : all)
    for (StorageType storage : kStorageTypes) {
      MonarchCase c(WithStorage(ShapeOf(golden), storage));
      if (Refuses(c.shape)) continue;
      ++checked;
      c.q = golden.q, c.k = golden.k, c.v = golden.v;
      EXPECT_LE(RelativeL2(c.Run(impl()), golden.out), c.Allowed(impl(), golden.out))
          << golden.name << ": " << c.shape;
    }
  EXPECT_GE(checked, impl().bf16_products ? 10 : 24);
}

// Huge logits lose more than elsewhere, in the rounded definition too.
TEST_P(MonarchImplTest, TakesManyRows) {
  if (testing::kSanitized) GTEST_SKIP() << "the definition takes long there";
  for (const int iterations : {1, 2})
    for (const Fill fill : {Fill::kNormal, Fill::kHugeLogits}) {
      MonarchShape shape = Suited(kManyRows);
      shape.iterations = iterations;
      const MonarchCase c(shape, fill);
      const std::vector<double> exact = c.Reference();
      const double rounding = RelativeL2(c.Reference(Rounding::kBf16Operands), exact);
      EXPECT_LE(RelativeL2(c.Run(impl()), exact), impl().bf16_products ? 2 * rounding : 1e-5)
          << c.shape << ", fill " << static_cast<int>(fill);
    }
}

TEST_P(MonarchImplTest, MatchesTheReference) {
  for (const MonarchShape& shape : kShapes)
    for (Fill fill : Fills()) {
      std::vector<double> exact;  // however the tensors are stored
      for (StorageType storage : kStorageTypes) {
        if (impl().bf16_products && storage == StorageType::kF32) continue;
        const MonarchCase c(Suited(WithStorage(shape, storage)), fill);
        if (exact.empty()) exact = c.Reference();
        EXPECT_LE(RelativeL2(c.Run(impl()), exact), c.Allowed(impl(), exact))
            << c.shape << ", fill " << static_cast<int>(fill);
      }
    }
}

TEST_P(MonarchImplTest, IsDenseWhenATileHasOneRowOrOneColumn) {
  const MonarchShape one_row = {.heads = 2,
                                .frames_q = 2,
                                .frames_kv = 3,
                                .rows = 4,
                                .cols = 13,
                                .head_dim = 16,
                                .h_reduce = 4};
  const MonarchShape one_column = {.heads = 2,
                                   .frames_q = 2,
                                   .frames_kv = 4,
                                   .rows = 5,
                                   .cols = 6,
                                   .head_dim = 16,
                                   .f_tied = 2,
                                   .w_reduce = 6};
  for (const MonarchShape& shape : {one_row, one_column}) {
    const MonarchCase c(Suited(shape));
    EXPECT_LE(RelativeL2(c.Run(impl()), c.Dense()), Allowed(c, 1e-5)) << c.shape;
  }
}

TEST_P(MonarchImplTest, ReturnsAConstantValueUnchanged) {
  for (const MonarchShape& shape : kShapes) {
    const MonarchCase c(Suited(shape), Fill::kConstantV);
    const std::vector<double> out = c.Run(impl());
    const size_t width = static_cast<size_t>(c.shape.heads) * c.shape.head_dim;
    // r, vbar, L and the output are rounded, each by half a unit in the last place at most.
    const double rounding = impl().bf16_products ? 4 * 0x1p-8 : 0;
    for (size_t i = 0; i < out.size(); ++i)
      ASSERT_NEAR(out[i], c.v[i % width], 1e-5 + rounding * std::abs(c.v[i % width]))
          << c.shape << " at " << i;
  }
}

TEST_P(MonarchImplTest, DoesNotDependOnTheOrderOfKeyTiles) {
  const MonarchShape shape = {.heads = 2,
                              .frames_q = 1,
                              .frames_kv = 5,
                              .rows = 6,
                              .cols = 9,
                              .head_dim = 24,
                              .iterations = 2};
  const MonarchCase c(Suited(shape));
  EXPECT_LE(RelativeL2(c.Run(impl(), {3, 0, 4, 2, 1}), c.Run(impl())), Allowed(c, 1e-5));
}

TEST_P(MonarchImplTest, GivesTheSameBitsHoweverKeysAndValuesAreStored) {
  for (const MonarchShape& plain : {kOddTail, kManyCuts, kCausal, kTwoSteps}) {
    MonarchShape shape = Suited(plain);
    const std::vector<double> token_major = MonarchCase(shape).Run(impl());
    shape.kv_layout = KvLayout::kHeadMajor;
    EXPECT_EQ(MonarchCase(shape).Run(impl()), token_major) << shape;
    shape.kv_bf16 = true;  // the inputs are exact in it
    EXPECT_EQ(MonarchCase(shape).Run(impl()), token_major) << shape;
  }
}

// The running sums pass through as many blocks as there are key frames: no error may grow with
// them.
TEST_P(MonarchImplTest, AddsUpManyKeyFrames) {
  const MonarchShape shape = {
      .heads = 1, .frames_q = 1, .frames_kv = 3000, .rows = 2, .cols = 2, .head_dim = 16};
  const MonarchCase c(Suited(shape));
  EXPECT_LE(RelativeL2(c.Run(impl()), c.Reference()), Allowed(c, 1e-5));
}

TEST_P(MonarchImplTest, SeesNothingOfLaterBlocksWhenCausal) {
  MonarchCase c(Suited(kCausal));
  const std::vector<double> before = c.Run(impl());
  const size_t first_hidden = static_cast<size_t>(2 * FrameElements(c.shape));
  for (size_t i = first_hidden; i < c.k.size(); ++i) c.k[i] = NAN, c.v[i] = NAN;
  const std::vector<double> after = c.Run(impl());
  for (size_t i = 0; i < first_hidden; ++i) ASSERT_EQ(after[i], before[i]);
  EXPECT_TRUE(std::isnan(after[first_hidden]));
}

TEST_P(MonarchImplTest, PassesNotANumberOn) {
  MonarchCase c(Suited(kOddTail));
  c.q[0] = NAN;
  const std::vector<double> out = c.Run(impl());
  EXPECT_TRUE(std::isnan(out[0]));
  EXPECT_FALSE(std::isnan(out[static_cast<size_t>(FrameElements(c.shape))]));
}

TEST_P(MonarchImplTest, GivesTheSameBitsWithAnyNumberOfThreads) {
  for (const MonarchShape& shape : {kOddTail, kManyCuts, kTwoSteps}) {
    const MonarchCase c(Suited(shape));
    SetThreadCount(1);
    const std::vector<double> one = c.Run(impl());
    for (int threads : {2, 5}) {
      SetThreadCount(threads);
      EXPECT_EQ(c.Run(impl()), one) << threads << " threads, " << shape;
    }
  }
}

TEST_P(MonarchImplTest, NeedsTheSameScratchForAnyWindow) {
  for (MonarchShape shape : {Suited(kOddTail), Suited(kTwoSteps)}) {
    const int64_t bytes = impl().scratch_bytes(shape, 4);
    EXPECT_LE(bytes, 4 * impl().scratch_bytes(shape, 1));
    shape.frames_kv *= 100;
    EXPECT_EQ(impl().scratch_bytes(shape, 4), bytes);
  }
}

std::vector<const MonarchImpl*> AllImpls() {
  std::vector<const MonarchImpl*> all;
  for (const MonarchImpl& impl : MonarchImpls()) all.push_back(&impl);
  return all;
}

INSTANTIATE_TEST_SUITE_P(All, MonarchImplTest, ::testing::ValuesIn(AllImpls()),
                         [](const auto& row) { return std::string(row.param->name); });

TEST(MonarchReference, RoundsMoreWhenOperandsAreRounded) {
  const MonarchCase c(kManyCuts);
  const std::vector<double> exact = c.Reference();
  const double output = RelativeL2(c.Reference(Rounding::kBf16Output), exact);
  const double operands = RelativeL2(c.Reference(Rounding::kBf16Operands), exact);
  EXPECT_GT(output, 1e-3);
  EXPECT_GT(operands, 1.5 * output);
  EXPECT_LT(operands, 1e-2);
}

TEST(MonarchReference, HasTheGradientsOfTheGoldenFiles) {
  int checked = 0;
  for (const auto& golden : testing::ReadGoldenAttention(MRT_GOLDEN_DIR)) {
    if (golden.grad_out.empty()) continue;
    const MonarchGradients got =
        MonarchReferenceBackward(ShapeOf(golden), golden.q, golden.k, golden.v, golden.grad_out);
    EXPECT_LE(RelativeL2(got.q, golden.grad_q), 1e-5) << golden.name;
    EXPECT_LE(RelativeL2(got.k, golden.grad_k), 1e-5) << golden.name;
    EXPECT_LE(RelativeL2(got.v, golden.grad_v), 1e-5) << golden.name;
    ++checked;
  }
  EXPECT_GE(checked, 11);
}

// The loss sum(grad_out * out) along a random direction of the inputs, by central differences.
TEST(MonarchReference, HasTheGradientsOfFiniteDifferences) {
  for (MonarchShape shape : {kOddTail, kManyCuts, kTwoSteps, kCausal}) {
    shape.iterations += 1;
    const MonarchCase c(shape);
    const std::vector<double> grad_out = RandomBf16(static_cast<int64_t>(c.q.size()), 7);
    const MonarchCase direction(shape, Fill::kNormal, 11);
    const auto loss = [&](double step) {
      MonarchCase moved = c;
      for (size_t i = 0; i < c.q.size(); ++i) moved.q[i] += step * direction.q[i];
      for (size_t i = 0; i < c.k.size(); ++i) moved.k[i] += step * direction.k[i];
      for (size_t i = 0; i < c.v.size(); ++i) moved.v[i] += step * direction.v[i];
      const std::vector<double> out = moved.Reference();
      return std::inner_product(out.begin(), out.end(), grad_out.begin(), 0.0);
    };
    const MonarchGradients g = MonarchReferenceBackward(shape, c.q, c.k, c.v, grad_out);
    const double slope = std::inner_product(g.q.begin(), g.q.end(), direction.q.begin(), 0.0) +
                         std::inner_product(g.k.begin(), g.k.end(), direction.k.begin(), 0.0) +
                         std::inner_product(g.v.begin(), g.v.end(), direction.v.begin(), 0.0);
    constexpr double kStep = 1e-5;
    EXPECT_NEAR((loss(kStep) - loss(-kStep)) / (2 * kStep), slope, 1e-5 * std::abs(slope) + 1e-5)
        << shape;
  }
}

TEST(Monarch, CountsParametersAsSparsity) {
  EXPECT_NEAR(MonarchSparsity({.rows = 30, .cols = 52}), 0.947, 5e-4);
  EXPECT_NEAR(MonarchSparsity({.rows = 30, .cols = 52, .h_reduce = 2}), 0.914, 5e-4);
  EXPECT_NEAR(MonarchSparsity({.rows = 30, .cols = 52, .f_tied = 3}), 0.970, 5e-4);
  EXPECT_NEAR(MonarchSparsity({.rows = 45, .cols = 80}), 0.965, 5e-4);
}

TEST(Monarch, RefusesShapesThatCannotBe) {
  constexpr int kHuge = 2147483647;
  const struct {
    MonarchShape shape;
    const char* message;
  } cases[] = {
      {{.heads = 0}, "got heads 0, need at least 1"},
      {{.frames_q = -1}, "got frames_q -1"},
      {{.frames_kv = 0}, "got frames_kv 0"},
      {{.rows = -5}, "got rows -5"},
      {{.cols = 0}, "got cols 0"},
      {{.head_dim = 0}, "got head_dim 0"},
      {{.iterations = 0}, "got iterations 0"},
      {{.iterations = kHuge}, "need at most 64"},
      {{.f_tied = 0}, "got f_tied 0"},
      {{.frames_q = 3, .frames_kv = 4, .f_tied = 3}, "need a divisor of frames_kv 4"},
      {{.frames_q = 4, .frames_kv = 3, .f_tied = 3}, "need a divisor of frames_q 4"},
      {{.rows = 30, .h_reduce = 4}, "got h_reduce 4, need a divisor of rows 30"},
      {{.rows = 30, .h_reduce = 0}, "got h_reduce 0"},
      {{.cols = 52, .w_reduce = 3}, "got w_reduce 3, need a divisor of cols 52"},
      {{.cols = 52, .w_reduce = -1}, "got w_reduce -1"},
      {{.frames_q = kHuge, .rows = kHuge, .cols = kHuge}, "2^31 - 1 tokens"},
      {{.heads = kHuge, .frames_kv = kHuge, .head_dim = kHuge}, "2^36 elements"},
      {{.causal_block_frames = -1}, "got causal_block_frames -1"},
      {{.frames_q = 2, .frames_kv = 4, .causal_block_frames = 2}, "need equal numbers"},
      {{.frames_q = 4, .frames_kv = 4, .causal_block_frames = 3}, "need a divisor of frames_q 4"},
      {{.frames_q = 6, .frames_kv = 6, .f_tied = 2, .causal_block_frames = 3},
       "need a divisor of causal_block_frames 3"},
      {{.storage = static_cast<StorageType>(9)}, "unknown storage type"},
  };
  for (const auto& c : cases) {
    const Status status = ValidateMonarch(c.shape);
    EXPECT_EQ(status.code(), StatusCode::kInvalidArgument) << c.message;
    EXPECT_THAT(status.message(), HasSubstr("[monarch] got ")) << c.shape;
    EXPECT_THAT(status.message(), HasSubstr(c.message));
    EXPECT_EQ(PickMonarch(c.shape).status().code(), StatusCode::kInvalidArgument);
  }
  for (const MonarchShape& shape : kShapes) EXPECT_TRUE(ValidateMonarch(shape).ok()) << shape;
}

TEST(Monarch, TakesF16InTheReferenceAlone) {
  MonarchShape shape = kOddTail;
  shape.storage = StorageType::kF16;
  EXPECT_STREQ(PickMonarch(shape).value()->name, "reference");
  EXPECT_STREQ(PickMonarchBackward(shape).value()->name, "reference");
  const int64_t frame = FrameElements(shape);
  const std::vector<double> q = testing::RandomF16(shape.frames_q * frame, 1);
  const std::vector<double> k = testing::RandomF16(shape.frames_kv * frame, 2);
  const std::vector<double> v = testing::RandomF16(shape.frames_kv * frame, 3);
  const auto bits = [&](const std::vector<double>& x) {
    return testing::ToBits(x, StorageType::kF16);
  };
  const std::vector<Bits16> q_bits = bits(q), k_bits = bits(k), v_bits = bits(v);
  std::vector<const void*> k_frames, v_frames;
  for (int64_t f = 0; f < shape.frames_kv; ++f) {
    k_frames.push_back(&k_bits[static_cast<size_t>(f * frame)]);
    v_frames.push_back(&v_bits[static_cast<size_t>(f * frame)]);
  }
  std::vector<Bits16> out_bits(q.size());
  PickMonarch(shape).value()->run({.shape = shape,
                                   .q = q_bits.data(),
                                   .k_frames = k_frames.data(),
                                   .v_frames = v_frames.data(),
                                   .out = out_bits.data()});
  std::vector<double> out;
  for (Bits16 x : out_bits) out.push_back(testing::FromBits(x, StorageType::kF16));
  EXPECT_LE(RelativeL2(out, MonarchReference(shape, q, k, v)), 0x1p-11);
  shape.kv_bf16 = true;
  EXPECT_THAT(ValidateMonarch(shape).message(), HasSubstr("f16 for both"));
}

TEST(Monarch, PicksWhatIsForcedOrSaysWhyNot) {
  EXPECT_STREQ(PickMonarch(kOddTail, "reference").value()->name, "reference");
  EXPECT_STREQ(MonarchImpls().back().name, "reference");
  const Result<const MonarchImpl*> unknown = PickMonarch(kOddTail, "fastest");
  EXPECT_EQ(unknown.status().code(), StatusCode::kInvalidArgument);
  EXPECT_THAT(unknown.status().message(), HasSubstr("need one of "));
  EXPECT_THAT(unknown.status().message(), HasSubstr("portable, reference"));
  for (const MonarchImpl& impl : MonarchImpls()) {
    const Result<const MonarchImpl*> picked = PickMonarch(kOddTail, impl.name);
    const char* refusal = impl.refuses(kOddTail, GetCpuFeatures());
    if (refusal == nullptr) {
      EXPECT_EQ(picked.value(), &impl);
    } else {
      EXPECT_EQ(picked.status().code(), StatusCode::kUnavailable);
      EXPECT_THAT(picked.status().message(), HasSubstr(refusal));
    }
  }
}

TEST(Monarch, TheEnvironmentForcesAnImplementation) {
  const char* before = std::getenv("MRT_MONARCH_IMPL");
  const std::string restore = before == nullptr ? "" : before;
  setenv("MRT_MONARCH_IMPL", "portable", 1);
  EXPECT_STREQ(PickMonarch(kOddTail).value()->name, "portable");
  EXPECT_STREQ(PickMonarch(kOddTail, "reference").value()->name, "reference");
  setenv("MRT_MONARCH_IMPL", "fastest", 1);
  EXPECT_EQ(PickMonarch(kOddTail).status().code(), StatusCode::kInvalidArgument);
  setenv("MRT_MONARCH_IMPL", restore.c_str(), 1);
  if (before == nullptr) unsetenv("MRT_MONARCH_IMPL");
}

}  // namespace
}  // namespace mrt
