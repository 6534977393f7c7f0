#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <numeric>
#include <random>
#include <string>

#include "base/threads.h"
#include "kernels/monarch/monarch.h"
#include "kernels/monarch/reference.h"
#include "testing/attention_inputs.h"
#include "testing/golden_attention.h"
#include "testing/sanitizer.h"

namespace mrt {
namespace {

using ::testing::HasSubstr;
using testing::InLayoutOf;
using testing::Loaded;
using testing::RandomBf16;
using testing::RelativeL2;
using testing::Stored;

// Relative L2; 3e-7 to 6e-6 is measured on the golden files. Softmaxes that nearly pick one key are
// differences of numbers that are almost equal: there the tolerance is that of every golden file.
constexpr double kTolerance = 1e-5;
constexpr double kToleranceSharp = 1e-4;

std::string Describe(const MonarchShape& s) {
  std::string text;
  for (const int value : {s.heads, s.head_dim, s.frames_q, s.frames_kv, s.rows, s.cols, s.f_tied,
                          s.h_reduce, s.w_reduce, s.iterations, s.causal_block_frames})
    text += std::to_string(value) + " ";
  return text + (s.storage == StorageType::kF32 ? "f32" : "bf16");
}

int64_t FrameElements(const MonarchShape& s) {
  return int64_t{s.rows} * s.cols * s.heads * s.head_dim;
}

// The inputs of one call. All are exact in bfloat16, so both storage types mean the same numbers.
struct BackwardCase {
  MonarchShape shape;
  std::vector<double> q, k, v, d_out;

  explicit BackwardCase(const MonarchShape& s, uint32_t seed = 1, double q_scale = 1)
      : shape(s),
        q(RandomBf16(s.frames_q * FrameElements(s), seed, q_scale)),
        k(RandomBf16(s.frames_kv * FrameElements(s), seed + 1)),
        v(RandomBf16(s.frames_kv * FrameElements(s), seed + 2)),
        d_out(RandomBf16(s.frames_q * FrameElements(s), seed + 3)) {}

  MonarchGradients Reference() const { return MonarchReferenceBackward(shape, q, k, v, d_out); }

  // Every tensor ends at a guard page, and the gradients hold NaN before.
  MonarchGradients Run(const MonarchBackwardImpl& impl) const {
    const bool bf16 = shape.storage == StorageType::kBF16;
    const size_t frame = static_cast<size_t>(FrameElements(shape));
    const std::vector<double> nothing(std::max(q.size(), frame), NAN);
    std::vector<testing::GuardedBuffer> inputs, gradients;
    std::vector<const void*> k_frames, v_frames;
    std::vector<float*> d_k_frames, d_v_frames;
    const bool kv_bf16 = shape.kv_storage() == StorageType::kBF16;
    const auto input = [&](std::span<const double> x, bool half) {
      return inputs.emplace_back(Stored(x, half)).data();
    };
    const auto gradient = [&](size_t count) {
      gradients.push_back(Stored(std::span(nothing).first(count), false));
      return static_cast<float*>(gradients.back().data());
    };
    float* const d_q = gradient(q.size());
    for (int f = 0; f < shape.frames_kv; ++f) {
      k_frames.push_back(input(InLayoutOf(shape, {k.data() + f * frame, frame}), kv_bf16));
      v_frames.push_back(input(InLayoutOf(shape, {v.data() + f * frame, frame}), kv_bf16));
      d_k_frames.push_back(gradient(frame));
      d_v_frames.push_back(gradient(frame));
    }
    const testing::GuardedBuffer scratch(impl.scratch_bytes(shape, ThreadCount()),
                                         testing::kNotANumberByte);
    impl.run({.shape = shape,
              .q = input(q, bf16),
              .k_frames = k_frames.data(),
              .v_frames = v_frames.data(),
              .d_out = input(d_out, bf16),
              .d_q = d_q,
              .d_k_frames = d_k_frames.data(),
              .d_v_frames = d_v_frames.data(),
              .scratch = scratch.data()});
    MonarchGradients d = {.q = {d_q, d_q + q.size()}, .k = {}, .v = {}};
    const TokenStrides plain = shape.q_strides();
    const auto append = [&](const float* from, std::vector<double>& to) {
      const std::vector<double> laid(from, from + frame);
      const auto tokens =
          testing::Reordered(laid, shape.heads, shape.head_dim, shape.kv_strides(), plain);
      to.insert(to.end(), tokens.begin(), tokens.end());
    };
    for (int f = 0; f < shape.frames_kv; ++f) {
      append(d_k_frames[f], d.k);
      append(d_v_frames[f], d.v);
    }
    return d;
  }
};

void ExpectNear(const MonarchGradients& got, const MonarchGradients& want,
                const MonarchShape& shape, double tolerance = kTolerance) {
  EXPECT_LE(RelativeL2(got.q, want.q), tolerance) << Describe(shape);
  EXPECT_LE(RelativeL2(got.k, want.k), tolerance) << Describe(shape);
  EXPECT_LE(RelativeL2(got.v, want.v), tolerance) << Describe(shape);
}

constexpr MonarchShape kOddTail = {
    .heads = 3, .frames_q = 2, .frames_kv = 3, .rows = 5, .cols = 7, .head_dim = 17};
// More than one block of queries along the columns, and along the rows.
constexpr MonarchShape kWide = {.frames_kv = 2, .rows = 3, .cols = 70, .head_dim = 20};
constexpr MonarchShape kTall = {
    .frames_q = 3, .frames_kv = 6, .rows = 23, .cols = 3, .head_dim = 24, .f_tied = 3};
constexpr MonarchShape kCausal = {.heads = 2,
                                  .frames_q = 4,
                                  .frames_kv = 4,
                                  .rows = 3,
                                  .cols = 10,
                                  .head_dim = 16,
                                  .f_tied = 2,
                                  .w_reduce = 2,
                                  .causal_block_frames = 2};

class MonarchBackwardTest : public ::testing::TestWithParam<const MonarchBackwardImpl*> {
 protected:
  void SetUp() override {
    if (const char* refusal = impl().refuses(kOddTail, GetCpuFeatures())) GTEST_SKIP() << refusal;
  }
  void TearDown() override { SetThreadCount(0); }
  const MonarchBackwardImpl& impl() const { return *GetParam(); }
};

TEST_P(MonarchBackwardTest, HasTheGradientsOfTheGoldenFiles) {
  if (testing::kSanitized) GTEST_SKIP() << "other numbers, no other code than MatchesTheReference";
  int checked = 0;
  for (const auto& golden : testing::ReadGoldenAttention(MRT_GOLDEN_DIR)) {
    if (golden.grad_out.empty()) continue;
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
    if (impl().refuses(c.shape, GetCpuFeatures()) != nullptr) continue;
    c.q = golden.q, c.k = golden.k, c.v = golden.v, c.d_out = golden.grad_out;
    ExpectNear(c.Run(impl()), {golden.grad_q, golden.grad_k, golden.grad_v}, c.shape);
    ++checked;
  }
  EXPECT_GE(checked, 9);
}

TEST_P(MonarchBackwardTest, MatchesTheReference) {
  for (MonarchShape shape : {MonarchShape{.head_dim = 1}, kOddTail, kWide, kTall, kCausal})
    for (const double q_scale : {1.0, 12.0}) {
      const double tolerance = q_scale == 1 ? kTolerance : kToleranceSharp;
      const BackwardCase c(shape, 1, q_scale);
      const MonarchGradients want = c.Reference();
      ExpectNear(c.Run(impl()), want, shape, tolerance);
      BackwardCase bf16 = c;
      bf16.shape.storage = StorageType::kBF16;
      ExpectNear(bf16.Run(impl()), want, bf16.shape, tolerance);
    }
}

// Any sizes, tilings and blocks.
MonarchShape RandomShape(std::mt19937& generator) {
  const auto upto = [&](int most) { return static_cast<int>(generator() % most) + 1; };
  MonarchShape s = {.heads = upto(3), .head_dim = upto(40), .f_tied = upto(2)};
  s.h_reduce = upto(2), s.rows = s.h_reduce * upto(5);
  s.w_reduce = upto(3), s.cols = s.w_reduce * upto(9);
  s.frames_q = s.f_tied * upto(3), s.frames_kv = s.f_tied * upto(4);
  if (generator() % 3 == 0) {
    s.causal_block_frames = s.f_tied * upto(2);
    s.frames_q = s.frames_kv = s.causal_block_frames * upto(2);
  }
  return s;
}

TEST_P(MonarchBackwardTest, MatchesTheReferenceOnRandomShapes) {
  std::mt19937 generator(5);
  for (uint32_t seed = 0; seed < (testing::kSanitized ? 3 : 10); ++seed) {
    const BackwardCase c(RandomShape(generator), seed);
    ASSERT_TRUE(ValidateMonarch(c.shape).ok()) << Describe(c.shape);
    ExpectNear(c.Run(impl()), c.Reference(), c.shape);
  }
}

// The derivative of sum(d_out * out) along a direction of all inputs; the definition by central
// differences in double.
TEST_P(MonarchBackwardTest, HasTheGradientsOfFiniteDifferences) {
  for (const MonarchShape& shape : {kOddTail, kCausal}) {
    const BackwardCase c(shape), direction(shape, 11);
    const auto loss = [&](double step) {
      BackwardCase moved = c;
      for (size_t i = 0; i < c.q.size(); ++i) moved.q[i] += step * direction.q[i];
      for (size_t i = 0; i < c.k.size(); ++i) moved.k[i] += step * direction.k[i];
      for (size_t i = 0; i < c.v.size(); ++i) moved.v[i] += step * direction.v[i];
      const std::vector<double> out = MonarchReference(shape, moved.q, moved.k, moved.v);
      return std::inner_product(out.begin(), out.end(), c.d_out.begin(), 0.0);
    };
    const MonarchGradients d = c.Run(impl());
    const double slope = std::inner_product(d.q.begin(), d.q.end(), direction.q.begin(), 0.0) +
                         std::inner_product(d.k.begin(), d.k.end(), direction.k.begin(), 0.0) +
                         std::inner_product(d.v.begin(), d.v.end(), direction.v.begin(), 0.0);
    constexpr double kStep = 1e-5;
    EXPECT_NEAR((loss(kStep) - loss(-kStep)) / (2 * kStep), slope, 1e-4 * std::abs(slope) + 1e-4)
        << Describe(shape);
  }
}

TEST_P(MonarchBackwardTest, SeesNothingOfLaterBlocksWhenCausal) {
  BackwardCase c(kCausal);
  std::fill(c.d_out.begin() + 2 * FrameElements(c.shape), c.d_out.end(), 0);
  const MonarchGradients d = c.Run(impl());
  const auto later = 2 * FrameElements(c.shape);
  EXPECT_TRUE(std::all_of(d.k.begin() + later, d.k.end(), [](double x) { return x == 0; }));
  EXPECT_TRUE(std::all_of(d.v.begin() + later, d.v.end(), [](double x) { return x == 0; }));
  EXPECT_TRUE(std::all_of(d.q.begin() + later, d.q.end(), [](double x) { return x == 0; }));
}

TEST_P(MonarchBackwardTest, PassesNotANumberOn) {
  BackwardCase c(kOddTail);
  c.d_out[0] = NAN;  // of the first head
  const MonarchGradients d = c.Run(impl());
  EXPECT_TRUE(std::isnan(d.q[0]));
  EXPECT_TRUE(std::isnan(d.k[0]));
  EXPECT_TRUE(std::isnan(d.v[0]));
  EXPECT_FALSE(std::isnan(d.q[17]));
  EXPECT_FALSE(std::isnan(d.k[17]));
}

TEST_P(MonarchBackwardTest, GivesTheSameBitsWithAnyNumberOfThreads) {
  for (const MonarchShape& shape : {kOddTail, kCausal}) {
    const BackwardCase c(shape);
    SetThreadCount(1);
    const MonarchGradients one = c.Run(impl());
    for (int threads : {1, 2, 5}) {
      SetThreadCount(threads);
      const MonarchGradients other = c.Run(impl());
      EXPECT_EQ(other.q, one.q) << threads;
      EXPECT_EQ(other.k, one.k) << threads;
      EXPECT_EQ(other.v, one.v) << threads;
    }
  }
}

TEST_P(MonarchBackwardTest, GivesTheSameBitsHoweverKeysAndValuesAreStored) {
  for (MonarchShape shape : {kOddTail, kCausal}) {
    const MonarchGradients token_major = BackwardCase(shape).Run(impl());
    shape.kv_layout = KvLayout::kHeadMajor;
    shape.kv_bf16 = true;  // the inputs are exact in it
    const MonarchGradients head_major = BackwardCase(shape).Run(impl());
    EXPECT_EQ(head_major.q, token_major.q);
    EXPECT_EQ(head_major.k, token_major.k);
    EXPECT_EQ(head_major.v, token_major.v);
  }
}

TEST_P(MonarchBackwardTest, NeedsTheSameScratchForAnyNumberOfFrames) {
  MonarchShape shape = kOddTail;
  const int64_t bytes = impl().scratch_bytes(shape, 4);
  EXPECT_LE(bytes, 4 * impl().scratch_bytes(shape, 1));
  shape.frames_q *= 100, shape.frames_kv *= 100;
  EXPECT_EQ(impl().scratch_bytes(shape, 4), bytes);
}

std::vector<const MonarchBackwardImpl*> AllBackwardImpls() {
  std::vector<const MonarchBackwardImpl*> all;
  for (const MonarchBackwardImpl& impl : MonarchBackwardImpls()) all.push_back(&impl);
  return all;
}

INSTANTIATE_TEST_SUITE_P(All, MonarchBackwardTest, ::testing::ValuesIn(AllBackwardImpls()),
                         [](const auto& row) { return std::string(row.param->name); });

TEST(MonarchBackward, PicksTheReferenceForMoreSteps) {
  MonarchShape shape = kOddTail;
  EXPECT_STRNE(PickMonarchBackward(shape).value()->name, "reference");
  EXPECT_STREQ(PickMonarchBackward(shape, "portable").value()->name, "portable");
  shape.iterations = 2;
  EXPECT_STREQ(PickMonarchBackward(shape).value()->name, "reference");
  const auto forced = PickMonarchBackward(shape, "portable");
  EXPECT_EQ(forced.status().code(), StatusCode::kUnavailable);
  EXPECT_THAT(forced.status().message(), HasSubstr("one refinement step only"));
  const auto unknown = PickMonarchBackward(shape, "fastest");
  EXPECT_EQ(unknown.status().code(), StatusCode::kInvalidArgument);
  EXPECT_THAT(unknown.status().message(), HasSubstr("portable, reference"));
  shape.heads = 0;
  EXPECT_EQ(PickMonarchBackward(shape).status().code(), StatusCode::kInvalidArgument);
}

TEST(MonarchBackward, TheEnvironmentForcesAnImplementation) {
  const char* before = std::getenv("MRT_MONARCH_BACKWARD_IMPL");
  const std::string restore = before == nullptr ? "" : before;
  setenv("MRT_MONARCH_BACKWARD_IMPL", "reference", 1);
  EXPECT_STREQ(PickMonarchBackward(kOddTail).value()->name, "reference");
  EXPECT_STREQ(PickMonarchBackward(kOddTail, "portable").value()->name, "portable");
  setenv("MRT_MONARCH_BACKWARD_IMPL", "fastest", 1);
  EXPECT_EQ(PickMonarchBackward(kOddTail).status().code(), StatusCode::kInvalidArgument);
  setenv("MRT_MONARCH_BACKWARD_IMPL", restore.c_str(), 1);
  if (before == nullptr) unsetenv("MRT_MONARCH_BACKWARD_IMPL");
}

}  // namespace
}  // namespace mrt
