// What the C API says of an engine on a GPU, which is one of testing/fake_gpu.h.
#include <gtest/gtest.h>

#include <cstddef>
#include <string>

#include "monarchrt/c_api.h"
#include "testing/fake_gpu.h"

namespace mrt {
namespace {

TEST(CApiOnAGpu, TellsTheDeviceAndItsMemory) {
  if (!ops::HasNativeBF16()) GTEST_SKIP() << "this CPU has no bf16 arithmetic";
  const std::string model = std::string(MRT_GOLDEN_DIR) + "/toy_wan";
  mrt_engine_options options;
  ASSERT_EQ(mrt_engine_options_init(&options, sizeof(options)), MRT_OK);
  options.model = model.c_str();
  options.checkpoint = "checkpoints/self_forcing_dmd.pt:generator_ema";
  options.device = "cuda:1";
  mrt_stream_options video;
  ASSERT_EQ(mrt_stream_options_init(&video, sizeof(video)), MRT_OK);
  video.prompt = "A red ball bounces.";
  video.width = 80;
  video.height = 48;
  video.frames = 9;
  mrt_memory_estimate memory = {sizeof(memory)};
  ASSERT_EQ(mrt_estimate_memory(&options, &video, &memory), MRT_OK) << mrt_last_error();
  EXPECT_EQ(memory.device_available_bytes, testing::Gpus().available_bytes);
  mrt_engine_options text_here = options;
  text_here.text_device = MRT_TEXT_DEVICE_CPU;
  mrt_memory_estimate less = {sizeof(less)};
  ASSERT_EQ(mrt_estimate_memory(&text_here, &video, &less), MRT_OK) << mrt_last_error();
  EXPECT_LT(less.device_peak_bytes, memory.device_peak_bytes);

  mrt_engine* engine = nullptr;
  ASSERT_EQ(mrt_engine_load(&options, nullptr, nullptr, &engine), MRT_OK) << mrt_last_error();
  mrt_stream* stream = nullptr;
  ASSERT_EQ(mrt_stream_open(engine, &video, nullptr, nullptr, &stream), MRT_OK) << mrt_last_error();
  mrt_stats stats = {sizeof(stats)};
  ASSERT_EQ(mrt_stream_stats(stream, &stats), MRT_OK);
  EXPECT_STREQ(stats.device, "cuda:1");
  EXPECT_EQ(stats.peak_device_bytes, testing::Gpus().last->peak_bytes());
  EXPECT_GT(stats.peak_device_bytes, 0);
  EXPECT_LE(stats.peak_device_bytes, memory.device_peak_bytes);

  // A caller of the first version knows neither, and nothing behind its struct is touched.
  mrt_stats old = {offsetof(mrt_stats, peak_device_bytes)};
  old.peak_device_bytes = 77;
  ASSERT_EQ(mrt_stream_stats(stream, &old), MRT_OK) << mrt_last_error();
  EXPECT_STREQ(old.dtype, "bf16");
  EXPECT_EQ(old.peak_device_bytes, 77);
  EXPECT_STREQ(old.device, "");
  mrt_stream_destroy(stream);
  mrt_engine_destroy(engine);
}

}  // namespace
}  // namespace mrt
