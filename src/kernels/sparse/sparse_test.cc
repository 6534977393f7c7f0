#include "kernels/sparse/sparse.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <ostream>
#include <string>
#include <vector>

#include "base/threads.h"
#include "kernels/sparse/pattern.h"
#include "kernels/sparse/reference.h"
#include "testing/attention_inputs.h"
#include "testing/sanitizer.h"

namespace mrt {

std::ostream& operator<<(std::ostream& out, const SparseShape& s) {
  return out << "pattern " << static_cast<int>(s.pattern) << " of density " << s.density << ", "
             << s.heads << " heads of " << s.head_dim << ", " << s.frames_q << " and "
             << s.frames_kv << " frames of " << s.rows << "x" << s.cols << ", causal block "
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

constexpr double kToleranceF32 = 1e-4;   // relative L2, as for dense attention
constexpr double kBf16HalfUlp = 0x1p-9;  // what storing the output may cost
constexpr double kDensities[] = {1e-6, 0.053, 0.25, 0.6, 1};
constexpr SparsePattern kPatterns[] = {SparsePattern::kTopK, SparsePattern::kWindow,
                                       SparsePattern::kRadial};
constexpr StorageType kStorageTypes[] = {StorageType::kF32, StorageType::kBF16};

// Tails on purpose; frames of more than one block of queries and of keys.
constexpr SparseShape kOneToken = {.head_dim = 1};
constexpr SparseShape kOddTail = {
    .heads = 3, .frames_q = 2, .frames_kv = 5, .rows = 3, .cols = 5, .head_dim = 17};
constexpr SparseShape kManyBlocks = {
    .heads = 2, .frames_q = 2, .frames_kv = 9, .rows = 5, .cols = 8, .head_dim = 20};
constexpr SparseShape kCausal = {
    .frames_q = 6, .frames_kv = 6, .rows = 4, .cols = 9, .head_dim = 16, .causal_block_frames = 2};
constexpr SparseShape kOneRow = {.frames_q = 1, .frames_kv = 2, .cols = 70, .head_dim = 32};
constexpr SparseShape kShapes[] = {kOneToken, kOddTail, kManyBlocks, kCausal, kOneRow};

SparseShape With(SparseShape shape, SparsePattern pattern, double density,
                 StorageType storage = StorageType::kF32) {
  shape.pattern = pattern;
  shape.density = density;
  shape.storage = storage;
  return shape;
}

// The mask by the words of sparse.h, key by key, and how much of each query's softmax it keeps.
// Knows nothing of pattern.cc but the size of the box and the base of the widths.
struct Mask {
  std::vector<std::vector<bool>> kept;  // [heads * queries][keys]; a hidden key is never kept
  std::vector<int64_t> seen;            // [heads * queries]
  std::vector<double> mass;             // [heads * queries]
  double pairs = 0, all = 0;            // of one head

  double Density() const { return pairs / all; }
};

// Halved for each doubling of the distance; below one token whole frames are left out.
bool RadialKeeps(int64_t base, int64_t frames, int64_t tokens) {
  if (frames == 0) return tokens == 0 || tokens < base;
  int64_t power = 1;  // the largest power of two <= frames
  while (2 * power <= frames) power *= 2;
  if (base / power >= 1) return tokens < base / power;
  if (base == 0) return false;
  int64_t stride = 1;
  while (stride * base < power) stride *= 2;
  return tokens == 0 && frames % stride == 0;
}

struct Inputs {
  std::vector<double> q, k, v;
};

// Small integers: scores are exact, and many are equal.
Inputs Integers(const SparseShape& s) {
  const int64_t frame = s.tokens() * s.heads * s.head_dim;
  Inputs in = {RandomBf16(s.frames_q * frame, 1, 0.7), RandomBf16(s.frames_kv * frame, 2, 0.7),
               RandomBf16(s.frames_kv * frame, 3)};
  for (double& x : in.q) x = std::nearbyint(x);
  for (double& x : in.k) x = std::nearbyint(x);
  return in;
}

Inputs Normal(const SparseShape& s) {
  const int64_t frame = s.tokens() * s.heads * s.head_dim;
  return {RandomBf16(s.frames_q * frame, 4), RandomBf16(s.frames_kv * frame, 5),
          RandomBf16(s.frames_kv * frame, 6)};
}

// q . k of head h, not scaled: exact for integers.
double Score(const SparseShape& s, const Inputs& in, int64_t h, int64_t i, int64_t l) {
  double dot = 0;
  for (int64_t d = 0; d < s.head_dim; ++d)
    dot += in.q[(i * s.heads + h) * s.head_dim + d] * in.k[(l * s.heads + h) * s.head_dim + d];
  return dot;
}

double Weight(const SparseShape& s, double score) {
  return std::exp(score / std::sqrt(1.0 * s.head_dim));
}

Mask MakeMask(const SparseShape& s, const SparsePlan& plan, const Inputs& in) {
  Mask mask;
  const int64_t tokens = s.tokens(), keys = s.frames_kv * tokens;
  for (int64_t h = 0; h < s.heads; ++h)
    for (int64_t i = 0; i < s.frames_q * tokens; ++i) {
      const int64_t a = i / tokens, n = s.causal_block_frames;
      const int64_t seen = n == 0 ? keys : (a / n + 1) * n * tokens;
      std::vector<double> score(static_cast<size_t>(keys), 0);
      for (int64_t l = 0; l < seen; ++l) score[l] = Score(s, in, h, i, l);
      std::vector<bool> kept(static_cast<size_t>(keys), false);
      for (int64_t l = 0; l < seen; ++l) {
        const int64_t frames = std::abs(s.frames_kv - s.frames_q + a - l / tokens);
        const int64_t qt = i % tokens, kt = l % tokens;
        if (s.pattern == SparsePattern::kWindow)
          kept[l] = frames <= plan.window.frames &&
                    std::abs(qt / s.cols - kt / s.cols) <= plan.window.rows &&
                    std::abs(qt % s.cols - kt % s.cols) <= plan.window.cols;
        if (s.pattern == SparsePattern::kRadial)
          kept[l] = RadialKeeps(plan.radial_base, frames, std::abs(qt - kt));
        if (s.pattern == SparsePattern::kTopK) {
          int64_t before = 0;  // keys that are kept rather than this one
          for (int64_t m = 0; m < seen; ++m)
            before += score[m] > score[l] || (score[m] == score[l] && m < l);
          kept[l] = before < std::max<double>(1, std::round(s.density * seen));
        }
      }
      double kept_sum = 0, sum = 0;
      for (int64_t l = 0; l < seen; ++l) {
        sum += Weight(s, score[l]);
        if (kept[l]) kept_sum += Weight(s, score[l]);
      }
      if (h == 0) {
        mask.pairs += static_cast<double>(std::count(kept.begin(), kept.end(), true));
        mask.all += static_cast<double>(seen);
      }
      mask.kept.push_back(std::move(kept));
      mask.seen.push_back(seen);
      mask.mass.push_back(kept_sum / sum);
    }
  return mask;
}

std::vector<double> MaskedAttention(const SparseShape& s, const Mask& mask, const Inputs& in) {
  std::vector<double> out(in.q.size());
  const int64_t queries = s.frames_q * s.tokens();
  for (int64_t h = 0; h < s.heads; ++h)
    for (int64_t i = 0; i < queries; ++i) {
      double sum = 0;
      std::vector<double> o(static_cast<size_t>(s.head_dim), 0);
      for (size_t l = 0; l < mask.kept[h * queries + i].size(); ++l) {
        if (!mask.kept[h * queries + i][l]) continue;
        const double weight = Weight(s, Score(s, in, h, i, static_cast<int64_t>(l)));
        sum += weight;
        for (int64_t d = 0; d < s.head_dim; ++d)
          o[d] += weight * in.v[(l * s.heads + h) * s.head_dim + d];
      }
      for (int64_t d = 0; d < s.head_dim; ++d) out[(i * s.heads + h) * s.head_dim + d] = o[d] / sum;
    }
  return out;
}

struct Case {
  SparseShape shape;
  Inputs in;
  std::vector<double> want;
};

// Equal scores, and scores that float32 rounds, so that nearly equal ones may swap.
const std::vector<Case>& Cases() {
  static const std::vector<Case> kCases = [] {
    std::vector<Case> cases;
    for (const SparseShape& plain : kShapes)
      for (const SparsePattern pattern : kPatterns)
        for (const double density : kDensities) {
          if (testing::kSanitized && density != 0.25) continue;
          const SparseShape shape = With(plain, pattern, density);
          for (const Inputs& in : {Integers(shape), Normal(shape)})
            cases.push_back(
                {shape, in, MaskedAttention(shape, MakeMask(shape, PlanSparse(shape), in), in)});
        }
    return cases;
  }();
  return kCases;
}

// Every tensor ends at a guard page.
std::vector<double> Attended(const SparseImpl& impl, const SparseShape& s, const Inputs& in) {
  const bool bf16 = s.storage == StorageType::kBF16;
  const bool kv_bf16 = s.kv_storage() == StorageType::kBF16;
  const size_t frame = static_cast<size_t>(s.tokens() * s.heads * s.head_dim);
  std::vector<GuardedBuffer> frames;
  std::vector<const void*> k_frames, v_frames;
  for (int f = 0; f < s.frames_kv; ++f) {
    frames.push_back(Stored(InLayoutOf(s, {in.k.data() + f * frame, frame}), kv_bf16));
    k_frames.push_back(frames.back().data());
    frames.push_back(Stored(InLayoutOf(s, {in.v.data() + f * frame, frame}), kv_bf16));
    v_frames.push_back(frames.back().data());
  }
  const GuardedBuffer query = Stored(in.q, bf16);
  const GuardedBuffer out = Stored(std::vector<double>(in.q.size(), NAN), bf16);
  const GuardedBuffer scratch(impl.scratch_bytes(s, ThreadCount()), testing::kNotANumberByte);
  impl.run({.shape = s,
            .q = query.data(),
            .k_frames = k_frames.data(),
            .v_frames = v_frames.data(),
            .out = out.data(),
            .scratch = scratch.data()});
  return Loaded(out, static_cast<int64_t>(in.q.size()), bf16);
}

class SparseImplTest : public ::testing::TestWithParam<const SparseImpl*> {
 protected:
  void SetUp() override {
    if (const char* refusal = impl().refuses(kOddTail, GetCpuFeatures())) GTEST_SKIP() << refusal;
  }
  void TearDown() override { SetThreadCount(0); }
  const SparseImpl& impl() const { return *GetParam(); }
};

TEST_P(SparseImplTest, MatchesTheMask) {
  for (const Case& c : Cases())
    for (const StorageType storage : kStorageTypes) {
      SparseShape shape = c.shape;
      shape.storage = storage;
      const double allowed = storage == StorageType::kF32 ? kToleranceF32 : 2 * kBf16HalfUlp;
      EXPECT_LE(RelativeL2(Attended(impl(), shape, c.in), c.want), allowed) << shape;
    }
}

TEST_P(SparseImplTest, SeesNothingOfLaterBlocksWhenCausal) {
  for (const SparsePattern pattern : kPatterns) {
    const SparseShape shape = With(kCausal, pattern, 0.9);
    Inputs in = Normal(shape);
    const std::vector<double> before = Attended(impl(), shape, in);
    const size_t first_hidden = static_cast<size_t>(2 * shape.tokens() * shape.head_dim);
    for (size_t i = first_hidden; i < in.k.size(); ++i) in.k[i] = NAN, in.v[i] = NAN;
    const std::vector<double> after = Attended(impl(), shape, in);
    for (size_t i = 0; i < first_hidden; ++i) ASSERT_EQ(after[i], before[i]);
    EXPECT_TRUE(std::isnan(after[first_hidden]));
  }
}

TEST_P(SparseImplTest, PassesNotANumberOn) {
  for (const SparsePattern pattern : kPatterns) {
    const SparseShape shape = With(kOddTail, pattern, 0.25);
    const int64_t width = int64_t{shape.heads} * shape.head_dim;
    Inputs in = Normal(shape);
    in.q[0] = NAN;
    const std::vector<double> of_query = Attended(impl(), shape, in);
    EXPECT_TRUE(std::isnan(of_query[0]));
    EXPECT_FALSE(std::isnan(of_query[static_cast<size_t>(width)]));
    // A key that is not a number has the largest score for all; the patterns keep it where it lies.
    in = Normal(shape);
    const int64_t key = (shape.frames_kv - shape.frames_q) * shape.tokens();  // at the first query
    in.k[static_cast<size_t>(key * width)] = NAN;
    const std::vector<double> of_key = Attended(impl(), shape, in);
    EXPECT_TRUE(std::isnan(of_key[0]));
    EXPECT_FALSE(std::isnan(of_key[static_cast<size_t>(shape.head_dim)]));  // another head
    EXPECT_EQ(std::isnan(of_key[of_key.size() - width]), pattern == SparsePattern::kTopK);
  }
}

TEST_P(SparseImplTest, GivesTheSameBitsWithAnyNumberOfThreads) {
  for (const SparseShape& plain : {kOddTail, kManyBlocks, kCausal})
    for (const SparsePattern pattern : kPatterns) {
      const SparseShape shape = With(plain, pattern, 0.2);
      const Inputs in = Normal(shape);
      SetThreadCount(1);
      const std::vector<double> one = Attended(impl(), shape, in);
      for (int threads : {2, 5}) {
        SetThreadCount(threads);
        EXPECT_EQ(Attended(impl(), shape, in), one) << threads << " threads, " << shape;
      }
    }
}

TEST_P(SparseImplTest, GivesTheSameBitsHoweverKeysAndValuesAreStored) {
  for (const SparseShape& plain : {kOddTail, kManyBlocks, kCausal})
    for (const SparsePattern pattern : kPatterns) {
      SparseShape shape = With(plain, pattern, 0.2);
      const Inputs in = Normal(shape);
      const std::vector<double> token_major = Attended(impl(), shape, in);
      shape.kv_layout = KvLayout::kHeadMajor;
      EXPECT_EQ(Attended(impl(), shape, in), token_major) << shape;
      shape.kv_bf16 = true;  // the inputs are exact in it
      EXPECT_EQ(Attended(impl(), shape, in), token_major) << shape;
    }
}

std::vector<const SparseImpl*> AllImpls() {
  std::vector<const SparseImpl*> all;
  for (const SparseImpl& impl : SparseImpls()) all.push_back(&impl);
  return all;
}

INSTANTIATE_TEST_SUITE_P(All, SparseImplTest, ::testing::ValuesIn(AllImpls()),
                         [](const auto& row) { return std::string(row.param->name); });

TEST(Sparse, KeepsAllAtDensityOne) {
  for (const SparseShape& plain : kShapes)
    for (const SparsePattern pattern : kPatterns) {
      const SparseShape shape = With(plain, pattern, 1);
      const Mask mask = MakeMask(shape, PlanSparse(shape), Normal(shape));
      EXPECT_EQ(mask.pairs, mask.all) << shape;
      EXPECT_EQ(SparseDensity(shape), 1) << shape;
    }
}

TEST(Sparse, TellsTheDensityThatItReaches) {
  for (const SparseShape& plain : kShapes)
    for (const SparsePattern pattern : kPatterns)
      for (const double density : kDensities) {
        const SparseShape shape = With(plain, pattern, density);
        const Mask mask = MakeMask(shape, PlanSparse(shape), Integers(shape));
        EXPECT_DOUBLE_EQ(SparseDensity(shape), mask.Density()) << shape;
        const double scores = pattern == SparsePattern::kTopK ? mask.all : mask.pairs;
        EXPECT_DOUBLE_EQ(SparseFlop(shape),
                         2 * (scores + mask.pairs) * shape.heads * shape.head_dim);
      }
}

TEST(Sparse, TopKKeepsWhatItSays) {
  for (const SparseShape& plain : {kOddTail, kCausal})
    for (const double density : kDensities) {
      const SparseShape shape = With(plain, SparsePattern::kTopK, density);
      const Mask mask = MakeMask(shape, PlanSparse(shape), Integers(shape));
      for (size_t i = 0; i < mask.kept.size(); ++i)
        EXPECT_EQ(std::count(mask.kept[i].begin(), mask.kept[i].end(), true),
                  std::max<int64_t>(1, std::llround(density * mask.seen[i])));
    }
}

TEST(Sparse, TopKKeepsTheMostMassOfAnyPatternOfItsCount) {
  for (const SparseShape& plain : {kOddTail, kManyBlocks, kCausal})
    for (const SparsePattern pattern : {SparsePattern::kWindow, SparsePattern::kRadial})
      for (const double density : {0.1, 0.4}) {
        const SparseShape shape = With(plain, pattern, density);
        const Inputs in = Normal(shape);
        const Mask other = MakeMask(shape, PlanSparse(shape), in);
        for (size_t i = 0; i < other.kept.size(); ++i) {
          // A density that gives this query the same count.
          const auto count = std::count(other.kept[i].begin(), other.kept[i].end(), true);
          std::vector<float> scores;
          const int64_t queries = shape.frames_q * shape.tokens();
          const int64_t h = static_cast<int64_t>(i) / queries,
                        n = static_cast<int64_t>(i) % queries;
          for (int64_t l = 0; l < other.seen[i]; ++l)
            scores.push_back(static_cast<float>(Score(shape, in, h, n, l)));
          std::vector<int32_t> kept(scores.size());
          ASSERT_EQ(KeepLargest(scores.data(), other.seen[i], count, kept.data()), count);
          double kept_sum = 0, sum = 0;
          for (int64_t l = 0; l < count; ++l) kept_sum += Weight(shape, scores[kept[l]]);
          for (const float score : scores) sum += Weight(shape, score);
          EXPECT_GE(kept_sum / sum, other.mass[i] - 1e-6) << shape;
        }
      }
}

TEST(Sparse, PatternsAreSymmetric) {
  for (const SparsePattern pattern : {SparsePattern::kWindow, SparsePattern::kRadial})
    for (const double density : {0.053, 0.3}) {
      // As many query as key frames: every place is a query and a key.
      const SparseShape shape = With(
          {.frames_q = 9, .frames_kv = 9, .rows = 4, .cols = 5, .head_dim = 1}, pattern, density);
      const Mask mask = MakeMask(shape, PlanSparse(shape), Normal(shape));
      for (size_t i = 0; i < mask.kept.size(); ++i) {
        EXPECT_TRUE(mask.kept[i][i]);
        for (size_t l = 0; l < i; ++l) EXPECT_EQ(mask.kept[i][l], mask.kept[l][i]);
      }
    }
}

double DensityOf(const SparseShape& shape, const SparsePlan& plan) {
  return MakeMask(shape, plan, Normal(shape)).Density();
}

TEST(Sparse, WindowIsTheLargestThatFits) {
  for (const SparseShape& plain : {kOddTail, kManyBlocks, kCausal, kOneRow})
    for (const double density : {0.053, 0.25, 0.6}) {
      const SparseShape shape = With(plain, SparsePattern::kWindow, density);
      const SparsePlan plan = PlanSparse(shape);
      const double reached = DensityOf(shape, plan);
      EXPECT_TRUE(reached <= density ||
                  (plan.window.frames | plan.window.rows | plan.window.cols) == 0)
          << shape;
      for (int64_t WindowReach::*reach :
           {&WindowReach::frames, &WindowReach::rows, &WindowReach::cols}) {
        SparsePlan grown = plan;
        ++(grown.window.*reach);
        const double more = DensityOf(shape, grown);
        EXPECT_TRUE(more > density || more == reached) << shape;  // the axis may be used up
      }
    }
  // All three axes take part where there is room for that.
  const SparsePlan wan = PlanSparse(With({.frames_q = 3, .frames_kv = 21, .rows = 30, .cols = 52},
                                         SparsePattern::kWindow, kSparseDensityDefault));
  EXPECT_GE(wan.window.frames, 4);
  EXPECT_GE(wan.window.rows, 4);
  EXPECT_GE(wan.window.cols, 7);
}

TEST(Sparse, RadialIsTheLargestThatFits) {
  for (const SparseShape& plain : {kOddTail, kManyBlocks, kCausal, kOneRow})
    for (const double density : {0.053, 0.25, 0.6}) {
      const SparseShape shape = With(plain, SparsePattern::kRadial, density);
      SparsePlan plan = PlanSparse(shape);
      EXPECT_TRUE(DensityOf(shape, plan) <= density || plan.radial_base == 0) << shape;
      ++plan.radial_base;
      EXPECT_GT(DensityOf(shape, plan), density) << shape;
    }
}

TEST(Sparse, RadialWidthHalvesWithEachDoublingOfTheDistance) {
  EXPECT_EQ(RadialWidth(100, 0), 100);
  EXPECT_EQ(RadialWidth(100, 1), 100);
  for (const int64_t frames : {2, 3}) EXPECT_EQ(RadialWidth(100, frames), 50);
  for (const int64_t frames : {4, 5, 7}) EXPECT_EQ(RadialWidth(100, frames), 25);
  for (const int64_t frames : {8, 15}) EXPECT_EQ(RadialWidth(100, frames), 12);
  EXPECT_EQ(RadialWidth(100, 127), 1);
  // Past that every second frame, every fourth, ... keeps one token.
  EXPECT_EQ(RadialWidth(100, 128), 1);
  EXPECT_EQ(RadialWidth(100, 129), 0);
  EXPECT_EQ(RadialWidth(100, 130), 1);
  EXPECT_EQ(RadialWidth(100, 258), 0);
  EXPECT_EQ(RadialWidth(100, 260), 1);
  EXPECT_EQ(RadialWidth(0, 0), 1);
  EXPECT_EQ(RadialWidth(0, 1), 0);
  // Nothing is lost when the base grows.
  for (int64_t frames = 0; frames < 70; ++frames)
    for (int64_t base = 0; base < 70; ++base)
      EXPECT_LE(RadialWidth(base, frames), RadialWidth(base + 1, frames));
}

// The figures of docs/attention.md.
TEST(Sparse, ReachesNearlyTheDensityAtRealShapes) {
  const SparseShape wan = {.heads = 12, .frames_q = 3, .frames_kv = 21, .rows = 30, .cols = 52};
  const double topk = SparseDensity(With(wan, SparsePattern::kTopK, kSparseDensityDefault));
  const double window = SparseDensity(With(wan, SparsePattern::kWindow, kSparseDensityDefault));
  const double radial = SparseDensity(With(wan, SparsePattern::kRadial, kSparseDensityDefault));
  EXPECT_NEAR(topk, kSparseDensityDefault, 1e-4);
  EXPECT_GT(window, 0.049);
  EXPECT_LE(window, kSparseDensityDefault);
  EXPECT_GT(radial, 0.0525);
  EXPECT_LE(radial, kSparseDensityDefault);
}

TEST(KeepLargest, PrefersTheLowerIndexAmongEquals) {
  const std::vector<float> scores = {1, 3, -0.0f, 3, 0, 3, NAN, -INFINITY, 0, INFINITY};
  const auto keep = [&](int64_t count) {
    std::vector<int32_t> kept(scores.size());
    kept.resize(static_cast<size_t>(
        KeepLargest(scores.data(), static_cast<int64_t>(scores.size()), count, kept.data())));
    return kept;
  };
  using Indices = std::vector<int32_t>;
  EXPECT_EQ(keep(1), (Indices{6}));
  EXPECT_EQ(keep(2), (Indices{6, 9}));
  EXPECT_EQ(keep(3), (Indices{1, 6, 9}));
  EXPECT_EQ(keep(4), (Indices{1, 3, 6, 9}));
  EXPECT_EQ(keep(7), (Indices{0, 1, 2, 3, 5, 6, 9}));
  EXPECT_EQ(keep(8), (Indices{0, 1, 2, 3, 4, 5, 6, 9}));
  EXPECT_EQ(keep(10), (Indices{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}));
}

// Against sorting, with scores that differ in high and in low bits only.
TEST(KeepLargest, IsWhatSortingGives) {
  for (const double scale : {1.0, 1e-30, 1e30, 1e-7}) {
    std::vector<float> scores;
    for (const double x : RandomBf16(3000, 7)) {
      scores.push_back(static_cast<float>(scale * x));
      scores.push_back(static_cast<float>(1 + scale * x));
    }
    std::vector<int32_t> order(scores.size());
    for (size_t i = 0; i < order.size(); ++i) order[i] = static_cast<int32_t>(i);
    std::stable_sort(order.begin(), order.end(),
                     [&](int32_t a, int32_t b) { return scores[a] > scores[b]; });
    for (const int64_t count : {1, 2, 100, 2999, 5999, 6000}) {
      std::vector<int32_t> want(order.begin(), order.begin() + count), kept(scores.size());
      std::sort(want.begin(), want.end());
      kept.resize(static_cast<size_t>(KeepLargest(scores.data(), 6000, count, kept.data())));
      EXPECT_EQ(kept, want) << scale << ", " << count;
    }
  }
}

TEST(Sparse, RefusesShapesThatCannotBe) {
  constexpr int kHuge = 2147483647;
  const struct {
    SparseShape shape;
    const char* message;
  } cases[] = {
      {{.density = 0}, "got density 0.000000, need more than 0 and at most 1"},
      {{.density = -1}, "got density -1"},
      {{.density = 1.1}, "got density 1.1"},
      {{.density = NAN}, "got density "},
      {{.pattern = static_cast<SparsePattern>(9)}, "unknown pattern"},
      {{.heads = 0}, "got heads 0, need at least 1"},
      {{.frames_q = -1}, "got frames_q -1"},
      {{.frames_kv = 0}, "got frames_kv 0"},
      {{.rows = 0}, "got rows 0"},
      {{.cols = -3}, "got cols -3"},
      {{.head_dim = 0}, "got head_dim 0"},
      {{.frames_q = kHuge, .rows = kHuge, .cols = kHuge}, "2^36 elements"},
      {{.heads = kHuge, .frames_kv = kHuge, .rows = kHuge, .cols = kHuge}, "2^36 elements"},
      {{.frames_kv = 1 << 20, .rows = 1 << 12, .head_dim = 1}, "2^31 - 1 keys"},
      {{.pattern = SparsePattern::kWindow, .frames_kv = 65537}, "got frames_kv 65537"},
      {{.pattern = SparsePattern::kRadial, .cols = 65537}, "need at most 65536"},
      {{.pattern = SparsePattern::kWindow, .frames_q = 2}, "the last of the keys"},
      {{.causal_block_frames = -1}, "got causal_block_frames -1"},
      {{.frames_q = 1, .frames_kv = 2, .causal_block_frames = 1}, "need equal numbers"},
      {{.frames_q = 4, .frames_kv = 4, .causal_block_frames = 3}, "need a divisor of frames_kv 4"},
      {{.frames_q = 1 << 20, .frames_kv = 1 << 20, .causal_block_frames = 1},
       "got 1048576 causal blocks"},
      {{.storage = static_cast<StorageType>(9)}, "unknown storage type"},
  };
  for (const auto& c : cases) {
    const Status status = ValidateSparse(c.shape);
    EXPECT_EQ(status.code(), StatusCode::kInvalidArgument) << c.message;
    EXPECT_THAT(status.message(), HasSubstr("[sparse] got ")) << c.shape;
    EXPECT_THAT(status.message(), HasSubstr(c.message));
    EXPECT_EQ(PickSparse(c.shape).status().code(), StatusCode::kInvalidArgument);
  }
  for (const SparseShape& shape : kShapes) EXPECT_TRUE(ValidateSparse(shape).ok()) << shape;
  EXPECT_TRUE(ValidateSparse({.frames_q = 3, .frames_kv = 2}).ok());  // kTopK asks for no place
}

TEST(Sparse, PlansTheLargestShapesAtOnce) {
  for (const SparsePattern pattern : {SparsePattern::kWindow, SparsePattern::kRadial})
    for (const SparseShape& plain :
         {SparseShape{.frames_q = 65536, .frames_kv = 65536, .rows = 100, .cols = 300},
          SparseShape{.frames_kv = 1, .rows = 30'000, .cols = 60'000, .head_dim = 1}})
      EXPECT_LE(SparseDensity(With(plain, pattern, 0.3)), 0.3);
}

TEST(Sparse, PicksWhatIsForcedOrSaysWhyNot) {
  EXPECT_STREQ(SparseImpls().back().name, "reference");
  EXPECT_THAT(PickSparse(kOddTail, "fastest").status().message(), HasSubstr("need one of "));
  for (const SparseImpl& impl : SparseImpls()) {
    const Result<const SparseImpl*> picked = PickSparse(kOddTail, impl.name);
    const char* refusal = impl.refuses(kOddTail, GetCpuFeatures());
    if (refusal == nullptr) {
      EXPECT_EQ(picked.value(), &impl);
    } else {
      EXPECT_THAT(picked.status().message(), HasSubstr(refusal));
    }
  }
  const char* before = std::getenv("MRT_SPARSE_IMPL");
  const std::string restore = before == nullptr ? "" : before;
  setenv("MRT_SPARSE_IMPL", "portable", 1);
  EXPECT_STREQ(PickSparse(kOddTail).value()->name, "portable");
  setenv("MRT_SPARSE_IMPL", restore.c_str(), 1);
  if (before == nullptr) unsetenv("MRT_SPARSE_IMPL");
}

}  // namespace
}  // namespace mrt
