#include "pipeline/plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <memory>

#include "testing/expect_failure.h"

namespace mrt {
namespace {

using monarchrt::StreamOptions;
using ::testing::HasSubstr;

WanConfig SmallConfig() {
  WanConfig config = {};
  config.dim = 256;
  config.num_heads = 2;
  config.num_layers = 2;
  config.patch_size = {1, 2, 2};
  return config;
}

std::string Refusal(const StreamOptions& options) {
  const Result<VideoPlan> plan = PlanVideo(SmallConfig(), options, ops::Precision::kF32);
  return plan.ok() ? "" : plan.status().message();
}

TEST(Plan, CountsChunksFromVideoFrames) {
  for (const auto& [frames, chunks] :
       {std::pair{1, 1}, {9, 1}, {10, 2}, {21, 2}, {22, 3}, {81, 7}, {82, 8}}) {
    const Result<VideoPlan> plan =
        PlanVideo(SmallConfig(), {.frames = frames}, ops::Precision::kF32);
    ASSERT_TRUE(plan.ok()) << plan.status().message();
    EXPECT_EQ(plan->latents, chunks * kChunkLatentFrames) << frames;
  }
}

TEST(Plan, DerivesTheGrid) {
  const Result<VideoPlan> plan = PlanVideo(SmallConfig(), {}, ops::Precision::kF32);
  ASSERT_TRUE(plan.ok());
  EXPECT_EQ(plan->latent_rows, 60);
  EXPECT_EQ(plan->latent_cols, 104);
  EXPECT_EQ(plan->grid.rows, 30);
  EXPECT_EQ(plan->grid.cols, 52);
  EXPECT_EQ(plan->window_frames, 21);
}

TEST(Plan, NamesTheNearestSizesThatFit) {
  EXPECT_THAT(Refusal({.width = 830}), HasSubstr("nearest: 816 or 832"));
  EXPECT_THAT(Refusal({.height = 1}), HasSubstr("nearest: 16"));
  EXPECT_THAT(Refusal({.width = 0}), HasSubstr("need a multiple of 16"));
  EXPECT_THAT(Refusal({.width = -32}), HasSubstr("need a multiple of 16"));
  EXPECT_THAT(Refusal({.width = std::numeric_limits<int>::max()}), HasSubstr("8192"));
  // Four cuts of the columns need columns that four divides: 64 pixels.
  EXPECT_THAT(Refusal({.width = 848, .attention = {.w_reduce = 4}}),
              HasSubstr("nearest: 832 or 896"));
  EXPECT_EQ(Refusal({.width = 832, .attention = {.w_reduce = 4}}), "");
}

TEST(Plan, RefusesSettingsThatCannotWork) {
  EXPECT_NE(Refusal({.frames = 0}), "");
  EXPECT_NE(Refusal({.frames = -5}), "");
  EXPECT_NE(Refusal({.frames = std::numeric_limits<int64_t>::max()}), "");
  EXPECT_NE(Refusal({.attention = {.f_tied = 0}}), "");
  EXPECT_NE(Refusal({.attention = {.f_tied = 2}}), "");  // does not divide a chunk of 3
  EXPECT_NE(Refusal({.attention = {.iterations = 0}}), "");
  EXPECT_NE(Refusal({.window_frames = 2}), "");
  EXPECT_NE(Refusal({.window_frames = 6, .sink_frames = 4}), "");
  EXPECT_NE(Refusal({.sink_frames = -1}), "");
  EXPECT_NE(Refusal({.attention = {.f_tied = 3}, .window_frames = 20}), "");
  EXPECT_NE(Refusal({.attention = {.implementation = "no such kernel"}}), "");
  EXPECT_EQ(Refusal({.window_frames = 6, .sink_frames = 3}), "");
  EXPECT_THAT(Refusal({.attention = {.h_reduce = 600}}), HasSubstr("cuts of the height"));
}

// A window as long as the video never evicts, so a sink changes nothing and needs no room.
TEST(Plan, TakesASinkThatAShortVideoDoesNotNeed) {
  for (int window : {-1, 3, 21})
    for (int sink : {0, 1, 10}) {
      const Result<VideoPlan> plan =
          PlanVideo(SmallConfig(), {.frames = 9, .window_frames = window, .sink_frames = sink},
                    ops::Precision::kF32);
      ASSERT_TRUE(plan.ok()) << plan.status().message();
      EXPECT_EQ(plan->window_frames, 3);
      EXPECT_EQ(plan->sink_frames, 0);
    }
}

TEST(Plan, KnowsTheChunkThatNothingFollows) {
  const auto final_frames = [](const StreamOptions& options) {
    return PlanVideo(SmallConfig(), options, ops::Precision::kF32).value().final_frames();
  };
  EXPECT_EQ(final_frames({.frames = 81}), 3);
  EXPECT_EQ(final_frames({.frames = 9}), 3);
  EXPECT_EQ(final_frames({.frames = 1, .independent_first_frame = true}), 1);
  EXPECT_EQ(final_frames({.frames = 81, .window_frames = 18}), 0);
}

TEST(Plan, RefusesMoreMemoryThanThereIs) {
  EXPECT_TRUE(CheckMemory(1 << 20).ok());
  const Status status = CheckMemory(int64_t{1} << 60);
  EXPECT_EQ(status.code(), StatusCode::kOutOfMemory);
  EXPECT_THAT(status.message(), HasSubstr("available"));
}

TEST(Plan, StoresTheKvCacheAsActivationsOrAsBf16) {
  using monarchrt::KvCacheType;
  const auto dtype = [](KvCacheType type, ops::Precision precision) {
    return PlanVideo(SmallConfig(), {.kv_cache = type}, precision).value().kv_dtype;
  };
  EXPECT_EQ(dtype(KvCacheType::kAuto, ops::Precision::kF32), DType::kF32);
  EXPECT_EQ(dtype(KvCacheType::kBF16, ops::Precision::kF32), DType::kBF16);
  EXPECT_EQ(ResolveKvCache(KvCacheType::kAuto, ops::Precision::kBF16), DType::kBF16);
}

TEST(ResolveWeights, TakesInt8WhereItIsStoredOrAskedFor) {
  using monarchrt::Precision;
  Checkpoint floating, stored;
  const auto matrix = std::make_shared<Tensor>(DType::kI8, Shape{2, 2});
  stored.Add("blocks.0.ffn.0.weight", *matrix, matrix);
  const auto resolve = [&](Precision precision, const Checkpoint& checkpoint) {
    return ResolveWeights(precision, checkpoint, SmallConfig());
  };
  for (const Precision precision : {Precision::kAuto, Precision::kF32, Precision::kBF16})
    EXPECT_EQ(resolve(precision, floating).value(), ops::WeightType::kActivation);
  for (const Checkpoint* checkpoint : {&floating, &stored})
    EXPECT_EQ(resolve(Precision::kInt8, *checkpoint).value(), ops::WeightType::kInt8);
  EXPECT_EQ(resolve(Precision::kAuto, stored).value(), ops::WeightType::kInt8);
  for (const Precision precision : {Precision::kF32, Precision::kBF16})
    testing::ExpectFailure(resolve(precision, stored).status(), StatusCode::kInvalidArgument,
                           "holds int8 weights, need --dtype int8 or auto");
  WanConfig wide = SmallConfig();
  wide.ffn_dim = 65537;
  testing::ExpectFailure(ResolveWeights(Precision::kInt8, floating, wide).status(),
                         StatusCode::kInvalidArgument, "need at most 65536 for int8");
  EXPECT_EQ(ResolvePrecision(Precision::kInt8).value(), ResolvePrecision(Precision::kAuto).value());
  EXPECT_STREQ(DtypeName(ops::Precision::kBF16, ops::WeightType::kInt8), "int8");
  EXPECT_STREQ(DtypeName(ops::Precision::kBF16, ops::WeightType::kActivation), "bf16");
  EXPECT_STREQ(DtypeName(ops::Precision::kF32, ops::WeightType::kActivation), "f32");
}

}  // namespace
}  // namespace mrt
