#include "monarchrt/attention.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <thread>

#include "base/threads.h"
#include "kernels/dense/reference.h"
#include "kernels/monarch/reference.h"
#include "kernels/sparse/reference.h"
#include "testing/attention_inputs.h"
#include "testing/expect_failure.h"
#include "testing/golden_attention.h"
#include "testing/sanitizer.h"

namespace monarchrt {
namespace {

using mrt::Rounding;
using mrt::testing::ExpectFailure;
using mrt::testing::GoldenAttention;
using mrt::testing::GuardedBuffer;
using mrt::testing::Loaded;
using mrt::testing::RandomBf16;
using mrt::testing::RelativeL2;
using mrt::testing::Stored;

constexpr double kToleranceF32 = 1e-4;  // relative L2, as for every golden file

struct Inputs {
  std::vector<double> q, k, v;
};

Inputs RandomInputs(const AttentionProblem& p) {
  const int64_t frame = p.batch * p.rows * p.cols * p.heads * p.head_dim;
  return {RandomBf16(p.frames_q * frame, 1), RandomBf16(p.frames_kv * frame, 2),
          RandomBf16(p.frames_kv * frame, 3)};
}

// Every tensor ends at a guard page.
std::vector<double> Attended(const AttentionOptions& options, const AttentionProblem& problem,
                             const Inputs& in, int threads = 0) {
  const bool bf16 = problem.element == ElementType::kBF16;
  const GuardedBuffer q = Stored(in.q, bf16), k = Stored(in.k, bf16), v = Stored(in.v, bf16);
  const GuardedBuffer out = Stored(std::vector<double>(in.q.size(), NAN), bf16);
  const Status status =
      Attend(options, problem, {q.data(), k.data(), v.data(), out.data()}, threads);
  EXPECT_TRUE(status.ok()) << status.message();
  return Loaded(out, static_cast<int64_t>(in.q.size()), bf16);
}

AttentionProblem ProblemOf(const GoldenAttention& g) {
  return {.frames_q = g.frames_q,
          .frames_kv = g.frames_kv,
          .rows = g.rows,
          .cols = g.cols,
          .heads = g.heads,
          .head_dim = g.head_dim,
          .causal_block_frames = g.causal_block_frames};
}

AttentionOptions OptionsOf(const GoldenAttention& g, AttentionMode mode) {
  return {.mode = mode,
          .f_tied = g.f_tied,
          .h_reduce = g.h_reduce,
          .w_reduce = g.w_reduce,
          .iterations = g.iterations};
}

// What rounding costs the definition.
double RoundingLoss(const GoldenAttention& g, AttentionMode mode, Rounding rounding,
                    const std::vector<double>& want) {
  if (mrt::testing::kSanitized) return 4e-3;  // to compute it takes most of the time
  if (mode == AttentionMode::kMonarch)
    return RelativeL2(mrt::MonarchReference({.heads = g.heads,
                                             .frames_q = g.frames_q,
                                             .frames_kv = g.frames_kv,
                                             .rows = g.rows,
                                             .cols = g.cols,
                                             .head_dim = g.head_dim,
                                             .f_tied = g.f_tied,
                                             .h_reduce = g.h_reduce,
                                             .w_reduce = g.w_reduce,
                                             .iterations = g.iterations,
                                             .causal_block_frames = g.causal_block_frames},
                                            g.q, g.k, g.v, rounding),
                      want);
  const int64_t tokens = int64_t{g.rows} * g.cols;
  return RelativeL2(mrt::DenseReference({.heads = g.heads,
                                         .tokens_q = g.frames_q * tokens,
                                         .tokens_per_frame = tokens,
                                         .frames_kv = g.frames_kv,
                                         .head_dim = g.head_dim,
                                         .causal_block_frames = g.causal_block_frames,
                                         .scale = 1 / std::sqrt(static_cast<float>(g.head_dim))},
                                        g.q, g.k, g.v, {}, rounding),
                    want);
}

TEST(Attention, MatchesTheGoldenFilesWithEveryImplementation) {
  int compared = 0;
  for (const GoldenAttention& g : mrt::testing::ReadGoldenAttention(MRT_GOLDEN_DIR))
    for (const AttentionMode mode : {AttentionMode::kDense, AttentionMode::kMonarch})
      for (const ElementType element : {ElementType::kF32, ElementType::kBF16}) {
        const std::vector<double>& want = mode == AttentionMode::kDense ? g.dense_out : g.out;
        if (want.empty()) continue;  // not every file holds both
        AttentionProblem problem = ProblemOf(g);
        problem.element = element;
        AttentionOptions options = OptionsOf(g, mode);
        const auto list = ListAttentionImplementations(options, problem);
        ASSERT_TRUE(list.ok()) << list.status().message();
        for (const AttentionImplementation& impl : list.value()) {
          if (!impl.refuses.empty()) continue;
          options.implementation = impl.name;
          const Rounding rounding =
              impl.bf16_products ? Rounding::kBf16Operands : Rounding::kBf16Output;
          const double allowed = element == ElementType::kF32
                                     ? kToleranceF32
                                     : 2 * RoundingLoss(g, mode, rounding, want);
          EXPECT_LE(RelativeL2(Attended(options, problem, {g.q, g.k, g.v}), want), allowed)
              << g.name << ", " << impl.name;
          ++compared;
        }
      }
  EXPECT_GE(compared, 2 * 2 * 12 * 2);
}

TEST(Attention, RunsTheBaselinesWithEveryImplementation) {
  const AttentionProblem plain = {
      .frames_q = 3, .frames_kv = 6, .rows = 5, .cols = 7, .heads = 2, .head_dim = 24};
  AttentionProblem causal = plain;
  causal.frames_q = 6;
  causal.causal_block_frames = 3;
  const struct {
    AttentionMode mode;
    mrt::SparsePattern pattern;
  } baselines[] = {{AttentionMode::kTopK, mrt::SparsePattern::kTopK},
                   {AttentionMode::kWindow, mrt::SparsePattern::kWindow},
                   {AttentionMode::kRadial, mrt::SparsePattern::kRadial}};
  for (const AttentionProblem& problem : {plain, causal})
    for (const auto& baseline : baselines) {
      AttentionOptions options = {.mode = baseline.mode, .density = 0.3};
      const Inputs in = RandomInputs(problem);
      const std::vector<double> want =
          mrt::SparseReference({.pattern = baseline.pattern,
                                .density = 0.3,
                                .heads = problem.heads,
                                .frames_q = problem.frames_q,
                                .frames_kv = problem.frames_kv,
                                .rows = problem.rows,
                                .cols = problem.cols,
                                .head_dim = problem.head_dim,
                                .causal_block_frames = problem.causal_block_frames},
                               in.q, in.k, in.v);
      const auto list = ListAttentionImplementations(options, problem);
      ASSERT_TRUE(list.ok()) << list.status().message();
      for (const AttentionImplementation& impl : list.value()) {
        if (!impl.refuses.empty()) continue;
        options.implementation = impl.name;
        EXPECT_LE(RelativeL2(Attended(options, problem, in), want), kToleranceF32)
            << AttentionModeName(baseline.mode) << ", " << impl.name;
      }
    }
}

TEST(Attention, BaselinesThatKeepAllAreDense) {
  const AttentionProblem problem = {
      .batch = 2, .frames_q = 2, .frames_kv = 4, .rows = 3, .cols = 5, .heads = 2, .head_dim = 8};
  const Inputs in = RandomInputs(problem);
  const std::vector<double> dense = Attended({.mode = AttentionMode::kDense}, problem, in);
  for (const AttentionMode mode :
       {AttentionMode::kTopK, AttentionMode::kWindow, AttentionMode::kRadial}) {
    EXPECT_LE(RelativeL2(Attended({.mode = mode, .density = 1}, problem, in), dense), 1e-6);
    EXPECT_GT(RelativeL2(Attended({.mode = mode, .density = 0.2}, problem, in), dense), 1e-2);
  }
}

TEST(Attention, NamesItsModes) {
  std::vector<std::string> names;
  for (const AttentionMode mode : ListAttentionModes()) names.emplace_back(AttentionModeName(mode));
  EXPECT_THAT(names, ::testing::ElementsAre("dense", "monarch", "topk", "window", "radial"));
  EXPECT_STREQ(AttentionModeName(static_cast<AttentionMode>(9)), "unknown");
}

TEST(Attention, ComputesEachElementOfABatch) {
  AttentionProblem problem = {
      .batch = 3, .frames_q = 2, .frames_kv = 3, .rows = 4, .cols = 5, .heads = 2, .head_dim = 17};
  const Inputs all = RandomInputs(problem);
  for (const AttentionMode mode : {AttentionMode::kDense, AttentionMode::kMonarch}) {
    problem.batch = 3;
    const std::vector<double> together = Attended({.mode = mode}, problem, all);
    problem.batch = 1;
    const auto part = [](const std::vector<double>& x, int b) {
      const auto size = static_cast<int64_t>(x.size() / 3);
      return std::vector<double>(x.begin() + b * size, x.begin() + (b + 1) * size);
    };
    for (int b = 0; b < 3; ++b)
      EXPECT_EQ(part(together, b), Attended({.mode = mode}, problem,
                                            {part(all.q, b), part(all.k, b), part(all.v, b)}));
  }
}

TEST(Attention, TakesHeadMajorKeysAndValues) {
  AttentionProblem problem = {
      .batch = 2, .frames_q = 2, .frames_kv = 3, .rows = 4, .cols = 5, .heads = 3, .head_dim = 17};
  const Inputs in = RandomInputs(problem);
  Inputs head_major = in;
  for (std::vector<double>* x : {&head_major.k, &head_major.v}) {
    const std::vector<double> token_major = *x;
    size_t to = 0;
    for (int64_t frame = 0; frame < 2 * 3; ++frame)
      for (int64_t head = 0; head < 3; ++head)
        for (int64_t token = 0; token < 20; ++token)
          for (int64_t d = 0; d < 17; ++d)
            (*x)[to++] = token_major[((frame * 20 + token) * 3 + head) * 17 + d];
  }
  for (const AttentionMode mode : ListAttentionModes()) {
    problem.kv_layout = AttentionKvLayout::kTokenMajor;
    const std::vector<double> want = Attended({.mode = mode}, problem, in);
    problem.kv_layout = AttentionKvLayout::kHeadMajor;
    EXPECT_EQ(Attended({.mode = mode}, problem, head_major), want) << AttentionModeName(mode);
  }
}

TEST(Attention, LeavesTheCallersThreadCountAlone) {
  mrt::SetThreadCount(5);
  const AttentionProblem problem = {.rows = 4, .cols = 4, .head_dim = 8};
  const Inputs in = RandomInputs(problem);
  const std::vector<double> one = Attended({}, problem, in, 1);
  EXPECT_EQ(one, Attended({}, problem, in, 3));
  EXPECT_EQ(mrt::ThreadCount(), 5);
  mrt::SetThreadCount(0);
}

TEST(Attention, RunsOnTwoThreadsAtOnce) {
  const AttentionProblem problem = {
      .frames_q = 2, .frames_kv = 4, .rows = 6, .cols = 10, .heads = 2, .head_dim = 32};
  const Inputs in = RandomInputs(problem);
  const AttentionOptions monarch, dense = {.mode = AttentionMode::kDense};
  const std::vector<double> want[] = {Attended(monarch, problem, in), Attended(dense, problem, in)};
  std::vector<double> got[2];
  const auto repeat = [&](int which) {
    for (int i = 0; i < 20; ++i)
      got[which] = Attended(which == 0 ? monarch : dense, problem, in, 2);
  };
  std::thread other(repeat, 1);
  repeat(0);
  other.join();
  EXPECT_EQ(got[0], want[0]);
  EXPECT_EQ(got[1], want[1]);
}

TEST(Attention, RefusesSizesThatCannotBe) {
  constexpr int kHuge = std::numeric_limits<int>::max();
  constexpr int64_t kHugeBatch = std::numeric_limits<int64_t>::max();
  float x[1];
  const struct {
    AttentionProblem problem;
    AttentionOptions options;
    const char* message;
  } cases[] = {
      {{.batch = 0}, {}, "got batch 0, need at least 1"},
      {{.frames_q = -1}, {}, "got frames_q -1"},
      {{.frames_kv = 0}, {}, "got frames_kv 0"},
      {{.rows = 0}, {}, "got rows 0"},
      {{.cols = -7}, {}, "got cols -7"},
      {{.heads = 0}, {}, "got heads 0"},
      {{.head_dim = std::numeric_limits<int>::min()}, {}, "got head_dim -2147483648"},
      {{.batch = kHugeBatch}, {}, "2^47 bytes"},
      {{.batch = kHugeBatch, .frames_kv = kHuge, .rows = kHuge, .cols = kHuge}, {}, "2^47 bytes"},
      {{.frames_q = kHuge, .rows = kHuge, .cols = kHuge, .heads = kHuge, .head_dim = kHuge},
       {.mode = AttentionMode::kDense},
       "2^47 bytes"},
      {{.element = static_cast<ElementType>(9)}, {}, "unknown element type"},
      {{.kv_layout = static_cast<AttentionKvLayout>(2)}, {}, "unknown kv_layout"},
      {{}, {.mode = static_cast<AttentionMode>(9)}, "unknown mode"},
      {{}, {.mode = AttentionMode::kTopK, .density = 0}, "got density 0"},
      {{}, {.mode = AttentionMode::kWindow, .density = 1.5}, "more than 0 and at most 1"},
      {{.frames_q = 2}, {.mode = AttentionMode::kRadial}, "the last of the keys"},
      {{.frames_q = 4, .frames_kv = 6}, {.f_tied = 3}, "need a divisor of frames_q 4"},
      {{.rows = 30}, {.h_reduce = 4}, "got h_reduce 4, need a divisor of rows 30"},
      {{.cols = 52}, {.w_reduce = 0}, "got w_reduce 0"},
      {{}, {.iterations = 0}, "got iterations 0"},
      {{.frames_q = 2, .frames_kv = 4, .causal_block_frames = 2}, {}, "need equal numbers"},
      {{.frames_q = 2, .frames_kv = 4, .causal_block_frames = 2},
       {.mode = AttentionMode::kDense},
       "when block-causal"},
      {{.causal_block_frames = -1}, {}, "got causal_block_frames -1"},
  };
  for (const auto& c : cases) {
    const auto code = StatusCode::kInvalidArgument;
    // No tensor of such sizes can exist: what is wrong must be seen before one is looked at.
    ExpectFailure(Attend(c.options, c.problem, {x, x, x, x + 1}), code, c.message);
    ExpectFailure(ListAttentionImplementations(c.options, c.problem).status(), code, c.message);
    if (c.options.mode != AttentionMode::kDense || c.problem.causal_block_frames == 0)
      ExpectFailure(AttentionSparsity(c.options, c.problem).status(), code, c.message);
  }
}

TEST(Attention, RefusesPointersThatCannotBe) {
  const AttentionProblem problem = {.frames_kv = 2, .rows = 2, .cols = 2, .head_dim = 4};
  // Parts of one buffer with room between them: what overlaps what does not depend on the heap.
  constexpr int kElements = 16;  // of q and out; k and v have twice as many
  std::vector<float> buffer(12 * kElements);
  float* const q = &buffer[1 * kElements];
  float* const k = &buffer[3 * kElements];
  float* const v = &buffer[7 * kElements];
  float* const out = &buffer[10 * kElements];
  const auto message = [&](const AttentionTensors& tensors) {
    const Status status = Attend({}, problem, tensors);
    EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
    return status.message();
  };
  EXPECT_TRUE(Attend({}, problem, {q, k, v, out}).ok());
  EXPECT_TRUE(Attend({}, problem, {k, k, k, out}).ok());
  EXPECT_TRUE(Attend({}, problem, {q, k, v, q + kElements}).ok()) << "neighbours do not overlap";
  EXPECT_TRUE(Attend({}, problem, {q, k, v, q - kElements}).ok()) << "neighbours do not overlap";
  EXPECT_EQ(message({nullptr, k, v, out}), "[attention] got no q, need a tensor");
  EXPECT_EQ(message({q, nullptr, v, out}), "[attention] got no k, need a tensor");
  EXPECT_EQ(message({q, k, nullptr, out}), "[attention] got no v, need a tensor");
  EXPECT_EQ(message({q, k, v, nullptr}), "[attention] got no out, need a tensor");
  EXPECT_EQ(message({q, reinterpret_cast<char*>(k) + 2, v, out}),
            "[attention] got k at an unaligned address, need a multiple of 4");
  EXPECT_EQ(message({q, k, v, q}),
            "[attention] got an out that overlaps q, need memory of its own");
  EXPECT_EQ(message({q, k, v, k + 2 * kElements - 1}),
            "[attention] got an out that overlaps k, need memory of its own");
  EXPECT_EQ(message({q, k, v, v - kElements + 1}),
            "[attention] got an out that overlaps v, need memory of its own");
  // An end past the last address is no way around the check.
  float* const last = reinterpret_cast<float*>(~uintptr_t{3});
  EXPECT_EQ(message({last, k, v, last - 1}),
            "[attention] got an out that overlaps q, need memory of its own");
}

TEST(Attention, RefusesThreadsAndImplementationsThatCannotBe) {
  const AttentionProblem problem = {.rows = 2, .cols = 2, .head_dim = 4};
  std::vector<float> x(16), out(16, 7.0f);
  const AttentionTensors tensors = {x.data(), x.data(), x.data(), out.data()};
  ExpectFailure(Attend({}, problem, tensors, -1), StatusCode::kInvalidArgument, "[threads]");
  ExpectFailure(Attend({}, problem, tensors, 1 << 20), StatusCode::kInvalidArgument, "[threads]");
  for (const AttentionMode mode : {AttentionMode::kDense, AttentionMode::kMonarch}) {
    ExpectFailure(Attend({.mode = mode, .implementation = "fastest"}, problem, tensors),
                  StatusCode::kInvalidArgument, "need one of ");
    const auto list =
        ListAttentionImplementations({.mode = mode, .implementation = "reference"}, problem);
    ASSERT_TRUE(list.ok());
    EXPECT_EQ(list->back().name, "reference");
    EXPECT_TRUE(list->back().chosen);
    const auto refusing =
        std::ranges::find_if(*list, [](const auto& impl) { return !impl.refuses.empty(); });
    if (refusing != list->end())
      ExpectFailure(Attend({.mode = mode, .implementation = refusing->name}, problem, tensors),
                    StatusCode::kUnavailable, refusing->refuses);
  }
  EXPECT_EQ(out, std::vector<float>(16, 7.0f));  // a refusal leaves it alone
}

TEST(Attention, ChoosesTheFirstThatDoesNotRefuse) {
  const auto list = ListAttentionImplementations({}, {.rows = 30, .cols = 52});
  ASSERT_TRUE(list.ok());
  const auto first =
      std::ranges::find_if(*list, [](const auto& impl) { return impl.refuses.empty(); });
  for (const auto& impl : *list) EXPECT_EQ(impl.chosen, &impl == &*first) << impl.name;
}

TEST(Attention, TellsTheSparsity) {
  const AttentionProblem wan = {.frames_q = 3, .frames_kv = 21, .rows = 30, .cols = 52};
  EXPECT_NEAR(AttentionSparsity({}, wan).value(), 0.947, 5e-4);
  EXPECT_NEAR(AttentionSparsity({.h_reduce = 2}, wan).value(), 0.914, 5e-4);
  EXPECT_EQ(AttentionSparsity({.mode = AttentionMode::kDense}, wan).value(), 0);
}

TEST(Attention, TellsTheDensity) {
  const AttentionProblem wan = {.frames_q = 3, .frames_kv = 21, .rows = 30, .cols = 52};
  EXPECT_EQ(*AttentionDensity({.mode = AttentionMode::kDense}, wan), 1);
  EXPECT_NEAR(*AttentionDensity({}, wan), (30.0 + 52) / (30 * 52), 1e-12);
  EXPECT_NEAR(*AttentionDensity({.mode = AttentionMode::kTopK}, wan), 0.053, 1e-4);
  for (const AttentionMode mode : {AttentionMode::kWindow, AttentionMode::kRadial}) {
    const double density = *AttentionDensity({.mode = mode}, wan);
    EXPECT_GT(density, 0.049);
    EXPECT_LE(density, 0.053);
    EXPECT_EQ(*AttentionSparsity({.mode = mode}, wan), 1 - density);
    EXPECT_DOUBLE_EQ(*AttentionFlop({.mode = mode}, wan),
                     density * *AttentionFlop({.mode = AttentionMode::kDense}, wan));
  }
  EXPECT_FALSE(AttentionDensity({.mode = AttentionMode::kTopK, .density = -1}, wan).ok());
}

// The figures of docs/attention.md, and by hand: one tile of 2 x 3 tokens with one channel has
// 3 * 2 * 9 + 2 * 3 * 4 = 78 products of one multiplication and one addition.
TEST(Attention, CountsOperations) {
  const AttentionOptions dense = {.mode = AttentionMode::kDense};
  const AttentionProblem wan = {
      .frames_q = 3, .frames_kv = 21, .rows = 30, .cols = 52, .heads = 12};
  EXPECT_NEAR(*AttentionFlop(dense, wan), 942e9, 1e9);
  EXPECT_NEAR(*AttentionFlop({}, wan), 65.2e9, 1e8);
  const AttentionProblem tiny = {.rows = 2, .cols = 3, .head_dim = 1};
  EXPECT_EQ(*AttentionFlop(dense, tiny), 4 * 36);
  EXPECT_EQ(*AttentionFlop({}, tiny), 2 * 78);
  EXPECT_EQ(*AttentionFlop({.iterations = 3}, tiny), 3 * 2 * 78);
  const AttentionProblem cut = {.batch = 5, .rows = 4, .cols = 6, .head_dim = 1};
  EXPECT_EQ(*AttentionFlop({.h_reduce = 2, .w_reduce = 2}, cut), 5 * 16 * 2 * 78);  // 4 x 4 tiles
  // Blocks of two frames see 2, 4 and 6 of 6 frames.
  const AttentionProblem causal = {
      .frames_q = 6, .frames_kv = 6, .rows = 2, .cols = 3, .head_dim = 1, .causal_block_frames = 2};
  EXPECT_EQ(*AttentionFlop({}, causal), 2 * (2 + 4 + 6) * 2 * 78);
  EXPECT_EQ(*AttentionFlop(dense, causal), 2 * (2 + 4 + 6) * 4 * 36);
  EXPECT_FALSE(AttentionFlop({.h_reduce = 5}, tiny).ok());
}

}  // namespace
}  // namespace monarchrt
