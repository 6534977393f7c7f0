// The edges of the C API: structs of other sizes, NULL, numbers that are none, attention, settings.
#include "monarchrt/c_api.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <random>
#include <thread>
#include <vector>

#include "monarchrt/attention.h"
#include "monarchrt/doctor.h"
#include "monarchrt/engine.h"
#include "monarchrt/stats.h"
#include "testing/temp_folder.h"

namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;

template <typename T>
T Initialised(mrt_status (*init)(T*, size_t)) {
  T options;
  std::memset(&options, 0xAB, sizeof(options));
  EXPECT_EQ(init(&options, sizeof(options)), MRT_OK) << mrt_last_error();
  return options;
}

mrt_engine_options EngineOptions() { return Initialised(mrt_engine_options_init); }
mrt_stream_options StreamOptions() { return Initialised(mrt_stream_options_init); }
mrt_attention_options AttentionOptions() { return Initialised(mrt_attention_options_init); }
mrt_attention_problem Problem() { return Initialised(mrt_attention_problem_init); }

void ExpectInvalid(mrt_status status, const char* message) {
  EXPECT_EQ(status, MRT_INVALID_ARGUMENT);
  EXPECT_THAT(mrt_last_error(), HasSubstr(message));
}

// The layout that programs were compiled with: a change here breaks them.
TEST(CApiAbi, KeepsItsLayout) {
  EXPECT_EQ(sizeof(mrt_engine_options), 72u);
  EXPECT_EQ(offsetof(mrt_engine_options, cache_dir), 40u);
  EXPECT_EQ(offsetof(mrt_engine_options, threads), 64u);
  EXPECT_EQ(offsetof(mrt_engine_options, text_device), 68u);
  EXPECT_EQ(sizeof(mrt_stream_options), 128u);
  EXPECT_EQ(offsetof(mrt_stream_options, steps), 40u);
  EXPECT_EQ(offsetof(mrt_stream_options, attention), 64u);
  EXPECT_EQ(offsetof(mrt_stream_options, initial_frames), 96u);
  EXPECT_EQ(offsetof(mrt_stream_options, decode_overlap), 120u);
  EXPECT_EQ(offsetof(mrt_stream_options, kv_cache), 124u);
  EXPECT_EQ(sizeof(mrt_attention_options), 48u);
  EXPECT_EQ(offsetof(mrt_attention_options, reserved), 36u);
  EXPECT_EQ(offsetof(mrt_attention_options, density), 40u);
  EXPECT_EQ(sizeof(mrt_attention_problem), 56u);
  EXPECT_EQ(offsetof(mrt_attention_problem, element), 44u);
  EXPECT_EQ(offsetof(mrt_attention_problem, kv_layout), 48u);
  EXPECT_EQ(sizeof(mrt_attention_implementation), 336u);
  EXPECT_EQ(sizeof(mrt_attention_rule), 40u);
  EXPECT_EQ(sizeof(mrt_memory_estimate), 64u);
  EXPECT_EQ(offsetof(mrt_memory_estimate, device_peak_bytes), 48u);
  EXPECT_EQ(sizeof(mrt_model_info), 424u);
  EXPECT_EQ(sizeof(mrt_chunk), 88u);
  EXPECT_EQ(offsetof(mrt_chunk, width), 72u);
  EXPECT_EQ(sizeof(mrt_prompt_change), 40u);
  EXPECT_EQ(sizeof(mrt_stats), 920u);
  EXPECT_EQ(offsetof(mrt_stats, peak_device_bytes), 848u);
  EXPECT_EQ(offsetof(mrt_stats, device), 856u);
  EXPECT_EQ(sizeof(mrt_device_info), 344u);
  EXPECT_EQ(sizeof(mrt_doctor_report), 624u);
  EXPECT_EQ(sizeof(mrt_kernel_report), 400u);
}

TEST(CApiStructs, StartWithTheDefaultsOfTheCppApi) {
  const mrt_engine_options engine = EngineOptions();
  EXPECT_EQ(engine.struct_size, sizeof(engine));
  EXPECT_EQ(engine.model, nullptr);
  EXPECT_STREQ(engine.device, "cpu");
  EXPECT_EQ(engine.precision, MRT_PRECISION_AUTO);
  const mrt_stream_options stream = StreamOptions();
  const monarchrt::StreamOptions cpp;
  EXPECT_EQ(stream.width, cpp.width);
  EXPECT_EQ(stream.height, cpp.height);
  EXPECT_EQ(stream.frames, cpp.frames);
  EXPECT_EQ(stream.timestep_shift, cpp.timestep_shift);
  EXPECT_EQ(stream.window_frames, cpp.window_frames);
  EXPECT_EQ(stream.steps, nullptr);
  const mrt_attention_options attention = AttentionOptions();
  EXPECT_EQ(attention.mode, MRT_ATTENTION_MONARCH);
  EXPECT_EQ(attention.iterations, 1);
  EXPECT_EQ(attention.density, monarchrt::AttentionOptions().density);
  const mrt_attention_problem problem = Problem();
  EXPECT_EQ(problem.head_dim, 128);
  EXPECT_EQ(problem.batch, 1);
}

TEST(CApiStructs, MayComeFromANewerHeader) {
  struct Newer {
    mrt_attention_problem known;
    int64_t unknown;
  } newer;
  std::memset(&newer, 0xAB, sizeof(newer));
  ASSERT_EQ(mrt_attention_problem_init(&newer.known, sizeof(newer)), MRT_OK);
  EXPECT_EQ(newer.known.struct_size, sizeof(newer));
  EXPECT_EQ(newer.known.head_dim, 128);
  EXPECT_EQ(newer.unknown, 0);
  newer.known.rows = 4;
  newer.known.cols = 4;
  double sparsity = -1;
  EXPECT_EQ(mrt_attention_sparsity(nullptr, &newer.known, &sparsity), MRT_OK) << mrt_last_error();
  EXPECT_EQ(sparsity, 0.5);
  double flop = -1;
  EXPECT_EQ(mrt_attention_flop(nullptr, &newer.known, &flop), MRT_OK) << mrt_last_error();
  EXPECT_EQ(flop, 2.0 * 128 * (3 * 4 * 4 * 4 + 2 * 4 * 4 * 4));
  newer.unknown = 1;
  ExpectInvalid(mrt_attention_sparsity(nullptr, &newer.known, &sparsity), "does not know");

  struct NewerReport {
    mrt_device_info known;
    int64_t unknown = 7;
    int64_t behind = 7;
  } report;
  report.known.struct_size = offsetof(NewerReport, behind);
  ASSERT_EQ(mrt_device_at(0, &report.known), MRT_OK);
  EXPECT_STREQ(report.known.name, "cpu");
  EXPECT_EQ(report.known.struct_size, offsetof(NewerReport, behind));
  EXPECT_EQ(report.unknown, 0);
  EXPECT_EQ(report.behind, 7);
}

TEST(CApiStructs, TakeTheDefaultsOfAPackage) {
  const std::string package = std::string(MRT_GOLDEN_DIR) + "/package";
  mrt_engine_options model = EngineOptions();
  model.model = package.c_str();
  mrt_stream_options options = StreamOptions();
  options.seed = 7;
  int32_t steps[4] = {};
  size_t count = 0;
  EXPECT_EQ(mrt_stream_options_of_model(&model, steps, 3, &count, &options), MRT_BUFFER_TOO_SMALL);
  EXPECT_EQ(count, 4u);
  EXPECT_EQ(options.width, 832);
  ASSERT_EQ(mrt_stream_options_of_model(&model, steps, 4, &count, &options), MRT_OK)
      << mrt_last_error();
  EXPECT_EQ(options.width, 48);
  EXPECT_EQ(options.height, 32);
  EXPECT_EQ(options.window_frames, 6);
  EXPECT_EQ(options.timestep_shift, 5);
  EXPECT_EQ(options.steps, steps);
  EXPECT_EQ(options.step_count, 4u);
  EXPECT_EQ(steps[3], 250);
  EXPECT_EQ(options.seed, 7u);
  EXPECT_EQ(options.struct_size, sizeof(options));
  EXPECT_EQ(options.attention, nullptr);
  model.model = "/no/such";
  EXPECT_EQ(mrt_stream_options_of_model(&model, steps, 4, &count, &options), MRT_NOT_FOUND);
}

// Weights that were trained with dense attention do not run with Monarch unasked.
TEST(CApiStructs, TakeTheAttentionOfAPackage) {
  const mrt::testing::TempFolder folder;
  folder.Write("model.json", R"({"format": "monarchrt model 1", "autoencoder": "taehv",
      "files": {"transformer": "a", "text_encoder": "b", "autoencoder": "c", "tokenizer": "d"},
      "generation": {"attention": "dense"}})");
  const std::string package = folder.path();
  mrt_engine_options model = EngineOptions();
  model.model = package.c_str();
  mrt_attention_options options = AttentionOptions();
  options.density = 0.5;
  ASSERT_EQ(mrt_attention_options_of_model(&model, &options), MRT_OK) << mrt_last_error();
  EXPECT_EQ(options.mode, MRT_ATTENTION_DENSE);
  EXPECT_EQ(options.density, 0.5);
  EXPECT_EQ(options.struct_size, sizeof(options));
  const std::string other = std::string(MRT_GOLDEN_DIR) + "/toy_wan";
  model.model = other.c_str();
  ASSERT_EQ(mrt_attention_options_of_model(&model, &options), MRT_OK) << mrt_last_error();
  EXPECT_EQ(options.mode, MRT_ATTENTION_MONARCH);
  model.model = "/no/such";
  EXPECT_EQ(mrt_attention_options_of_model(&model, &options), MRT_NOT_FOUND);
}

TEST(CApiStructs, HaveASizeThatCanBe) {
  mrt_stream_options options = StreamOptions();
  for (const size_t size : {size_t{0}, size_t{8}, sizeof(options) - 1, size_t{4097}, SIZE_MAX}) {
    ExpectInvalid(mrt_stream_options_init(&options, size), "struct_size");
    options.struct_size = size;
    const mrt_engine_options engine = EngineOptions();
    ExpectInvalid(mrt_validate(&engine, &options), "struct_size");
  }
  mrt_doctor_report report = {};
  ExpectInvalid(mrt_doctor(&report), "got a struct_size of 0, need 624");
}

TEST(CApiErrors, BelongToTheirThread) {
  ExpectInvalid(mrt_check_prompt(std::string((1 << 20) + 1, 'x').c_str()), "[prompt]");
  const std::string mine = mrt_last_error();
  std::thread([] {
    EXPECT_STREQ(mrt_last_error(), "");
    ExpectInvalid(mrt_doctor(nullptr), "[doctor]");
  }).join();
  EXPECT_EQ(mrt_check_prompt("short"), MRT_OK);  // success leaves the message
  EXPECT_EQ(mrt_last_error(), mine);
}

TEST(CApiErrors, HaveNames) {
  for (const mrt_status status : {0, 1, 2, 3, 4, 5, 6, 7, 8, 100})
    EXPECT_STRNE(mrt_status_name(status), "unknown status") << status;
  EXPECT_STREQ(mrt_status_name(-1), "unknown status");
  EXPECT_STREQ(mrt_version(), monarchrt::Version());
}

// Every function, with nothing where something is needed.
TEST(CApiErrors, NullIsAStatus) {
  mrt_engine* const engine = nullptr;
  mrt_stream* const stream = nullptr;
  mrt_attention_settings* const settings = nullptr;
  const mrt_engine_options model = EngineOptions();
  const mrt_stream_options video = StreamOptions();
  const mrt_attention_problem problem = Problem();
  mrt_stream* opened = reinterpret_cast<mrt_stream*>(1);
  mrt_model_info info = {sizeof(info)};
  mrt_stats stats = {sizeof(stats)};
  mrt_chunk chunk = {sizeof(chunk)};
  size_t size = 0;
  int64_t frame = 0;
  uint8_t byte = 0;
  ExpectInvalid(mrt_engine_options_init(nullptr, 64), "NULL");
  ExpectInvalid(mrt_stream_options_init(nullptr, 128), "NULL");
  ExpectInvalid(mrt_attention_options_init(nullptr, 40), "NULL");
  ExpectInvalid(mrt_attention_problem_init(nullptr, 48), "NULL");
  ExpectInvalid(mrt_validate(nullptr, &video), "NULL");
  ExpectInvalid(mrt_validate(&model, nullptr), "NULL");
  ExpectInvalid(mrt_estimate_memory(&model, &video, nullptr), "NULL");
  ExpectInvalid(mrt_engine_load(&model, nullptr, nullptr, nullptr), "NULL");
  ExpectInvalid(mrt_engine_info(engine, &info), "NULL");
  ExpectInvalid(mrt_engine_info(engine, nullptr), "NULL");
  ExpectInvalid(mrt_stream_open(engine, &video, nullptr, nullptr, &opened), "NULL");
  EXPECT_EQ(opened, nullptr);
  ExpectInvalid(mrt_stream_open(engine, &video, nullptr, nullptr, nullptr), "NULL");
  ExpectInvalid(mrt_stream_next_size(stream, &size), "NULL");
  ExpectInvalid(mrt_stream_next(stream, &byte, 1, &chunk), "NULL");
  ExpectInvalid(mrt_stream_set_prompt(stream, "a", 0, nullptr), "NULL");
  ExpectInvalid(mrt_stream_next_prompt_frame(stream, &frame), "NULL");
  ExpectInvalid(mrt_stream_stats(stream, &stats), "NULL");
  ExpectInvalid(mrt_stream_chunk_times(stream, nullptr, nullptr, 0, &size), "NULL");
  ExpectInvalid(mrt_stream_prompt_change_at(stream, 0, nullptr), "NULL");
  ExpectInvalid(mrt_stream_stats_json(stream, nullptr, 0, &size), "NULL");
  ExpectInvalid(mrt_generate(engine, &video, nullptr, nullptr, nullptr), "NULL");
  ExpectInvalid(mrt_attend(nullptr, nullptr, &byte, &byte, &byte, &byte, 1), "NULL");
  ExpectInvalid(mrt_attend(nullptr, &problem, nullptr, nullptr, nullptr, nullptr, 1), "no q");
  ExpectInvalid(mrt_monarch_attention_backward(nullptr, &problem, nullptr, nullptr, nullptr,
                                               nullptr, nullptr, nullptr, nullptr, 1),
                "no q");
  ExpectInvalid(mrt_attention_implementation_at(nullptr, &problem, 0, nullptr), "NULL");
  ExpectInvalid(mrt_attention_sparsity(nullptr, &problem, nullptr), "NULL");
  ExpectInvalid(mrt_attention_density(nullptr, &problem, nullptr), "NULL");
  mrt_stream_options taken = StreamOptions();
  size_t steps = 0;
  ExpectInvalid(mrt_stream_options_of_model(nullptr, nullptr, 4, &steps, &taken), "NULL");
  ExpectInvalid(mrt_stream_options_of_model(&model, nullptr, 4, nullptr, &taken), "NULL");
  ExpectInvalid(mrt_stream_options_of_model(&model, nullptr, 4, &steps, nullptr), "NULL");
  mrt_attention_options attention = AttentionOptions();
  ExpectInvalid(mrt_attention_options_of_model(nullptr, &attention), "NULL");
  ExpectInvalid(mrt_attention_options_of_model(&model, nullptr), "NULL");
  ExpectInvalid(mrt_attention_flop(nullptr, &problem, nullptr), "NULL");
  ExpectInvalid(mrt_trace_create(nullptr), "NULL");
  size_t needed = 0;
  ExpectInvalid(mrt_trace_table(nullptr, nullptr, 0, &needed), "NULL");
  ExpectInvalid(mrt_trace_chrome_json(nullptr, nullptr, 0, &needed), "NULL");
  ExpectInvalid(mrt_attention_settings_create("{}", nullptr), "NULL");
  ExpectInvalid(mrt_attention_settings_set_default(settings, nullptr), "NULL");
  ExpectInvalid(mrt_attention_settings_add_rule(settings, nullptr, 0, nullptr, 0, nullptr), "NULL");
  ExpectInvalid(mrt_attention_settings_get_default(settings, nullptr), "NULL");
  ExpectInvalid(mrt_attention_settings_rule_at(settings, 0, nullptr, nullptr), "NULL");
  ExpectInvalid(mrt_device_at(0, nullptr), "NULL");
  ExpectInvalid(mrt_doctor(nullptr), "NULL");
  ExpectInvalid(mrt_kernel_at(0, nullptr), "NULL");
  EXPECT_EQ(mrt_stream_done(stream), 1);
  EXPECT_EQ(mrt_attention_settings_rule_count(settings), 0u);
  EXPECT_EQ(mrt_check_prompt(nullptr), MRT_OK);
  mrt_stream_cancel(stream);
  mrt_stream_destroy(stream);
  mrt_engine_destroy(engine);
  mrt_attention_settings_destroy(settings);
}

TEST(CApiErrors, NumbersThatAreNoneAreRefused) {
  const mrt_stream_options video = StreamOptions();
  const auto engine = [&](auto&& change) {
    mrt_engine_options options = EngineOptions();
    options.model = "/nowhere";
    change(options);
    return mrt_validate(&options, &video);
  };
  ExpectInvalid(engine([](auto& o) { o.vae = 2; }), "got vae 2, need 0..1");
  ExpectInvalid(engine([](auto& o) { o.vae = -1; }), "vae");
  ExpectInvalid(engine([](auto& o) { o.precision = 4; }), "precision");
  ExpectInvalid(engine([](auto& o) { o.threads = -1; }), "threads");
  ExpectInvalid(engine([](auto& o) { o.text_device = 2; }), "got text_device 2, need 0..1");
  EXPECT_EQ(engine([](auto& o) { o.device = "abacus"; }), MRT_UNAVAILABLE);
  EXPECT_EQ(engine([](auto&) {}), MRT_NOT_FOUND);

  const mrt_engine_options model = EngineOptions();
  const auto stream = [&](auto&& change) {
    mrt_stream_options options = StreamOptions();
    change(options);
    return mrt_validate(&model, &options);
  };
  uint8_t byte = 0;
  const int32_t step = 500;
  mrt_attention_options attention = AttentionOptions();
  attention.mode = 5;
  mrt_attention_settings* settings = nullptr;
  ASSERT_EQ(mrt_attention_settings_create(nullptr, &settings), MRT_OK);
  ExpectInvalid(stream([](auto& o) { o.decode_overlap = 3; }), "decode_overlap");
  ExpectInvalid(stream([](auto& o) { o.kv_cache = -1; }), "got kv_cache -1, need 0..1");
  ExpectInvalid(stream([&](auto& o) { o.attention = &attention; }), "got mode 5");
  ExpectInvalid(stream([](auto& o) { o.step_count = 4; }), "4 steps at NULL");
  ExpectInvalid(stream([&](auto& o) { o.steps = &step; }), "got 0 steps");
  ExpectInvalid(stream([&](auto& o) { o.steps = &step, o.step_count = SIZE_MAX; }), "need 1..1001");
  ExpectInvalid(stream([](auto& o) { o.initial_frames = 1; }), "got NULL");
  ExpectInvalid(stream([&](auto& o) { o.initial_rgb = &byte; }), "need real sizes");
  ExpectInvalid(stream([&](auto& o) {
                  o.initial_rgb = &byte, o.initial_rgb_bytes = 1, o.initial_frames = INT64_MAX;
                }),
                "need real sizes");
  ExpectInvalid(stream([&](auto& o) {
                  o.initial_rgb = &byte, o.initial_rgb_bytes = SIZE_MAX, o.initial_frames = 1;
                }),
                "need 1198080 bytes");
  attention.mode = MRT_ATTENTION_DENSE;
  ExpectInvalid(stream([&](auto& o) { o.attention = &attention, o.attention_settings = settings; }),
                "need one");
  mrt_attention_settings_destroy(settings);
}

TEST(CApiAttention, IsThatOfTheCppApi) {
  mrt_attention_problem problem = Problem();
  problem.frames_q = 1;
  problem.frames_kv = 2;
  problem.rows = 3;
  problem.cols = 4;
  problem.heads = 2;
  problem.head_dim = 16;
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  const auto tensor = [&](size_t frames) {
    std::vector<float> values(frames * 3 * 4 * 2 * 16);
    for (float& value : values) value = normal(random);
    return values;
  };
  const std::vector<float> q = tensor(1), k = tensor(2), v = tensor(2);
  for (const int32_t mode : {MRT_ATTENTION_DENSE, MRT_ATTENTION_MONARCH, MRT_ATTENTION_TOPK,
                             MRT_ATTENTION_WINDOW, MRT_ATTENTION_RADIAL}) {
    mrt_attention_options options = AttentionOptions();
    options.mode = mode;
    options.iterations = 2;
    options.density = 0.4;
    std::vector<float> got(q.size()), want(q.size());
    ASSERT_EQ(mrt_attend(&options, &problem, q.data(), k.data(), v.data(), got.data(), 1), MRT_OK)
        << mrt_last_error();
    ASSERT_TRUE(
        monarchrt::Attend(
            {.mode = static_cast<monarchrt::AttentionMode>(mode), .iterations = 2, .density = 0.4},
            {.frames_q = 1, .frames_kv = 2, .rows = 3, .cols = 4, .heads = 2, .head_dim = 16},
            {q.data(), k.data(), v.data(), want.data()}, 1)
            .ok());
    EXPECT_EQ(got, want);
    EXPECT_NE(got, std::vector<float>(q.size()));
  }
  problem.kv_layout = MRT_KV_HEAD_MAJOR;
  std::vector<float> got(q.size()), want(q.size());
  ASSERT_EQ(mrt_attend(nullptr, &problem, q.data(), k.data(), v.data(), got.data(), 1), MRT_OK);
  ASSERT_TRUE(monarchrt::Attend({},
                                {.frames_kv = 2,
                                 .rows = 3,
                                 .cols = 4,
                                 .heads = 2,
                                 .head_dim = 16,
                                 .kv_layout = monarchrt::AttentionKvLayout::kHeadMajor},
                                {q.data(), k.data(), v.data(), want.data()}, 1)
                  .ok());
  EXPECT_EQ(got, want);
  mrt_attention_options nobody = AttentionOptions();
  nobody.implementation = "abacus";
  std::vector<float> out(q.size());
  ExpectInvalid(mrt_attend(&nobody, &problem, q.data(), k.data(), v.data(), out.data(), 1),
                "abacus");
  const auto refused = [&](const char* message) {
    ExpectInvalid(mrt_attend(nullptr, &problem, q.data(), k.data(), v.data(), out.data(), 1),
                  message);
  };
  problem.kv_layout = 2;
  refused("got kv_layout 2, need 0..1");
  problem.kv_layout = 0, problem.reserved = 1;
  refused("reserved");
  problem.reserved = 0, problem.rows = 0;
  refused("rows");
}

TEST(CApiAttention, HasTheGradientsOfTheCppApi) {
  mrt_attention_problem problem = Problem();
  problem.frames_kv = 2, problem.rows = 2, problem.cols = 3, problem.head_dim = 4;
  std::vector<float> q(24), k(48), v(48), d_out(24), d_q(24), d_k(48), d_v(48);
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  for (auto* tensor : {&q, &k, &v, &d_out})
    for (float& value : *tensor) value = normal(random);
  const auto call = [&](const mrt_attention_options* options, int32_t threads) {
    return mrt_monarch_attention_backward(options, &problem, q.data(), k.data(), v.data(),
                                          d_out.data(), d_q.data(), d_k.data(), d_v.data(),
                                          threads);
  };
  ASSERT_EQ(call(nullptr, 1), MRT_OK) << mrt_last_error();
  std::vector<float> want_q(24), want_k(48), want_v(48);
  ASSERT_TRUE(monarchrt::MonarchAttentionBackward(
                  {}, {.frames_kv = 2, .rows = 2, .cols = 3, .head_dim = 4},
                  {.q = q.data(), .k = k.data(), .v = v.data()},
                  {d_out.data(), want_q.data(), want_k.data(), want_v.data()}, 1)
                  .ok());
  EXPECT_EQ(d_q, want_q);
  EXPECT_EQ(d_k, want_k);
  EXPECT_EQ(d_v, want_v);
  EXPECT_NE(d_v, std::vector<float>(48));
  problem.heads = 2, problem.head_dim = 2, problem.kv_layout = MRT_KV_HEAD_MAJOR;
  ASSERT_EQ(call(nullptr, 1), MRT_OK) << mrt_last_error();
  ASSERT_TRUE(monarchrt::MonarchAttentionBackward(
                  {},
                  {.frames_kv = 2,
                   .rows = 2,
                   .cols = 3,
                   .heads = 2,
                   .head_dim = 2,
                   .kv_layout = monarchrt::AttentionKvLayout::kHeadMajor},
                  {.q = q.data(), .k = k.data(), .v = v.data()},
                  {d_out.data(), want_q.data(), want_k.data(), want_v.data()}, 1)
                  .ok());
  EXPECT_EQ(d_q, want_q);
  EXPECT_EQ(d_k, want_k);
  EXPECT_EQ(d_v, want_v);
  problem.kv_layout = MRT_KV_TOKEN_MAJOR;
  mrt_attention_options dense = AttentionOptions();
  dense.mode = MRT_ATTENTION_DENSE;
  ExpectInvalid(call(&dense, 1), "mode dense");
  ExpectInvalid(call(nullptr, -1), "[threads]");
}

// A program that was compiled before the density was there.
TEST(CApiAttention, TakesTheOptionsOfTheFirstVersion) {
  constexpr size_t kFirstVersionBytes = 40;
  mrt_attention_options options = AttentionOptions();
  ASSERT_EQ(mrt_attention_options_init(&options, kFirstVersionBytes), MRT_OK);
  options.mode = MRT_ATTENTION_TOPK;
  options.density = 7;  // not theirs: never read
  mrt_attention_problem problem = Problem();
  problem.cols = 1000;
  double density = 0, sparsity = 0;
  ASSERT_EQ(mrt_attention_density(&options, &problem, &density), MRT_OK) << mrt_last_error();
  EXPECT_EQ(density, 0.053);
  ASSERT_EQ(mrt_attention_sparsity(&options, &problem, &sparsity), MRT_OK);
  EXPECT_EQ(sparsity, 1 - density);
  options.struct_size = sizeof(options);
  ExpectInvalid(mrt_attention_density(&options, &problem, &density), "got density 7");
}

// A program that was compiled before the layout was there.
TEST(CApiAttention, TakesTheProblemOfTheFirstVersion) {
  constexpr size_t kFirstVersionBytes = 48;
  mrt_attention_problem problem = Problem();
  ASSERT_EQ(mrt_attention_problem_init(&problem, kFirstVersionBytes), MRT_OK);
  problem.kv_layout = 7;  // not theirs: never read
  double flop = 0;
  ASSERT_EQ(mrt_attention_flop(nullptr, &problem, &flop), MRT_OK) << mrt_last_error();
  problem.struct_size = sizeof(problem);
  ExpectInvalid(mrt_attention_flop(nullptr, &problem, &flop), "got kv_layout 7");
}

TEST(CApiAttention, ListsTheImplementations) {
  const mrt_attention_problem problem = Problem();
  const auto want = monarchrt::ListAttentionImplementations({}, {});
  ASSERT_TRUE(want.ok());
  mrt_attention_implementation found = {sizeof(found)};
  for (size_t i = 0; i < want->size(); ++i) {
    ASSERT_EQ(mrt_attention_implementation_at(nullptr, &problem, i, &found), MRT_OK);
    EXPECT_EQ(found.name, want->at(i).name);
    EXPECT_EQ(found.refuses, want->at(i).refuses);
    EXPECT_EQ(found.chosen != 0, want->at(i).chosen);
  }
  EXPECT_EQ(mrt_attention_implementation_at(nullptr, &problem, want->size(), &found),
            MRT_NOT_FOUND);
}

TEST(CApiSettings, AreReadBack) {
  mrt_attention_settings* settings = nullptr;
  ASSERT_EQ(mrt_attention_settings_create(
                R"({"default": {"tiles": [3, 1, 1]}, "rules": [{"layers": "0-2", "steps": "clean",
                    "mode": "dense"}]})",
                &settings),
            MRT_OK)
      << mrt_last_error();
  mrt_attention_options all = {sizeof(all)}, of_rule = {sizeof(of_rule)};
  mrt_attention_rule rule = {sizeof(rule)};
  ASSERT_EQ(mrt_attention_settings_get_default(settings, &all), MRT_OK);
  EXPECT_EQ(all.f_tied, 3);
  EXPECT_EQ(all.implementation, nullptr);
  const int32_t layers[] = {4, 7};
  all.implementation = "reference";
  ASSERT_EQ(mrt_attention_settings_add_rule(settings, layers, 2, nullptr, 0, &all), MRT_OK);
  ASSERT_EQ(mrt_attention_settings_rule_count(settings), 2u);
  ASSERT_EQ(mrt_attention_settings_rule_at(settings, 0, &rule, &of_rule), MRT_OK);
  EXPECT_THAT(std::vector(rule.layers, rule.layers + rule.layer_count), ElementsAre(0, 1, 2));
  EXPECT_THAT(std::vector(rule.steps, rule.steps + rule.step_count), ElementsAre(MRT_CLEAN_PASS));
  EXPECT_EQ(of_rule.mode, MRT_ATTENTION_DENSE);
  ASSERT_EQ(mrt_attention_settings_rule_at(settings, 1, &rule, &of_rule), MRT_OK);
  EXPECT_THAT(std::vector(rule.layers, rule.layers + rule.layer_count), ElementsAre(4, 7));
  EXPECT_EQ(rule.step_count, 0u);
  EXPECT_STREQ(of_rule.implementation, "reference");
  EXPECT_EQ(mrt_attention_settings_rule_at(settings, 2, &rule, &of_rule), MRT_NOT_FOUND);
  ExpectInvalid(mrt_attention_settings_add_rule(settings, nullptr, 1, nullptr, 0, &all), "layers");
  ExpectInvalid(mrt_attention_settings_add_rule(settings, nullptr, 0, layers, SIZE_MAX, &all),
                "steps");
  mrt_attention_settings_destroy(settings);
  ExpectInvalid(mrt_attention_settings_create("{\"tiles\": 1}", &settings), "[attention settings]");
  EXPECT_EQ(settings, nullptr);
}

TEST(CApiMachine, IsWhatTheCppApiSays) {
  const monarchrt::DoctorReport want = monarchrt::Diagnose();
  mrt_doctor_report report = {sizeof(report)};
  ASSERT_EQ(mrt_doctor(&report), MRT_OK);
  EXPECT_EQ(report.cpu, want.cpu);
  EXPECT_EQ(report.onednn, want.onednn);
  EXPECT_EQ(report.threads, want.threads);
  EXPECT_EQ(report.avx2 != 0, want.avx2);
  EXPECT_EQ(report.memory_total_bytes, want.memory_total_bytes);
  mrt_kernel_report kernel = {sizeof(kernel)};
  for (size_t i = 0; i < want.kernels.size(); ++i) {
    ASSERT_EQ(mrt_kernel_at(i, &kernel), MRT_OK);
    EXPECT_EQ(kernel.operation, want.kernels[i].operation);
    EXPECT_EQ(kernel.name, want.kernels[i].name);
    EXPECT_EQ(kernel.refuses, want.kernels[i].refuses);
    EXPECT_EQ(kernel.chosen != 0, want.kernels[i].chosen);
  }
  EXPECT_EQ(mrt_kernel_at(want.kernels.size(), &kernel), MRT_NOT_FOUND);
  mrt_device_info device = {sizeof(device)};
  ASSERT_EQ(mrt_device_at(0, &device), MRT_OK);
  EXPECT_STREQ(device.name, "cpu");
  EXPECT_THAT(device.description, StartsWith(want.cpu));
  EXPECT_EQ(mrt_device_at(monarchrt::ListDevices().size(), &device), MRT_NOT_FOUND);
}

}  // namespace
