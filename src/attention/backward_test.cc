#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "kernels/monarch/reference.h"
#include "monarchrt/attention.h"
#include "testing/attention_inputs.h"
#include "testing/expect_failure.h"

namespace monarchrt {
namespace {

using mrt::testing::ExpectFailure;
using mrt::testing::RandomBf16;
using mrt::testing::RelativeL2;
using mrt::testing::Stored;

constexpr AttentionProblem kProblem = {
    .batch = 2, .frames_q = 2, .frames_kv = 3, .rows = 4, .cols = 5, .heads = 2, .head_dim = 9};

// Every element of a batch against the definition in double, from both element types.
TEST(AttentionBackward, IsThatOfTheDefinition) {
  const int64_t frame = 4 * 5 * 2 * 9;
  const std::vector<double> q = RandomBf16(4 * frame, 1), k = RandomBf16(6 * frame, 2),
                            v = RandomBf16(6 * frame, 3), d_out = RandomBf16(4 * frame, 4);
  for (const int iterations : {1, 2})
    for (const ElementType element : {ElementType::kF32, ElementType::kBF16}) {
      AttentionProblem problem = kProblem;
      problem.element = element;
      const bool bf16 = element == ElementType::kBF16;
      const auto q_in = Stored(q, bf16), k_in = Stored(k, bf16), v_in = Stored(v, bf16);
      const auto d_out_in = Stored(d_out, bf16);
      std::vector<float> d_q(q.size()), d_k(k.size()), d_v(v.size());
      const Status status =
          MonarchAttentionBackward({.h_reduce = 2, .iterations = iterations}, problem,
                                   {.q = q_in.data(), .k = k_in.data(), .v = v_in.data()},
                                   {d_out_in.data(), d_q.data(), d_k.data(), d_v.data()});
      ASSERT_TRUE(status.ok()) << status.message();
      for (int64_t b = 0; b < 2; ++b) {
        const auto part = [&](const auto& x) {
          const auto half = static_cast<int64_t>(x.size()) / 2;
          return std::vector<double>(x.begin() + b * half, x.begin() + (b + 1) * half);
        };
        const mrt::MonarchGradients want =
            mrt::MonarchReferenceBackward({.heads = 2,
                                           .frames_q = 2,
                                           .frames_kv = 3,
                                           .rows = 4,
                                           .cols = 5,
                                           .head_dim = 9,
                                           .h_reduce = 2,
                                           .iterations = iterations},
                                          part(q), part(k), part(v), part(d_out));
        EXPECT_LE(RelativeL2(part(d_q), want.q), 1e-5);
        EXPECT_LE(RelativeL2(part(d_k), want.k), 1e-5);
        EXPECT_LE(RelativeL2(part(d_v), want.v), 1e-5);
      }
    }
}

TEST(AttentionBackward, RefusesWhatCannotBe) {
  const AttentionProblem problem = {.rows = 2, .cols = 2, .head_dim = 4};
  std::vector<float> x(16), d_q(16, 7.0f), d_k(16), d_v(32);
  const AttentionTensors in = {.q = x.data(), .k = x.data(), .v = x.data()};
  const AttentionGradients good = {x.data(), d_q.data(), d_k.data(), d_v.data()};
  const auto expect = [&](const AttentionOptions& options, const AttentionTensors& tensors,
                          const AttentionGradients& gradients, const char* message) {
    ExpectFailure(MonarchAttentionBackward(options, problem, tensors, gradients),
                  StatusCode::kInvalidArgument, message);
  };
  expect({.mode = AttentionMode::kDense}, in, good,
         "[attention] got mode dense, need monarch: only it has gradients");
  expect({.f_tied = 3}, in, good, "[monarch] got f_tied 3");
  expect({.implementation = "fastest"}, in, good, "[monarch backward] got implementation fastest");
  expect({}, {.q = x.data(), .k = x.data()}, good, "got no v, need a tensor");
  expect({}, in, {nullptr, d_q.data(), d_k.data(), d_v.data()}, "got no d_out, need a tensor");
  expect({}, in, {x.data(), nullptr, d_k.data(), d_v.data()}, "got no d_q, need a tensor");
  expect({}, in, {x.data(), x.data(), d_k.data(), d_v.data()},
         "got a d_q that overlaps q, need memory of its own");
  expect({}, in, {x.data(), d_q.data(), d_v.data() + 15, d_v.data()},
         "got a d_k that overlaps d_v, need memory of its own");
  ExpectFailure(MonarchAttentionBackward({}, problem, in, good, -1), StatusCode::kInvalidArgument,
                "[threads]");
  ExpectFailure(
      MonarchAttentionBackward({.iterations = 2, .implementation = "portable"}, problem, in, good),
      StatusCode::kUnavailable, "one refinement step only");
  EXPECT_EQ(d_q, std::vector<float>(16, 7.0f)) << "written by a call that failed";
  EXPECT_TRUE(MonarchAttentionBackward({}, problem, in, good).ok());
  EXPECT_NE(d_q, std::vector<float>(16, 7.0f));
}

}  // namespace
}  // namespace monarchrt
