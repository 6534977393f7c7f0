// The engine through the C API, on the miniature model: what it gives is what the C++ API gives.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cmath>
#include <functional>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "monarchrt/c_api.h"
#include "monarchrt/engine.h"

namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr int kWidth = 80, kHeight = 48;
constexpr int64_t kFrameBytes = int64_t{kWidth} * kHeight * 3;
const std::string kModel = std::string(MRT_GOLDEN_DIR) + "/toy_wan";
const char* const kCheckpoint = "checkpoints/self_forcing_dmd.pt:generator_ema";

using Bytes = std::vector<uint8_t>;

mrt_engine_options ToyOptions() {
  mrt_engine_options options;
  EXPECT_EQ(mrt_engine_options_init(&options, sizeof(options)), MRT_OK);
  options.model = kModel.c_str();
  options.checkpoint = kCheckpoint;
  options.precision = MRT_PRECISION_F32;
  return options;
}

// Without overlap on any machine: what is begun after a call is then what it gave.
mrt_stream_options Video(int64_t frames) {
  mrt_stream_options options;
  EXPECT_EQ(mrt_stream_options_init(&options, sizeof(options)), MRT_OK);
  options.prompt = "A red ball bounces.";
  options.seed = 7;
  options.width = kWidth;
  options.height = kHeight;
  options.frames = frames;
  options.decode_overlap = MRT_OVERLAP_OFF;
  return options;
}

// One engine for all tests: loading it is most of the time.
mrt_engine* ToyEngine() {
  static mrt_engine* const engine = [] {
    const mrt_engine_options options = ToyOptions();
    static std::vector<std::string> phases;
    mrt_engine* made = nullptr;
    const auto on_phase = [](const char* phase, void* user) {
      static_cast<std::vector<std::string>*>(user)->push_back(phase);
    };
    EXPECT_EQ(mrt_engine_load(&options, on_phase, &phases, &made), MRT_OK) << mrt_last_error();
    EXPECT_THAT(phases, Contains("loading the transformer"));
    return made;
  }();
  return engine;
}

mrt_stream* OpenStream(const mrt_stream_options& options) {
  mrt_stream* stream = nullptr;
  EXPECT_EQ(mrt_stream_open(ToyEngine(), &options, nullptr, nullptr, &stream), MRT_OK)
      << mrt_last_error();
  return stream;
}

Bytes Pull(mrt_stream* stream, mrt_chunk* chunk) {
  size_t bytes = 0;
  EXPECT_EQ(mrt_stream_next_size(stream, &bytes), MRT_OK);
  Bytes rgb(bytes);
  EXPECT_EQ(mrt_stream_next(stream, rgb.data(), rgb.size(), chunk), MRT_OK) << mrt_last_error();
  EXPECT_EQ(chunk->rgb_bytes, bytes);
  EXPECT_EQ(static_cast<int64_t>(bytes), chunk->frames * kFrameBytes);
  return rgb;
}

Bytes PullAll(mrt_stream* stream) {
  Bytes video;
  mrt_chunk chunk = {sizeof(chunk)};
  while (!mrt_stream_done(stream) && !::testing::Test::HasFailure()) {
    const Bytes rgb = Pull(stream, &chunk);
    video.insert(video.end(), rgb.begin(), rgb.end());
  }
  return video;
}

Bytes CppVideo(const monarchrt::StreamOptions& options) {
  static auto engine = monarchrt::Engine::Load(
      {.model = kModel, .checkpoint = kCheckpoint, .precision = monarchrt::Precision::kF32});
  EXPECT_TRUE(engine.ok());
  auto stream = engine->Open(options);
  EXPECT_TRUE(stream.ok());
  Bytes video;
  while (!stream->done()) {
    const int64_t frames = stream->next_frames();
    const auto chunk = stream->Next();
    EXPECT_TRUE(chunk.ok());
    EXPECT_EQ(chunk->frames, frames);
    video.insert(video.end(), chunk->rgb.begin(), chunk->rgb.end());
  }
  EXPECT_EQ(stream->next_frames(), 0);
  return video;
}

monarchrt::StreamOptions CppOptions(int64_t frames) {
  return {.prompt = "A red ball bounces.",
          .seed = 7,
          .width = kWidth,
          .height = kHeight,
          .frames = frames,
          .decode_overlap = monarchrt::DecodeOverlap::kOff};
}

Bytes Picture() {
  Bytes rgb(kFrameBytes);
  for (size_t i = 0; i < rgb.size(); ++i)
    rgb[i] = static_cast<uint8_t>(128 + 100 * std::sin(0.01 * static_cast<double>(i)));
  return rgb;
}

TEST(CApiStream, PulledChunksAreThoseOfTheCppApi) {
  mrt_stream* const stream = OpenStream(Video(25));
  mrt_chunk chunk = {sizeof(chunk)};
  std::vector<int64_t> frames, first;
  Bytes video;
  while (!mrt_stream_done(stream)) {
    const Bytes rgb = Pull(stream, &chunk);
    frames.push_back(chunk.frames);
    first.push_back(chunk.first_frame);
    video.insert(video.end(), rgb.begin(), rgb.end());
  }
  EXPECT_THAT(frames, ElementsAre(9, 12, 4));
  EXPECT_THAT(first, ElementsAre(0, 9, 21));
  EXPECT_EQ(chunk.index, 2);
  EXPECT_EQ(chunk.width, kWidth);
  EXPECT_EQ(chunk.start_s, 21.0 / MRT_FPS);
  EXPECT_EQ(video, CppVideo(CppOptions(25)));
  size_t bytes = 1;
  EXPECT_EQ(mrt_stream_next_size(stream, &bytes), MRT_OK);
  EXPECT_EQ(bytes, 0u);
  EXPECT_EQ(mrt_stream_next(stream, nullptr, 0, nullptr), MRT_INVALID_ARGUMENT);
  EXPECT_THAT(mrt_last_error(), HasSubstr("all 25 frames were given"));
  mrt_stream_destroy(stream);
}

TEST(CApiStream, OptionsArrive) {
  const Bytes picture = Picture();
  const int32_t steps[] = {1000, 500};
  mrt_attention_settings* settings = nullptr;
  ASSERT_EQ(
      mrt_attention_settings_create(R"({"rules": [{"layers": "0", "mode": "dense"}]})", &settings),
      MRT_OK);
  mrt_stream_options options = Video(14);
  options.steps = steps;
  options.step_count = 2;
  options.timestep_shift = 3;
  options.attention_settings = settings;
  options.initial_rgb = picture.data();
  options.initial_rgb_bytes = picture.size();
  options.initial_frames = 1;
  options.independent_first_frame = 1;
  options.show_initial = 1;
  options.decode_overlap = MRT_OVERLAP_ON;
  options.window_frames = 6;
  options.sink_frames = 1;
  mrt_stream* const stream = OpenStream(options);
  mrt_attention_settings_destroy(settings);  // read during the call only
  monarchrt::StreamOptions cpp = CppOptions(14);
  cpp.steps = {1000, 500};
  cpp.timestep_shift = 3;
  cpp.attention_rules = {{.layers = {0}, .attention = {.mode = monarchrt::AttentionMode::kDense}}};
  cpp.initial_rgb = picture;
  cpp.initial_frames = 1;
  cpp.independent_first_frame = true;
  cpp.show_initial = true;
  cpp.decode_overlap = monarchrt::DecodeOverlap::kOn;
  cpp.window_frames = 6;
  cpp.sink_frames = 1;
  mrt_chunk chunk = {sizeof(chunk)};
  Bytes video = Pull(stream, &chunk);
  EXPECT_EQ(chunk.frames, 1);
  EXPECT_EQ(chunk.given, 1);
  const Bytes rest = PullAll(stream);
  video.insert(video.end(), rest.begin(), rest.end());
  EXPECT_EQ(video, CppVideo(cpp));
  EXPECT_NE(video, CppVideo(CppOptions(14)));
  mrt_stats stats = {sizeof(stats)};
  ASSERT_EQ(mrt_stream_stats(stream, &stats), MRT_OK);
  EXPECT_STREQ(stats.attention_mode, "mixed");
  mrt_stream_destroy(stream);
}

// Hidden initial frames: the first chunk that comes out is not the first one.
TEST(CApiStream, NextSizeSkipsHiddenFrames) {
  const Bytes picture = Picture();
  for (const int32_t independent : {0, 1}) {
    mrt_stream_options options = Video(17);
    options.initial_rgb = picture.data();
    options.initial_rgb_bytes = picture.size();
    options.initial_frames = 1;
    options.independent_first_frame = independent;
    mrt_stream* const stream = OpenStream(options);
    EXPECT_EQ(PullAll(stream).size(), static_cast<size_t>(17 * kFrameBytes));
    mrt_stream_destroy(stream);
  }
}

TEST(CApiStream, ASmallBufferCostsNothing) {
  mrt_stream* const stream = OpenStream(Video(9));
  Bytes rgb(9 * kFrameBytes + 1, 3);
  mrt_chunk chunk = {sizeof(chunk)};
  EXPECT_EQ(mrt_stream_next(stream, rgb.data(), 9 * kFrameBytes - 1, &chunk), MRT_BUFFER_TOO_SMALL);
  EXPECT_THAT(mrt_last_error(), HasSubstr("need " + std::to_string(9 * kFrameBytes)));
  EXPECT_EQ(rgb, Bytes(9 * kFrameBytes + 1, 3));
  EXPECT_EQ(mrt_stream_next(stream, nullptr, SIZE_MAX, &chunk), MRT_INVALID_ARGUMENT);
  chunk.struct_size = 1;
  EXPECT_EQ(mrt_stream_next(stream, rgb.data(), rgb.size(), &chunk), MRT_INVALID_ARGUMENT);
  ASSERT_EQ(mrt_stream_next(stream, rgb.data(), 9 * kFrameBytes, nullptr), MRT_OK);
  EXPECT_EQ(rgb.back(), 3);
  rgb.pop_back();
  EXPECT_EQ(rgb, CppVideo(CppOptions(9)));
  mrt_stream_destroy(stream);
}

TEST(CApiStream, TakesAnotherPromptAndTellsWhatItMeasured) {
  mrt_stream* const stream = OpenStream(Video(21));
  mrt_chunk chunk = {sizeof(chunk)};
  Pull(stream, &chunk);
  int64_t frame = -1;
  ASSERT_EQ(mrt_stream_next_prompt_frame(stream, &frame), MRT_OK);
  EXPECT_EQ(frame, 9);
  mrt_prompt_change change = {sizeof(change)};
  ASSERT_EQ(mrt_stream_set_prompt(stream, "A blue cube falls.", 1, &change), MRT_OK);
  EXPECT_EQ(change.first_frame, 9);
  EXPECT_EQ(change.prompt, 1);
  Pull(stream, &chunk);
  EXPECT_EQ(chunk.prompt, 1);
  EXPECT_EQ(mrt_stream_set_prompt(stream, "late", 0, nullptr), MRT_NOT_FOUND);

  mrt_stats stats = {sizeof(stats)};
  ASSERT_EQ(mrt_stream_stats(stream, &stats), MRT_OK);
  EXPECT_EQ(stats.frames, 21);
  EXPECT_EQ(stats.chunks, 2);
  EXPECT_EQ(stats.prompt_changes, 1);
  EXPECT_EQ(stats.f_tied, 1);
  EXPECT_STREQ(stats.attention_mode, "monarch");
  EXPECT_STREQ(stats.dtype, "f32");
  EXPECT_STREQ(stats.version, mrt_version());
  EXPECT_STREQ(stats.device, "cpu");
  EXPECT_EQ(stats.peak_device_bytes, 0);
  EXPECT_DOUBLE_EQ(stats.fps_end_to_end, 21 / stats.wall_s);
  size_t count = 0;
  EXPECT_EQ(mrt_stream_chunk_times(stream, nullptr, nullptr, 1, &count), MRT_BUFFER_TOO_SMALL);
  ASSERT_EQ(count, 2u);
  double transformer_ms[2], vae_ms[2];
  ASSERT_EQ(mrt_stream_chunk_times(stream, transformer_ms, vae_ms, 2, &count), MRT_OK);
  EXPECT_NEAR(transformer_ms[0] + transformer_ms[1], 1000 * stats.transformer_s, 1e-6);
  EXPECT_EQ(vae_ms[1], chunk.vae_ms);
  mrt_prompt_change same = {sizeof(same)};
  ASSERT_EQ(mrt_stream_prompt_change_at(stream, 0, &same), MRT_OK);
  EXPECT_EQ(same.text_s, change.text_s);
  EXPECT_EQ(mrt_stream_prompt_change_at(stream, 1, &same), MRT_NOT_FOUND);

  size_t needed = 0;
  EXPECT_EQ(mrt_stream_stats_json(stream, nullptr, 0, &needed), MRT_BUFFER_TOO_SMALL);
  std::string json(needed + 64, '#');
  ASSERT_EQ(mrt_stream_stats_json(stream, json.data(), json.size(), &needed), MRT_OK);
  EXPECT_EQ(json[needed - 1], '\0');
  EXPECT_EQ(json[needed - 2], '}');
  EXPECT_EQ(json[needed], '#');
  EXPECT_THAT(json, HasSubstr("\"frames\": 21"));
  mrt_stream_destroy(stream);
}

struct Collected {
  Bytes video;
  int64_t stop_after = INT64_MAX;
};

int32_t Collect(mrt_stream* stream, const uint8_t* rgb, const mrt_chunk* chunk, void* user) {
  auto* const collected = static_cast<Collected*>(user);
  collected->video.insert(collected->video.end(), rgb, rgb + chunk->rgb_bytes);
  mrt_stream_destroy(stream);  // it is only lent: nothing happens
  int64_t frame = 0;
  EXPECT_EQ(mrt_stream_next_prompt_frame(stream, &frame), MRT_OK);
  EXPECT_EQ(frame, chunk->first_frame + chunk->frames);
  return chunk->index + 1 >= collected->stop_after ? 1 : 0;
}

TEST(CApiGenerate, HandsOverEveryChunkAndStopsWhenAsked) {
  const mrt_stream_options options = Video(21);
  Collected all;
  ASSERT_EQ(mrt_generate(ToyEngine(), &options, nullptr, Collect, &all), MRT_OK)
      << mrt_last_error();
  EXPECT_EQ(all.video, CppVideo(CppOptions(21)));
  Collected one = {.stop_after = 1};
  EXPECT_EQ(mrt_generate(ToyEngine(), &options, nullptr, Collect, &one), MRT_CANCELLED);
  EXPECT_THAT(mrt_last_error(), HasSubstr("callback"));
  EXPECT_EQ(one.video, Bytes(all.video.begin(), all.video.begin() + 9 * kFrameBytes));
}

TEST(CApiGenerate, LetsNoExceptionThrough) {
  const mrt_stream_options options = Video(9);
  const mrt_chunk_callback throws = [](mrt_stream*, const uint8_t*, const mrt_chunk*,
                                       void*) -> int32_t { throw std::runtime_error("my defect"); };
  EXPECT_EQ(mrt_generate(ToyEngine(), &options, nullptr, throws, nullptr), MRT_INTERNAL);
  EXPECT_THAT(mrt_last_error(), HasSubstr("my defect"));
  const mrt_chunk_callback throws_a_number = [](mrt_stream*, const uint8_t*, const mrt_chunk*,
                                                void*) -> int32_t { throw 42; };
  EXPECT_EQ(mrt_generate(ToyEngine(), &options, nullptr, throws_a_number, nullptr), MRT_INTERNAL);
  EXPECT_THAT(mrt_last_error(), HasSubstr("[callback]"));
}

TEST(CApiEngine, ToldWithoutLoading) {
  const mrt_engine_options engine = ToyOptions();
  mrt_stream_options stream = Video(81);
  EXPECT_EQ(mrt_validate(&engine, &stream), MRT_OK) << mrt_last_error();
  mrt_memory_estimate memory = {sizeof(memory)};
  ASSERT_EQ(mrt_estimate_memory(&engine, &stream, &memory), MRT_OK);
  EXPECT_GT(memory.weights_bytes, 0);
  EXPECT_GT(memory.peak_bytes, memory.weights_bytes);
  EXPECT_EQ(memory.device_peak_bytes, 0);
  EXPECT_EQ(memory.device_available_bytes, 0);
  stream.width = 81;
  EXPECT_EQ(mrt_validate(&engine, &stream), MRT_INVALID_ARGUMENT);
  EXPECT_THAT(mrt_last_error(), HasSubstr("nearest"));
  mrt_model_info info = {sizeof(info)};
  ASSERT_EQ(mrt_engine_info(ToyEngine(), &info), MRT_OK);
  EXPECT_EQ(info.weights_bytes, memory.weights_bytes);
  EXPECT_THAT(info.name, HasSubstr("layers"));
  EXPECT_STREQ(info.dtype, "f32");
  EXPECT_EQ(info.width_multiple, 16);
}

TEST(CApiEngine, RecordsATrace) {
  mrt_trace* trace = nullptr;
  ASSERT_EQ(mrt_trace_create(&trace), MRT_OK) << mrt_last_error();
  mrt_engine_options options = ToyOptions();
  options.trace = trace;
  mrt_engine* engine = nullptr;
  ASSERT_EQ(mrt_engine_load(&options, nullptr, nullptr, &engine), MRT_OK) << mrt_last_error();
  const mrt_stream_options video = Video(21);
  mrt_stream* stream = nullptr;
  ASSERT_EQ(mrt_stream_open(engine, &video, nullptr, nullptr, &stream), MRT_OK);
  mrt_chunk chunk = {sizeof(chunk)};
  Pull(stream, &chunk);
  const auto text = [&](auto* get) {
    size_t needed = 0;
    EXPECT_EQ(get(trace, nullptr, 0, &needed), MRT_BUFFER_TOO_SMALL);
    std::string made(needed, '#');
    EXPECT_EQ(get(trace, made.data(), made.size(), &needed), MRT_OK) << mrt_last_error();
    EXPECT_EQ(made.back(), '\0');
    return made;
  };
  EXPECT_THAT(text(mrt_trace_table), HasSubstr("monarch attention"));
  EXPECT_THAT(text(mrt_trace_chrome_json), HasSubstr("\"name\":\"denoising step\""));
  mrt_trace_destroy(trace);  // the engine goes on without it
  mrt_trace_destroy(nullptr);
  const mrt_stream_options more = Video(9);
  mrt_stream* second = nullptr;
  EXPECT_EQ(mrt_stream_open(engine, &more, nullptr, nullptr, &second), MRT_OK);
  mrt_stream_destroy(second);
  mrt_stream_destroy(stream);
  mrt_engine_destroy(engine);
}

TEST(CApiEngine, StreamsOutliveIt) {
  const mrt_engine_options options = ToyOptions();
  mrt_engine* engine = nullptr;
  ASSERT_EQ(mrt_engine_load(&options, nullptr, nullptr, &engine), MRT_OK);
  const mrt_stream_options video = Video(9);
  mrt_stream* stream = nullptr;
  ASSERT_EQ(mrt_stream_open(engine, &video, nullptr, nullptr, &stream), MRT_OK);
  mrt_engine_destroy(engine);
  EXPECT_EQ(PullAll(stream), CppVideo(CppOptions(9)));
  mrt_stream_destroy(stream);
}

TEST(CApiThreads, AnotherThreadMayCancel) {
  mrt_stream* const stream = OpenStream(Video(100'000));
  std::atomic<int> chunks = 0;
  std::thread canceller([&] {
    while (chunks == 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    mrt_stream_cancel(stream);
  });
  Bytes rgb(12 * kFrameBytes);
  mrt_status status = MRT_OK;
  while ((status = mrt_stream_next(stream, rgb.data(), rgb.size(), nullptr)) == MRT_OK) ++chunks;
  canceller.join();
  EXPECT_EQ(status, MRT_CANCELLED);
  EXPECT_LT(chunks, 8000);  // all would be 8334
  EXPECT_EQ(mrt_stream_next(stream, rgb.data(), rgb.size(), nullptr), MRT_CANCELLED);
  mrt_stream_destroy(stream);
}

TEST(CApiThreads, StreamsOfOneEngineRunAtOnce) {
  const Bytes want = CppVideo(CppOptions(9));
  Bytes got[2];
  std::vector<std::thread> threads;
  for (Bytes& video : got)
    threads.emplace_back([&video] {
      mrt_stream* const stream = OpenStream(Video(9));
      video = PullAll(stream);
      mrt_stream_destroy(stream);
    });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(got[0], want);
  EXPECT_EQ(got[1], want);
}

// Every function of a stream but for those that any thread may call.
std::vector<std::function<mrt_status()>> CallsOf(mrt_stream* stream) {
  return {[=] {
            size_t bytes = 0;
            return mrt_stream_next_size(stream, &bytes);
          },
          [=] {
            Bytes rgb(12 * kFrameBytes);
            return mrt_stream_next(stream, rgb.data(), rgb.size(), nullptr);
          },
          [=] { return mrt_stream_set_prompt(stream, "A blue cube falls.", 0, nullptr); },
          [=] {
            int64_t frame = 0;
            return mrt_stream_next_prompt_frame(stream, &frame);
          },
          [=] {
            mrt_stats stats = {sizeof(stats)};
            return mrt_stream_stats(stream, &stats);
          },
          [=] {
            size_t count = 0;
            return mrt_stream_chunk_times(stream, nullptr, nullptr, SIZE_MAX, &count);
          },
          [=] {
            mrt_prompt_change change = {sizeof(change)};
            return mrt_stream_prompt_change_at(stream, 0, &change);
          },
          [=] {
            size_t needed = 0;
            return mrt_stream_stats_json(stream, nullptr, 0, &needed);
          }};
}

// From another thread than the one in mrt_stream_next or mrt_generate: each is refused in the end,
// and what any thread may call gets an answer.
void ExpectEachIsRefused(mrt_stream* stream) {
  for (const auto& call : CallsOf(stream)) {
    while (call() != MRT_INVALID_ARGUMENT) {
      EXPECT_EQ(mrt_stream_done(stream), 0);
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    EXPECT_THAT(mrt_last_error(), HasSubstr("one at a time"));
  }
}

// While one thread is in a call, the other gets a status, whatever it calls.
TEST(CApiThreads, ASecondThreadOfAStreamIsRefused) {
  mrt_stream* const stream = OpenStream(Video(100'000));
  std::atomic<bool> refused = false;
  std::thread other([&] {
    ExpectEachIsRefused(stream);
    refused = true;
  });
  Bytes rgb(12 * kFrameBytes);
  while (!refused) {
    const mrt_status status = mrt_stream_next(stream, rgb.data(), rgb.size(), nullptr);
    // This one may be the second, too.
    EXPECT_TRUE(status == MRT_OK || status == MRT_INVALID_ARGUMENT) << mrt_last_error();
  }
  other.join();
  mrt_stream_destroy(stream);
}

// The stream of mrt_generate in a thread that its callback must not have given it to.
struct Shared {
  std::atomic<mrt_stream*> stream = nullptr;
  std::atomic<bool> refused = false;
};

TEST(CApiThreads, ASecondThreadIsRefusedWhileMrtGenerateMakesAChunk) {
  Shared shared;
  std::thread other([&] {
    while (shared.stream == nullptr) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    int64_t frame = 0;
    while (mrt_stream_next_prompt_frame(shared.stream, &frame) != MRT_INVALID_ARGUMENT) {
    }
    EXPECT_THAT(mrt_last_error(), HasSubstr("one at a time"));
    mrt_stream_cancel(shared.stream);  // this is for any thread
    shared.refused = true;
  });
  const mrt_chunk_callback share = [](mrt_stream* stream, const uint8_t*, const mrt_chunk*,
                                      void* user) -> int32_t {
    static_cast<Shared*>(user)->stream = stream;
    return 0;
  };
  const mrt_stream_options options = Video(100'000);
  const mrt_status status = mrt_generate(ToyEngine(), &options, nullptr, share, &shared);
  EXPECT_EQ(status, MRT_CANCELLED) << mrt_last_error();
  other.join();
}

}  // namespace
