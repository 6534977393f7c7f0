#include "monarchrt/engine.h"

#include <chrono>
#include <utility>

#include "base/cpu_features.h"
#include "base/guard.h"
#include "base/large_memory.h"
#include "base/memory_info.h"
#include "base/threads.h"
#include "ops/environment.h"
#include "pipeline/engine_impl.h"
#include "pipeline/plan.h"
#include "pipeline/sampler.h"
#include "pipeline/trace_impl.h"

namespace monarchrt {
namespace {

using namespace mrt;  // here both worlds meet

constexpr size_t kPromptBytesMax = size_t{1} << 20;

Status CheckEngineOptions(const EngineOptions& options) {
  MRT_RETURN_IF_ERROR(mrt::ops::CheckEnvironment());
  MRT_RETURN_IF_ERROR(CheckThreads(options.threads));
  MRT_RETURN_IF_ERROR(Device::CheckName(options.device));
  if (options.model.empty() == options.synthetic.empty())
    return InvalidArgument("[model] need either a model directory or a synthetic model");
  return {};
}

Result<MemoryPlan> PlanWithoutLoading(const Device& device, const EngineOptions& engine,
                                      const StreamOptions& stream) {
  const ThreadCountScope scope(engine.threads);
  MRT_RETURN_IF_ERROR(Engine::CheckPrompt(stream.prompt));
  MRT_RETURN_IF_ERROR(Schedule::Make(stream.steps, stream.timestep_shift).status());
  MRT_ASSIGN_OR_RETURN(const auto precision, device.ResolvePrecision(engine.precision));
  MRT_ASSIGN_OR_RETURN(const ModelFiles files, OpenModelFiles(engine));
  MRT_ASSIGN_OR_RETURN(const auto weights,
                       ResolveWeights(engine.precision, files.transformer, files.config));
  MRT_RETURN_IF_ERROR(device.CheckWeights(weights));
  MRT_ASSIGN_OR_RETURN(const VideoPlan plan,
                       PlanVideo(files.config, stream, precision, device.backend()));
  MRT_RETURN_IF_ERROR(CheckInitialFrames(stream));
  MRT_RETURN_IF_ERROR(WanTransformer::Check(files.transformer, files.config));
  MRT_ASSIGN_OR_RETURN(
      const PromptEncoder prompts,
      PromptEncoder::Open(files, engine, device,
                          WanTransformer::WeightBytes(files.config, precision, weights)));
  MRT_ASSIGN_OR_RETURN(const PromptEncoder::Prompt prompt, prompts.Prepare(stream.prompt));
  const TextMemory text = {prompts.WeightBytes(), prompts.PeakBytes(prompt)};
  mrt::ops::Context context(precision, device.decoder_backend());
  MRT_ASSIGN_OR_RETURN(const auto decoder, LoadDecoder(context, files));
  std::unique_ptr<VideoEncoder> encoder;
  if (stream.initial_frames > 0) {
    MRT_ASSIGN_OR_RETURN(encoder, LoadEncoder(context, files));
  }
  return PlanMemory(files.config, text, *decoder, encoder.get(), plan, precision, weights,
                    device.backend());
}

}  // namespace

Status Engine::CheckPrompt(const std::string& prompt) {
  if (prompt.size() > kPromptBytesMax)
    return InvalidArgument("[prompt] got " + std::to_string(prompt.size()) +
                           " bytes, need at most " + std::to_string(kPromptBytesMax));
  return {};
}

Status CheckInitialFrames(const StreamOptions& options) {
  // The plan has bounded all three factors.
  const int64_t need = options.initial_frames * options.height * options.width * 3;
  if (static_cast<int64_t>(options.initial_rgb.size()) == need) return {};
  return InvalidArgument("[initial frames] got " + std::to_string(options.initial_rgb.size()) +
                         " bytes, need " + std::to_string(need) + " for " +
                         std::to_string(options.initial_frames) + " frames");
}

Status Engine::Impl::Load(const PhaseCallback& on_phase) {
  using Clock = std::chrono::steady_clock;
  const Clock::time_point begin = Clock::now();
  const auto phase = [&](const char* text) {
    if (on_phase) on_phase(text);
  };
  const Span span(LogOf(options.trace), "load", SpanKind::kStage);
  phase("opening files");
  MRT_ASSIGN_OR_RETURN(files, OpenModelFiles(options));
  MRT_ASSIGN_OR_RETURN(weights, ResolveWeights(options.precision, files.transformer, files.config));
  MRT_RETURN_IF_ERROR(device.CheckWeights(weights));
  const int64_t weight_bytes = WanTransformer::WeightBytes(files.config, precision, weights);
  MRT_ASSIGN_OR_RETURN(prompts, PromptEncoder::Open(files, options, device, weight_bytes));
  phase("loading the autoencoder");
  mrt::ops::Context decoder_context(precision, device.decoder_backend());
  MRT_ASSIGN_OR_RETURN(decoder, LoadDecoder(decoder_context, files));
  MRT_RETURN_IF_ERROR(WanTransformer::Check(files.transformer, files.config));
  MRT_RETURN_IF_ERROR(CheckMemory(
      device.backend() == nullptr ? weight_bytes : WanTransformer::HostWeightBytes(files.config)));
  MRT_RETURN_IF_ERROR(device.CheckMemory(weight_bytes));
  phase("loading the transformer");
  mrt::ops::Context context(precision, device.backend());
  MRT_ASSIGN_OR_RETURN(transformer,
                       WanTransformer::Load(context, files.transformer, files.config, weights));
  if (prompts->backend() != nullptr) phase("loading the text encoder");
  prompts->Load();
  ReturnFreedMemory();
  load_s = std::chrono::duration<double>(Clock::now() - begin).count();
  return {};
}

Result<EncodedPrompt> Engine::Impl::EncodePrompt(PromptEncoder::Prompt prompt,
                                                 const std::atomic<bool>* stop) const {
  const Span span(LogOf(options.trace), "text", SpanKind::kStage);
  PromptEncoder::Encoded encoded;
  {
    const auto lock =
        prompts->backend() == nullptr ? std::unique_lock<std::mutex>() : LockTransformer();
    mrt::ops::Context context(prompts->precision(), prompts->backend());
    context.set_stop(stop);
    context.set_span_log(LogOf(options.trace));
    MRT_ASSIGN_OR_RETURN(encoded, prompts->Encode(context, std::move(prompt)));
  }
  if (prompts->backend() == nullptr) ReturnFreedMemory();
  const auto lock = LockTransformer();
  mrt::ops::Context context(precision, device.backend());
  context.set_stop(stop);
  context.set_span_log(LogOf(options.trace));
  CrossKv kv = transformer->EncodeText(context, encoded.embedding);
  if (context.stopped()) return Cancelled("[stream] was cancelled");
  return EncodedPrompt{std::move(kv), encoded.cache, std::move(encoded.cache_problem)};
}

std::string Engine::Impl::ModelName() const {
  const WanConfig& config = files.config;
  return (options.synthetic.empty() ? "wan" : options.synthetic) + " " +
         std::to_string(config.num_layers) + " layers, dim " + std::to_string(config.dim) + ", " +
         std::to_string(config.num_heads) + " heads";
}

Engine::Engine(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}
Engine::Engine(Engine&&) noexcept = default;
Engine& Engine::operator=(Engine&&) noexcept = default;
Engine::~Engine() = default;

Status Engine::Validate(const EngineOptions& engine, const StreamOptions& stream) {
  return Guard([&]() -> Status {
    MRT_RETURN_IF_ERROR(CheckEngineOptions(engine));
    MRT_ASSIGN_OR_RETURN(const Device device, Device::Open(engine.device));
    MRT_ASSIGN_OR_RETURN(const MemoryPlan plan, PlanWithoutLoading(device, engine, stream));
    MRT_RETURN_IF_ERROR(CheckMemory(plan.host.PeakBytes()));
    return device.CheckMemory(plan.device.PeakBytes());
  });
}

Result<MemoryEstimate> Engine::EstimateMemory(const EngineOptions& engine,
                                              const StreamOptions& stream) {
  return Guard([&]() -> Result<MemoryEstimate> {
    MRT_RETURN_IF_ERROR(CheckEngineOptions(engine));
    MRT_ASSIGN_OR_RETURN(const Device device, Device::Open(engine.device));
    MRT_ASSIGN_OR_RETURN(const MemoryPlan plan, PlanWithoutLoading(device, engine, stream));
    const MemoryUse& host = plan.host;
    return MemoryEstimate{.weights_bytes = host.weights_bytes,
                          .text_bytes = host.text_bytes,
                          .stream_bytes = std::max(host.initial_bytes, host.generating_bytes),
                          .peak_bytes = host.PeakBytes(),
                          .available_bytes = ObtainableMemoryBytes(),
                          .device_peak_bytes = plan.device.PeakBytes(),
                          .device_available_bytes = device.AvailableBytes()};
  });
}

Result<StreamOptions> Engine::DefaultStreamOptions(const EngineOptions& engine) {
  return Guard([&]() -> Result<StreamOptions> {
    MRT_RETURN_IF_ERROR(CheckEngineOptions(engine));
    return ReadStreamDefaults(engine);
  });
}

Result<Engine> Engine::Load(const EngineOptions& options, const PhaseCallback& on_phase) {
  return Guard([&]() -> Result<Engine> {
    MRT_RETURN_IF_ERROR(CheckEngineOptions(options));
    MRT_ASSIGN_OR_RETURN(Device device, Device::Open(options.device));
    MRT_ASSIGN_OR_RETURN(const auto precision, device.ResolvePrecision(options.precision));
    const ThreadCountScope scope(options.threads);
    auto impl = std::make_shared<Impl>(options, std::move(device), precision);
    MRT_RETURN_IF_ERROR(impl->Load(on_phase));
    return Engine(std::move(impl));
  });
}

ModelInfo Engine::info() const {
  const Impl& e = *impl_;
  const WanConfig& config = e.files.config;
  return {.name = e.ModelName(),
          .device = e.device.name(),
          .dtype = DtypeName(e.precision, e.weights),
          .layers = config.num_layers,
          .width_multiple = static_cast<int>(kPixelsPerLatent * config.patch_size[2]),
          .height_multiple = static_cast<int>(kPixelsPerLatent * config.patch_size[1]),
          .independent_first_frame = config.independent_first_frame,
          .weights_bytes = e.transformer->weight_bytes() + e.decoder->weight_bytes()};
}

std::vector<DeviceInfo> ListDevices() {
  std::vector<DeviceInfo> devices;
  for (const mrt::ops::GpuDescription& gpu : mrt::ops::ListGpus())
    devices.push_back({.name = "cuda:" + std::to_string(gpu.index),
                       .description = gpu.name,
                       .memory_total_bytes = gpu.memory_total_bytes,
                       .memory_available_bytes = gpu.memory_available_bytes});
  devices.push_back({.name = "cpu",
                     .description = GetCpuFeatures().brand + ", " +
                                    std::to_string(UsableCpuCount()) + " threads" +
                                    (mrt::ops::HasNativeBF16() ? ", native bf16" : ""),
                     .memory_total_bytes = TotalMemoryBytes(),
                     .memory_available_bytes = ObtainableMemoryBytes()});
  return devices;
}

}  // namespace monarchrt
