#include "pipeline/latent_source.h"

#include <gtest/gtest.h>

#include <chrono>
#include <string>
#include <thread>

#include "model/wan/transformer.h"
#include "pipeline/model_files.h"

namespace mrt {
namespace {

// A text may be set while the source's thread is at work, and what was asked before it was encoded
// no longer holds then: it is for the last chunk, or nothing is kept.
TEST(LatentSource, RefusesATextForNobody) {
  const auto files =
      OpenModelFiles({.model = std::string(MRT_GOLDEN_DIR) + "/toy_wan",
                      .checkpoint = "checkpoints/self_forcing_dmd.pt:generator_ema"});
  ASSERT_TRUE(files.ok()) << files.status().message();
  ops::Context context(ops::Precision::kF32);
  const auto transformer = WanTransformer::Load(context, files->transformer, files->config);
  ASSERT_TRUE(transformer.ok()) << transformer.status().message();
  const auto plan =
      PlanVideo(files->config, {.width = 80, .height = 48, .frames = 21}, ops::Precision::kF32);
  ASSERT_TRUE(plan.ok()) << plan.status().message();
  const Tensor embedding(DType::kF32, {files->config.text_len, files->config.text_dim});
  const auto text = [&] { return transformer->EncodeText(context, embedding); };
  for (const bool ahead : {false, true}) {
    const auto schedule = Schedule::Make({1000, 500}, 5);
    ASSERT_TRUE(schedule.ok());
    std::atomic<bool> stop = false;
    LatentMaker maker(context, *transformer, *plan, *schedule, /*seed=*/7, {});
    maker.SetText(text(), /*prompt=*/0, /*recache=*/false);
    LatentSource source(maker, {.ahead = ahead, .threads = 1, .stop = &stop, .lock = [] {
                                  return std::unique_lock<std::mutex>();
                                }});
    CrossKv second = text(), third = text();  // the context is the source's from Next() on
    EXPECT_EQ(source.next_change(), 0);
    const auto change = source.SetText(std::move(second), false);
    ASSERT_TRUE(change.ok()) << change.status().message();
    EXPECT_EQ(change->prompt, 1);
    EXPECT_EQ(change->position, 0);
    const int chunks = ahead ? 1 : 2;
    for (int i = 0; i < chunks; ++i) ASSERT_EQ(source.Next().value()->prompt, 1);
    while (source.next_change() < plan->latents)
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    EXPECT_EQ(source.CheckText().code(), StatusCode::kNotFound);
    EXPECT_EQ(source.SetText(std::move(third), false).status().code(), StatusCode::kNotFound);
    if (ahead) {
      EXPECT_EQ(source.Next().value()->prompt, 1);
    }
  }
}

}  // namespace
}  // namespace mrt
