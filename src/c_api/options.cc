#include "c_api/options.h"

namespace mrt::c_api {
namespace {

using monarchrt::AttentionMode;
using monarchrt::AttentionOptions;
using monarchrt::DecodeOverlap;
using monarchrt::EngineOptions;
using monarchrt::KvCacheType;
using monarchrt::Precision;
using monarchrt::StreamOptions;
using monarchrt::TextDevice;
using monarchrt::VaeKind;

static_assert(MRT_ATTENTION_DENSE == static_cast<int>(AttentionMode::kDense));
static_assert(MRT_ATTENTION_MONARCH == static_cast<int>(AttentionMode::kMonarch));
static_assert(MRT_ATTENTION_TOPK == static_cast<int>(AttentionMode::kTopK));
static_assert(MRT_ATTENTION_WINDOW == static_cast<int>(AttentionMode::kWindow));
static_assert(MRT_ATTENTION_RADIAL == static_cast<int>(AttentionMode::kRadial));
static_assert(MRT_VAE_WAN == static_cast<int>(VaeKind::kWan));
static_assert(MRT_VAE_TAEHV == static_cast<int>(VaeKind::kTaehv));
static_assert(MRT_KV_CACHE_AUTO == static_cast<int>(KvCacheType::kAuto));
static_assert(MRT_KV_CACHE_BF16 == static_cast<int>(KvCacheType::kBF16));
static_assert(MRT_PRECISION_AUTO == static_cast<int>(Precision::kAuto));
static_assert(MRT_PRECISION_F32 == static_cast<int>(Precision::kF32));
static_assert(MRT_PRECISION_BF16 == static_cast<int>(Precision::kBF16));
static_assert(MRT_PRECISION_INT8 == static_cast<int>(Precision::kInt8));
static_assert(MRT_OVERLAP_AUTO == static_cast<int>(DecodeOverlap::kAuto));
static_assert(MRT_OVERLAP_OFF == static_cast<int>(DecodeOverlap::kOff));
static_assert(MRT_OVERLAP_ON == static_cast<int>(DecodeOverlap::kOn));
static_assert(MRT_TEXT_DEVICE_AUTO == static_cast<int>(TextDevice::kAuto));
static_assert(MRT_TEXT_DEVICE_CPU == static_cast<int>(TextDevice::kCpu));
static_assert(MRT_FPS == monarchrt::Engine::kFps);

constexpr size_t kStepsMax = 1001;  // strictly decreasing from 1000 to 0

const mrt_engine_options kEngineDefaults = {.struct_size = sizeof(mrt_engine_options),
                                            .device = "cpu"};

mrt_stream_options StreamDefaults() {
  const StreamOptions defaults;
  return {.struct_size = sizeof(mrt_stream_options),
          .seed = defaults.seed,
          .frames = defaults.frames,
          .width = defaults.width,
          .height = defaults.height,
          .timestep_shift = defaults.timestep_shift,
          .window_frames = defaults.window_frames,
          .sink_frames = defaults.sink_frames};
}

// The bytes are read only if they are as many as the sizes say.
Status CopyInitialFrames(const mrt_stream_options& given, StreamOptions* options) {
  options->initial_frames = given.initial_frames;
  if (given.initial_rgb == nullptr && given.initial_rgb_bytes == 0 && given.initial_frames == 0)
    return {};
  size_t need = 3;
  for (const int64_t factor : {given.initial_frames, int64_t{given.height}, int64_t{given.width}})
    if (factor < 1 || __builtin_mul_overflow(need, static_cast<size_t>(factor), &need))
      return InvalidArgument("[initial frames] got " + std::to_string(given.initial_frames) +
                             " frames of " + std::to_string(given.width) + "x" +
                             std::to_string(given.height) + ", need real sizes");
  if (given.initial_rgb == nullptr || given.initial_rgb_bytes != need)
    return InvalidArgument("[initial frames] got " +
                           (given.initial_rgb == nullptr
                                ? "NULL"
                                : std::to_string(given.initial_rgb_bytes) + " bytes") +
                           ", need " + std::to_string(need) + " bytes for " +
                           std::to_string(given.initial_frames) + " frames");
  options->initial_rgb.assign(given.initial_rgb, given.initial_rgb + need);
  return {};
}

Status CopyAttention(const mrt_stream_options& given, StreamOptions* options) {
  if (given.attention != nullptr && given.attention_settings != nullptr)
    return InvalidArgument("[attention] got both attention and attention_settings, need one");
  if (given.attention_settings != nullptr) {
    options->attention = given.attention_settings->settings.attention;
    options->attention_rules = given.attention_settings->settings.rules;
    return {};
  }
  MRT_ASSIGN_OR_RETURN(options->attention, ToAttentionOptions(given.attention));
  return {};
}

Status CopySteps(const mrt_stream_options& given, StreamOptions* options) {
  if (given.step_count > kStepsMax || (given.steps == nullptr) != (given.step_count == 0))
    return InvalidArgument("[steps] got " + std::to_string(given.step_count) + " steps" +
                           (given.steps == nullptr ? " at NULL" : "") + ", need 1.." +
                           std::to_string(kStepsMax) + ", or 0 at NULL");
  if (given.steps != nullptr) options->steps.assign(given.steps, given.steps + given.step_count);
  return {};
}

}  // namespace

Result<AttentionOptions> ToAttentionOptions(const mrt_attention_options* given) {
  AttentionOptions options;
  if (given == nullptr) return options;
  mrt_attention_options known = FromAttentionOptions(options);
  MRT_RETURN_IF_ERROR(ReadStruct(given, "attention", &known));
  MRT_RETURN_IF_ERROR(CheckEnum(known.mode, 5, "attention", "mode"));
  MRT_RETURN_IF_ERROR(CheckReserved(known.reserved, "attention"));
  options.mode = static_cast<AttentionMode>(known.mode);
  options.f_tied = known.f_tied;
  options.h_reduce = known.h_reduce;
  options.w_reduce = known.w_reduce;
  options.iterations = known.iterations;
  options.implementation = Text(known.implementation);
  options.density = known.density;
  return options;
}

mrt_attention_options FromAttentionOptions(const AttentionOptions& options) {
  return {
      .struct_size = sizeof(mrt_attention_options),
      .implementation = options.implementation.empty() ? nullptr : options.implementation.c_str(),
      .mode = static_cast<int32_t>(options.mode),
      .f_tied = options.f_tied,
      .h_reduce = options.h_reduce,
      .w_reduce = options.w_reduce,
      .iterations = options.iterations,
      .density = options.density};
}

Result<EngineOptions> ToEngineOptions(const mrt_engine_options* given) {
  mrt_engine_options known = kEngineDefaults;
  MRT_RETURN_IF_ERROR(ReadStruct(given, "engine options", &known));
  MRT_RETURN_IF_ERROR(CheckEnum(known.vae, 2, "engine options", "vae"));
  MRT_RETURN_IF_ERROR(CheckEnum(known.precision, 4, "engine options", "precision"));
  MRT_RETURN_IF_ERROR(CheckEnum(known.text_device, 2, "engine options", "text_device"));
  return EngineOptions{.model = Text(known.model),
                       .checkpoint = Text(known.checkpoint),
                       .synthetic = Text(known.synthetic),
                       .vae = static_cast<VaeKind>(known.vae),
                       .precision = static_cast<Precision>(known.precision),
                       .threads = known.threads,
                       .device = known.device == nullptr ? kEngineDefaults.device : known.device,
                       .text_device = static_cast<TextDevice>(known.text_device),
                       .trace = known.trace == nullptr ? nullptr : known.trace->trace,
                       .cache_dir = Text(known.cache_dir)};
}

Result<StreamOptions> ToStreamOptions(const mrt_stream_options* given) {
  mrt_stream_options known = StreamDefaults();
  MRT_RETURN_IF_ERROR(ReadStruct(given, "stream options", &known));
  MRT_RETURN_IF_ERROR(CheckEnum(known.decode_overlap, 3, "stream options", "decode_overlap"));
  MRT_RETURN_IF_ERROR(CheckEnum(known.kv_cache, 2, "stream options", "kv_cache"));
  StreamOptions options;
  options.prompt = Text(known.prompt);
  options.seed = known.seed;
  options.width = known.width;
  options.height = known.height;
  options.frames = known.frames;
  options.timestep_shift = known.timestep_shift;
  options.window_frames = known.window_frames;
  options.sink_frames = known.sink_frames;
  options.independent_first_frame = known.independent_first_frame != 0;
  options.show_initial = known.show_initial != 0;
  options.decode_overlap = static_cast<DecodeOverlap>(known.decode_overlap);
  options.kv_cache = static_cast<KvCacheType>(known.kv_cache);
  MRT_RETURN_IF_ERROR(CopySteps(known, &options));
  MRT_RETURN_IF_ERROR(CopyAttention(known, &options));
  MRT_RETURN_IF_ERROR(CopyInitialFrames(known, &options));
  return options;
}

monarchrt::PhaseCallback ToPhaseCallback(mrt_phase_callback on_phase, void* user) {
  if (on_phase == nullptr) return {};
  return [on_phase, user](const std::string& phase) { on_phase(phase.c_str(), user); };
}

}  // namespace mrt::c_api

extern "C" {

using namespace mrt::c_api;

mrt_status mrt_engine_options_init(mrt_engine_options* options, size_t struct_size) {
  return InitStruct(kEngineDefaults, struct_size, options, "engine options");
}

mrt_status mrt_stream_options_init(mrt_stream_options* options, size_t struct_size) {
  return InitStruct(StreamDefaults(), struct_size, options, "stream options");
}

mrt_status mrt_stream_options_of_model(const mrt_engine_options* engine, int32_t* steps,
                                       size_t capacity, size_t* step_count,
                                       mrt_stream_options* options) {
  return Boundary([&]() -> mrt_status {
    size_t bytes = 0;
    mrt_stream_options known = StreamDefaults();
    monarchrt::StreamOptions model;
    const mrt::Status status = [&]() -> mrt::Status {
      MRT_RETURN_IF_ERROR(Need(step_count, "stream options", "place for the count"));
      MRT_RETURN_IF_ERROR(CheckSize<mrt_stream_options>(options, "stream options", &bytes));
      MRT_RETURN_IF_ERROR(ReadStruct(options, "stream options", &known));
      MRT_ASSIGN_OR_RETURN(const auto loading, ToEngineOptions(engine));
      MRT_ASSIGN_OR_RETURN(model, monarchrt::Engine::DefaultStreamOptions(loading));
      *step_count = model.steps.size();
      return model.steps.size() > capacity ? mrt::Status() : Need(steps, "stream options", "steps");
    }();
    if (!status.ok()) return Report(status);
    if (model.steps.size() > capacity)
      return ReportTooSmall("stream options", capacity, model.steps.size());
    std::copy(model.steps.begin(), model.steps.end(), steps);
    known.width = model.width;
    known.height = model.height;
    known.steps = steps;
    known.step_count = model.steps.size();
    known.timestep_shift = model.timestep_shift;
    known.window_frames = model.window_frames;
    WriteStruct(known, bytes, options);
    return MRT_OK;
  });
}

mrt_status mrt_attention_options_init(mrt_attention_options* options, size_t struct_size) {
  return InitStruct(FromAttentionOptions({}), struct_size, options, "attention");
}

mrt_status mrt_attention_options_of_model(const mrt_engine_options* engine,
                                          mrt_attention_options* options) {
  return Boundary([&]() -> mrt::Status {
    size_t bytes = 0;
    mrt_attention_options known = FromAttentionOptions({});
    MRT_RETURN_IF_ERROR(CheckSize<mrt_attention_options>(options, "attention", &bytes));
    MRT_RETURN_IF_ERROR(ReadStruct(options, "attention", &known));
    MRT_ASSIGN_OR_RETURN(const auto loading, ToEngineOptions(engine));
    MRT_ASSIGN_OR_RETURN(const auto model, monarchrt::Engine::DefaultStreamOptions(loading));
    known.mode = static_cast<int32_t>(model.attention.mode);
    WriteStruct(known, bytes, options);
    return {};
  });
}

}  // extern "C"
