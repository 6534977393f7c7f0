#include "monarchrt/engine.h"

#include <chrono>
#include <exception>
#include <new>
#include <optional>
#include <utility>

#include "base/cpu_features.h"
#include "base/memory_info.h"
#include "base/threads.h"
#include "kernels/monarch/monarch.h"
#include "model/tokenizer/tokenizer.h"
#include "model/umt5/umt5.h"
#include "model/vae/video_codec.h"
#include "model/wan/transformer.h"
#include "ops/context.h"
#include "pipeline/model_files.h"
#include "pipeline/noise.h"
#include "pipeline/pixels.h"
#include "pipeline/plan.h"
#include "pipeline/rollout.h"
#include "pipeline/sampler.h"

namespace monarchrt {
namespace {

using namespace mrt;  // the engine is the one place where both worlds meet
using Clock = std::chrono::steady_clock;

constexpr size_t kPromptBytesMax = size_t{1} << 20;

double SecondsSince(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// No exception leaves the library: lack of memory and a vendor library's errors become a Status
// here.
template <typename F>
auto Guard(F&& body) -> decltype(body()) {
  try {
    return body();
  } catch (const std::bad_alloc&) {
    return OutOfMemory("[memory] the system gave no more memory");
  } catch (const std::exception& e) {
    return Internal(std::string("[engine] ") + e.what());
  }
}

Status CheckEngineOptions(const EngineOptions& options) {
  MRT_RETURN_IF_ERROR(CheckThreads(options.threads));
  if (options.model.empty() == options.synthetic.empty())
    return InvalidArgument("[model] need either a model directory or a synthetic model");
  return {};
}

Status CheckPrompt(const std::string& prompt) {
  if (prompt.size() > kPromptBytesMax)
    return InvalidArgument("[prompt] got " + std::to_string(prompt.size()) +
                           " bytes, need at most " + std::to_string(kPromptBytesMax));
  return {};
}

// A synthetic model has no tokenizer: the prompt's bytes stand for tokens, so that the encoder has
// work.
std::vector<int32_t> BytesAsTokens(const std::string& prompt, int64_t text_len) {
  constexpr int32_t kFirstToken = 3;  // after pad, </s> and unk
  std::vector<int32_t> ids;
  for (size_t i = 0; i < prompt.size() && static_cast<int64_t>(ids.size()) < text_len; ++i)
    ids.push_back(kFirstToken + static_cast<unsigned char>(prompt[i]));
  if (ids.empty()) ids.push_back(kFirstToken);
  return ids;
}

}  // namespace

struct Engine::Impl {
  Impl(const EngineOptions& engine_options, mrt::ops::Precision precision)
      : options(engine_options), context(precision) {}

  EngineOptions options;
  mrt::ops::Context context;
  std::optional<WanTransformer> transformer;
  std::unique_ptr<VideoDecoder> decoder;
  std::optional<Umt5Encoder> text_encoder;
  std::optional<Tokenizer> tokenizer;  // none for a synthetic model
  double load_s = 0;

  Status Load(const PhaseCallback& on_phase);
  Result<Tensor> EncodePrompt(const std::string& prompt);
};

struct Stream::Impl {
  std::shared_ptr<Engine::Impl> engine;
  StreamOptions options;
  VideoPlan plan;
  Schedule schedule;
  CrossKv text;
  std::unique_ptr<DecoderState> decoder_state;
  std::optional<Rollout> rollout;
  Tensor latents;  // F32 [chunk frames, channels, latent rows, latent cols]
  Tensor frames;   // F32 [most video frames of a chunk, height, width, 3]
  int64_t chunks_done = 0;
  int64_t frames_done = 0;
  std::atomic<bool> cancelled = false;
  Status failure;  // of an earlier Next(): the stream cannot go on
  Clock::time_point start;
  GenerationStats stats;

  Status Start(const PhaseCallback& on_phase);
  Result<Chunk> Next();
};

Status Engine::Impl::Load(const PhaseCallback& on_phase) {
  const Clock::time_point begin = Clock::now();
  const auto phase = [&](const char* text) {
    if (on_phase) on_phase(text);
  };
  phase("opening files");
  MRT_ASSIGN_OR_RETURN(ModelFiles files, OpenModelFiles(options));
  if (!files.tokenizer_path.empty()) {
    MRT_ASSIGN_OR_RETURN(tokenizer, Tokenizer::Load(files.tokenizer_path));
  }
  MRT_ASSIGN_OR_RETURN(text_encoder, OpenTextEncoder(files));
  phase("loading the autoencoder");
  MRT_ASSIGN_OR_RETURN(decoder, LoadDecoder(context, files, options.vae));
  MRT_RETURN_IF_ERROR(WanTransformer::Check(files.transformer, files.config));
  MRT_RETURN_IF_ERROR(CheckMemory(WanTransformer::WeightBytes(files.config, context.precision())));
  phase("loading the transformer");
  MRT_ASSIGN_OR_RETURN(transformer, WanTransformer::Load(context, files.transformer, files.config));
  load_s = SecondsSince(begin);
  return {};
}

Result<Tensor> Engine::Impl::EncodePrompt(const std::string& prompt) {
  const int64_t text_len = transformer->config().text_len;
  const std::vector<int32_t> ids =
      tokenizer ? tokenizer->Encode(CleanPrompt(prompt), static_cast<int>(text_len))
                : BytesAsTokens(prompt, text_len);
  // A context of its own, so that the encoder's scratch is given back.
  mrt::ops::Context text_context(context.precision());
  return text_encoder->Encode(text_context, ids, static_cast<int>(text_len));
}

Status Stream::Impl::Start(const PhaseCallback& on_phase) {
  start = Clock::now();
  Engine::Impl& e = *engine;
  const WanConfig& config = e.transformer->config();
  MRT_RETURN_IF_ERROR(CheckPrompt(options.prompt));
  MRT_ASSIGN_OR_RETURN(plan, PlanVideo(config, options, e.context.precision()));
  MRT_ASSIGN_OR_RETURN(schedule, Schedule::Make(options.steps, options.timestep_shift));
  MRT_RETURN_IF_ERROR(CheckMemory(
      PlanMemory(config, *e.text_encoder, *e.decoder, plan, e.context.precision()).OpenBytes()));
  if (on_phase) on_phase("encoding the prompt");
  MRT_ASSIGN_OR_RETURN(const Tensor embedding, e.EncodePrompt(options.prompt));
  text = e.transformer->EncodeText(e.context, embedding);
  stats.text_s = SecondsSince(start);

  rollout.emplace(e.context, *e.transformer,
                  RolloutOptions{.attention = plan.attention,
                                 .window_frames = plan.window_frames,
                                 .sink_frames = plan.sink_frames,
                                 .latent_rows = plan.latent_rows,
                                 .latent_cols = plan.latent_cols,
                                 .cancelled = &cancelled});
  decoder_state = e.decoder->NewState(plan.latent_rows, plan.latent_cols);
  latents =
      Tensor(DType::kF32, {kChunkLatentFrames, config.out_dim, plan.latent_rows, plan.latent_cols});
  frames = Tensor(DType::kF32,
                  {kChunkLatentFrames * kFramesPerLatent, options.height, options.width, 3});

  stats.load_s = e.load_s;
  stats.model = (e.options.synthetic.empty() ? "wan" : e.options.synthetic) + " " +
                std::to_string(config.num_layers) + " layers, dim " + std::to_string(config.dim) +
                ", " + std::to_string(config.num_heads) + " heads";
  if (plan.attention.mode == mrt::ops::AttentionMode::kMonarch) {
    const auto& [mode, f_tied, h_reduce, w_reduce, iterations, implementation] = plan.attention;
    stats.attention_mode = "monarch";
    stats.tiles = {f_tied, h_reduce, w_reduce};
    stats.iterations = iterations;
    stats.sparsity = MonarchSparsity({.rows = plan.grid.rows,
                                      .cols = plan.grid.cols,
                                      .f_tied = f_tied,
                                      .h_reduce = h_reduce,
                                      .w_reduce = w_reduce});
  } else {
    stats.attention_mode = "dense";
  }
  stats.dtype = e.context.precision() == mrt::ops::Precision::kBF16 ? "bf16" : "f32";
  stats.threads = ThreadCount();
  stats.cpu = GetCpuFeatures().brand;
  stats.version = Version();
  return {};
}

Result<Chunk> Stream::Impl::Next() {
  Engine::Impl& e = *engine;
  SetThreadCount(e.options.threads);
  const Clock::time_point transformer_start = Clock::now();
  const uint64_t seed = options.seed;
  MRT_RETURN_IF_ERROR(rollout->Next(
      e.context, schedule, text,
      [seed](int64_t first_frame, int step, const TensorView& out) {
        FillNoise(seed, first_frame, step, out);
      },
      latents));
  const Clock::time_point vae_start = Clock::now();
  const int64_t made = e.decoder->FramesOut(*decoder_state, kChunkLatentFrames);
  const TensorView decoded = frames.view().Slice(0, made);
  e.decoder->Decode(e.context, *decoder_state, latents, decoded);

  Chunk chunk;
  chunk.index = chunks_done++;
  chunk.first_frame = frames_done;
  chunk.frames = std::min(made, options.frames - frames_done);
  chunk.width = options.width;
  chunk.height = options.height;
  chunk.start_s = static_cast<double>(frames_done) / Engine::kFps;
  const TensorView kept = decoded.Slice(0, chunk.frames);
  chunk.rgb.resize(static_cast<size_t>(kept.shape.elements()));
  ToRgb8(kept, e.decoder->range(), chunk.rgb.data());
  frames_done += chunk.frames;

  const double transformer_s = std::chrono::duration<double>(vae_start - transformer_start).count();
  const double vae_s = SecondsSince(vae_start);
  chunk.transformer_ms = 1000 * transformer_s;
  chunk.vae_ms = 1000 * vae_s;
  stats.transformer_s += transformer_s;
  stats.vae_s += vae_s;
  stats.chunk_transformer_ms.push_back(chunk.transformer_ms);
  stats.chunk_vae_ms.push_back(chunk.vae_ms);
  stats.frames = frames_done;
  stats.wall_s = SecondsSince(start);
  if (chunk.index == 0) stats.first_frame_s = stats.wall_s;
  stats.peak_rss_bytes = PeakResidentBytes();
  return chunk;
}

Stream::Stream(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Stream::Stream(Stream&&) noexcept = default;
Stream& Stream::operator=(Stream&&) noexcept = default;
Stream::~Stream() = default;

Result<Chunk> Stream::Next() {
  if (!impl_->failure.ok()) return impl_->failure;
  if (done())
    return InvalidArgument("[stream] all " + std::to_string(impl_->options.frames) +
                           " frames were given");
  Result<Chunk> chunk = Guard([&]() -> Result<Chunk> { return impl_->Next(); });
  impl_->failure = chunk.status();
  return chunk;
}
bool Stream::done() const { return impl_->frames_done >= impl_->options.frames; }
void Stream::Cancel() { impl_->cancelled = true; }
GenerationStats Stream::stats() const { return impl_->stats; }

Engine::Engine(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}
Engine::Engine(Engine&&) noexcept = default;
Engine& Engine::operator=(Engine&&) noexcept = default;
Engine::~Engine() = default;

Status Engine::Validate(const EngineOptions& engine, const StreamOptions& stream) {
  return Guard([&]() -> Status {
    MRT_RETURN_IF_ERROR(CheckEngineOptions(engine));
    SetThreadCount(engine.threads);
    MRT_RETURN_IF_ERROR(CheckPrompt(stream.prompt));
    MRT_RETURN_IF_ERROR(Schedule::Make(stream.steps, stream.timestep_shift).status());
    MRT_ASSIGN_OR_RETURN(const auto precision, ResolvePrecision(engine.precision));
    MRT_ASSIGN_OR_RETURN(const ModelFiles files, OpenModelFiles(engine));
    MRT_ASSIGN_OR_RETURN(const VideoPlan plan, PlanVideo(files.config, stream, precision));
    MRT_RETURN_IF_ERROR(WanTransformer::Check(files.transformer, files.config));
    MRT_ASSIGN_OR_RETURN(const Umt5Encoder encoder, OpenTextEncoder(files));
    if (!files.tokenizer_path.empty())
      MRT_RETURN_IF_ERROR(Tokenizer::Load(files.tokenizer_path).status());
    mrt::ops::Context context(precision);
    MRT_ASSIGN_OR_RETURN(const auto decoder, LoadDecoder(context, files, engine.vae));
    const MemoryPlan memory = PlanMemory(files.config, encoder, *decoder, plan, precision);
    return CheckMemory(memory.PeakBytes());
  });
}

Result<Engine> Engine::Load(const EngineOptions& options, const PhaseCallback& on_phase) {
  return Guard([&]() -> Result<Engine> {
    MRT_RETURN_IF_ERROR(CheckEngineOptions(options));
    MRT_ASSIGN_OR_RETURN(const auto precision, ResolvePrecision(options.precision));
    SetThreadCount(options.threads);
    auto impl = std::make_shared<Impl>(options, precision);
    MRT_RETURN_IF_ERROR(impl->Load(on_phase));
    return Engine(std::move(impl));
  });
}

Result<Stream> Engine::Open(const StreamOptions& options, const PhaseCallback& on_phase) {
  return Guard([&]() -> Result<Stream> {
    SetThreadCount(impl_->options.threads);
    auto stream = std::make_unique<Stream::Impl>();
    stream->engine = impl_;
    stream->options = options;
    MRT_RETURN_IF_ERROR(stream->Start(on_phase));
    return Stream(std::move(stream));
  });
}

}  // namespace monarchrt
