#include <algorithm>
#include <chrono>
#include <span>
#include <thread>
#include <utility>

#include "base/cpu_features.h"
#include "base/guard.h"
#include "base/memory_info.h"
#include "base/threads.h"
#include "ops/rowwise.h"
#include "ops/transfer.h"
#include "pipeline/engine_impl.h"
#include "pipeline/initial_frames.h"
#include "pipeline/latent_maker.h"
#include "pipeline/latent_source.h"
#include "pipeline/plan.h"
#include "pipeline/sampler.h"
#include "pipeline/trace_impl.h"

namespace monarchrt {
namespace {

using namespace mrt;
using Clock = std::chrono::steady_clock;

double SecondsSince(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// docs/perf-log.md: with few threads both parts use them all the better one after the other.
constexpr int kOverlapThreadsMin = 8;

// A GPU has work of its own for each of them, and the host little.
bool Overlaps(DecodeOverlap overlap, int threads, const mrt::Device& device) {
  if (overlap != DecodeOverlap::kAuto) return overlap == DecodeOverlap::kOn;
  return device.backend() != nullptr || threads >= kOverlapThreadsMin;
}

// The sparsity is that of a chunk when the window is full.
void DescribeAttention(const VideoPlan& plan, GenerationStats& stats) {
  if (plan.attention.different().size() > 1) {
    stats.attention_mode = "mixed";
    return;
  }
  const mrt::ops::AttentionConfig& a = plan.attention.different().front();
  stats.attention_mode = ModeName(a);
  stats.sparsity =
      1 - mrt::ops::AttentionDensity(a, plan.grid, static_cast<int>(plan.chunk_frames()),
                                     static_cast<int>(plan.window_frames));
  if (a.mode != mrt::ops::AttentionMode::kMonarch) return;
  stats.tiles = {a.f_tied, a.h_reduce, a.w_reduce};
  stats.iterations = a.iterations;
}

}  // namespace

struct Stream::Impl {
  explicit Impl(std::shared_ptr<Engine::Impl> the_engine) : engine(std::move(the_engine)) {}

  const std::shared_ptr<Engine::Impl> engine;
  int width = 0, height = 0;  // pixels
  int64_t frames = 0;         // video frames
  std::atomic<bool> cancelled = false;
  VideoPlan plan;
  std::optional<mrt::ops::Context> transformer_context;
  std::optional<mrt::ops::Context> decoder_context;  // else both parts share one
  std::unique_ptr<DecoderState> decoder_state;
  std::optional<LatentMaker> maker;
  std::optional<LatentSource> source;
  int all_threads = 0;  // that both parts may use
  int threads = 0;      // of these, the decoder
  int64_t latents_done = 0;
  std::atomic<int64_t> frames_done = 0;  // done() of another thread gets an answer, too
  int64_t chunks_done = 0;
  Status failure;  // of an earlier Next(): the stream cannot go on
  Clock::time_point start;
  GenerationStats stats;

  /// The options are read in place: they may hold many initial frames.
  Status Start(const StreamOptions& options, const PhaseCallback& on_phase);
  Result<Tensor> EncodeInitial(const StreamOptions& options);
  Status MakeRoom(const StreamOptions& options, const Schedule& schedule, Tensor initial);
  void Decode(mrt::ops::Context& context, const ConstTensorView& latents, std::span<uint8_t> rgb);
  Status Next(Chunk& chunk);
  double StartOf(int64_t frame) const { return static_cast<double>(frame) / Engine::kFps; }
  int64_t FrameAt(int64_t latents) const;
  int64_t NextFrames() const;
};

Status Stream::Impl::Start(const StreamOptions& options, const PhaseCallback& on_phase) {
  start = Clock::now();
  width = options.width;
  height = options.height;
  frames = options.frames;
  all_threads = ThreadCount();
  const Engine::Impl& e = *engine;
  const WanConfig& config = e.transformer->config();
  MRT_RETURN_IF_ERROR(Engine::CheckPrompt(options.prompt));
  mrt::ops::Backend* const backend = e.device.backend();
  MRT_ASSIGN_OR_RETURN(plan, PlanVideo(config, options, e.precision, backend));
  MRT_RETURN_IF_ERROR(CheckInitialFrames(options));
  MRT_ASSIGN_OR_RETURN(Schedule schedule, Schedule::Make(options.steps, options.timestep_shift));
  MRT_ASSIGN_OR_RETURN(PromptEncoder::Prompt prompt, e.prompts->Prepare(options.prompt));
  const MemoryPlan memory =
      PlanMemory(config, {e.prompts->WeightBytes(), e.prompts->PeakBytes(prompt)}, *e.decoder,
                 nullptr, plan, e.precision, e.weights, backend);
  MRT_RETURN_IF_ERROR(CheckMemory(memory.host.OpenBytes()));
  MRT_RETURN_IF_ERROR(e.device.CheckMemory(memory.device.OpenBytes()));
  if (on_phase) on_phase("encoding the prompt");
  // Where a GPU encodes the text, the host has little to do for that.
  const bool beside = e.prompts->backend() != nullptr && plan.initial_latents == 0;
  Status made;
  std::jthread maker_of_room;
  if (beside)
    maker_of_room =
        std::jthread([&] { made = Guard([&] { return MakeRoom(options, schedule, {}); }); });
  MRT_ASSIGN_OR_RETURN(EncodedPrompt text, e.EncodePrompt(std::move(prompt), &cancelled));
  stats.text_cache = text.cache;
  stats.text_cache_problem = std::move(text.cache_problem);
  stats.text_s = SecondsSince(start);
  if (beside) {
    maker_of_room.join();
    MRT_RETURN_IF_ERROR(made);
  } else {
    Tensor initial;
    if (plan.initial_latents > 0) {
      if (on_phase) on_phase("encoding the initial frames");
      MRT_ASSIGN_OR_RETURN(initial, EncodeInitial(options));
    }
    MRT_RETURN_IF_ERROR(MakeRoom(options, schedule, std::move(initial)));
  }
  maker->SetText(std::move(text.kv), /*prompt=*/0, /*recache=*/false);

  stats.load_s = e.load_s;
  stats.model = e.ModelName();
  DescribeAttention(plan, stats);
  stats.dtype = DtypeName(e.precision, e.weights);
  stats.threads = all_threads;
  stats.cpu = GetCpuFeatures().brand;
  stats.device = e.device.name();
  stats.version = Version();
  const auto chunks_max = static_cast<size_t>(plan.latents / plan.chunk_frames() + 1);
  stats.chunk_transformer_ms.reserve(chunks_max);
  stats.chunk_vae_ms.reserve(chunks_max);
  return {};
}

// All that the stream holds, and what of the first chunk can be done without the text.
Status Stream::Impl::MakeRoom(const StreamOptions& options, const Schedule& schedule,
                              Tensor initial) {
  const Engine::Impl& e = *engine;
  mrt::ops::Backend* const backend = e.device.backend();
  const bool overlap = Overlaps(options.decode_overlap, all_threads, e.device);
  threads = overlap ? std::max(1, all_threads / 2) : all_threads;
  transformer_context.emplace(e.precision, backend);
  transformer_context->set_stop(&cancelled);
  transformer_context->set_span_log(LogOf(e.options.trace));
  if (backend == nullptr)
    transformer_context->arena().Reserve(
        TransformerScratchBytes(e.transformer->config(), plan, e.precision, e.weights, backend));
  if (overlap || backend != nullptr) {
    decoder_context.emplace(e.precision, e.device.decoder_backend());
    decoder_context->set_stop(&cancelled);
    decoder_context->set_span_log(LogOf(e.options.trace));
  }
  maker.emplace(*transformer_context, *e.transformer, plan, schedule, options.seed,
                std::move(initial));
  source.emplace(*maker, LatentSource::Options{.ahead = overlap,
                                               .first_alone = backend != nullptr,
                                               .threads = std::max(1, all_threads - threads),
                                               .stop = &cancelled,
                                               .lock = [&e] { return e.LockTransformer(); }});
  decoder_state = e.decoder->NewState(plan.latent_rows, plan.latent_cols);

  const ThreadCountScope scope(threads);
  maker->Prepare();
  return {};
}

// The encoder is loaded for this alone: its weights and scratch are gone when this returns.
Result<Tensor> Stream::Impl::EncodeInitial(const StreamOptions& options) {
  const Engine::Impl& e = *engine;
  const auto lock = e.LockTransformer();
  mrt::ops::Context context(e.precision, e.device.backend());
  context.set_stop(&cancelled);
  context.set_span_log(LogOf(e.options.trace));
  const Span span(context.span_log(), "initial frames", SpanKind::kStage);
  MRT_ASSIGN_OR_RETURN(const auto encoder, LoadEncoder(context, e.files));
  const int64_t working = encoder->WorkingBytes(plan.latent_rows, plan.latent_cols, e.precision);
  MRT_RETURN_IF_ERROR(e.device.backend() == nullptr ? CheckMemory(working)
                                                    : e.device.CheckMemory(working));
  const Clock::time_point begin = Clock::now();
  MRT_ASSIGN_OR_RETURN(Tensor latents, EncodeInitialFrames(context, *encoder, options.initial_rgb,
                                                           options.initial_frames, options.height,
                                                           options.width, plan.initial_latents));
  stats.vae_s += SecondsSince(begin);
  return latents;
}

// The video frame that comes out first of latent frame `latents`.
int64_t Stream::Impl::FrameAt(int64_t latents) const {
  return std::max<int64_t>(0, VideoFrames(latents) - plan.hidden_frames);
}

int64_t Stream::Impl::NextFrames() const {
  const int64_t hidden_latents = plan.hidden_frames > 0 ? plan.initial_latents : 0;
  const int64_t position = std::max(latents_done, hidden_latents);
  const ChunkSpan span = ChunkAt(position, kChunkLatentFrames, plan.single_first);
  return std::min(VideoFrames(position + span.frames) - VideoFrames(position),
                  frames - frames_done);
}

// One latent frame at a time, so that few frames of float32 are there. As many of them as it holds
// go to `rgb`; from a device all at the end, so that it never waits for the host.
void Stream::Impl::Decode(mrt::ops::Context& context, const ConstTensorView& latents,
                          std::span<uint8_t> rgb) {
  const VideoDecoder& decoder = *engine->decoder;
  const mrt::ArenaScope scope(context.arena());
  const int64_t frame = int64_t{height} * width * 3;
  const TensorView shown{rgb.data(), DType::kU8, {static_cast<int64_t>(rgb.size()) / frame, frame}};
  const TensorView made = mrt::ops::RoomFor(context, shown);
  int64_t done = 0;
  for (int64_t i = 0; i < latents.shape[0] && !context.stopped(); ++i) {
    const mrt::ArenaScope frames_scope(context.arena());
    const int64_t count = decoder.FramesOut(*decoder_state, /*latent_frames=*/1);
    const TensorView decoded = context.Float({count, height, width, 3});
    decoder.Decode(context, *decoder_state, latents.Slice(i, i + 1), decoded);
    const int64_t kept = std::min(count, made.shape[0] - done);
    mrt::ops::ToBytes(context, decoded.Slice(0, kept), decoder.range().low, decoder.range().high,
                      made.Slice(done, done + kept));
    done += kept;
  }
  mrt::ops::DownloadTo(context, made, shown);
}

Status Stream::Impl::Next(Chunk& chunk) {
  const Engine::Impl& e = *engine;
  const ThreadCountScope scope(threads);
  const Clock::time_point begin = Clock::now();
  double transformer_s = 0, vae_s = 0;
  source->Ask();
  // Before the latents are waited for: the system takes its time to give so much.
  const int64_t frame = int64_t{height} * width * 3;
  chunk.rgb.reserve(static_cast<size_t>(plan.chunk_frames() * kFramesPerLatent * frame));
  chunk.rgb.resize(static_cast<size_t>(NextFrames() * frame));
  for (bool hidden = true; hidden;) {
    MRT_ASSIGN_OR_RETURN(const LatentChunk* const made, source->Next());
    transformer_s += made->transformer_s;
    const auto lock = e.LockDecoder();
    const Clock::time_point vae_begin = Clock::now();
    mrt::ops::Context& context = decoder_context ? *decoder_context : *transformer_context;
    const Span span(context.span_log(), "decoder", SpanKind::kStage, {}, chunks_done);
    hidden = VideoFrames(latents_done) < plan.hidden_frames;
    latents_done += made->span.frames;
    if (!hidden) {
      chunk.given = made->given;
      chunk.prompt = made->prompt;
      const int64_t count = e.decoder->FramesOut(*decoder_state, made->span.frames);
      chunk.frames = std::min(count, frames - frames_done);
      MRT_CHECK(chunk.frames * frame == static_cast<int64_t>(chunk.rgb.size()));
    }
    Decode(context, made->latents(), hidden ? std::span<uint8_t>() : chunk.rgb);
    source->Decoded();
    if (context.stopped()) return Cancelled("[stream] was cancelled");
    vae_s += SecondsSince(vae_begin);
  }
  chunk.index = chunks_done++;
  chunk.first_frame = frames_done;
  chunk.start_s = StartOf(frames_done);
  chunk.width = width;
  chunk.height = height;
  chunk.transformer_ms = 1000 * transformer_s;
  chunk.vae_ms = 1000 * vae_s;
  chunk.wait_ms = 1000 * SecondsSince(begin);
  frames_done += chunk.frames;

  stats.transformer_s += transformer_s;
  stats.vae_s += vae_s;
  stats.chunk_transformer_ms.push_back(chunk.transformer_ms);
  stats.chunk_vae_ms.push_back(chunk.vae_ms);
  stats.frames = frames_done;
  stats.wall_s = SecondsSince(start);
  if (chunk.index == 0) stats.first_frame_s = stats.wall_s;
  return {};
}

Stream::Stream(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Stream::Stream(Stream&&) noexcept = default;
Stream& Stream::operator=(Stream&&) noexcept = default;
Stream::~Stream() = default;

Result<Stream> Engine::Open(const StreamOptions& options, const PhaseCallback& on_phase) {
  return Guard([&]() -> Result<Stream> {
    const ThreadCountScope scope(impl_->options.threads);
    auto stream = std::make_unique<Stream::Impl>(impl_);
    MRT_RETURN_IF_ERROR(stream->Start(options, on_phase));
    return Stream(std::move(stream));
  });
}

Status Stream::Next(Chunk& chunk) {
  if (!impl_->failure.ok()) return impl_->failure;
  if (done())
    return InvalidArgument("[stream] all " + std::to_string(impl_->frames) + " frames were given");
  impl_->failure = Guard([&] { return impl_->Next(chunk); });
  return impl_->failure;
}

Result<Chunk> Stream::Next() {
  Chunk chunk;
  MRT_RETURN_IF_ERROR(Next(chunk));
  return chunk;
}

bool Stream::done() const { return impl_->frames_done >= impl_->frames; }

int64_t Stream::next_frames() const { return impl_->NextFrames(); }

Result<PromptChange> Stream::SetPrompt(const std::string& prompt, bool recache) {
  Impl& s = *impl_;
  if (!s.failure.ok()) return s.failure;
  MRT_RETURN_IF_ERROR(s.source->CheckText());  // before the prompt is encoded, which takes long
  MRT_RETURN_IF_ERROR(Engine::CheckPrompt(prompt));
  if (recache) MRT_RETURN_IF_ERROR(CheckRecache(s.plan));
  return Guard([&]() -> Result<PromptChange> {
    const Clock::time_point begin = Clock::now();
    const ThreadCountScope scope(s.threads);
    const PromptEncoder& prompts = *s.engine->prompts;
    MRT_ASSIGN_OR_RETURN(PromptEncoder::Prompt prepared, prompts.Prepare(prompt));
    // On the CPU the encoder's work comes on top of the stream's memory; a GPU's is planned beside.
    if (prompts.backend() == nullptr) MRT_RETURN_IF_ERROR(CheckMemory(prompts.PeakBytes(prepared)));
    MRT_ASSIGN_OR_RETURN(EncodedPrompt text,
                         s.engine->EncodePrompt(std::move(prepared), &s.cancelled));
    MRT_ASSIGN_OR_RETURN(const LatentSource::TextChange change,
                         s.source->SetText(std::move(text.kv), recache));
    PromptChange result;
    result.prompt = change.prompt;
    result.first_frame = s.FrameAt(change.position);
    result.start_s = s.StartOf(result.first_frame);
    result.text_s = SecondsSince(begin);
    result.text_cache = text.cache;
    if (!text.cache_problem.empty()) s.stats.text_cache_problem = std::move(text.cache_problem);
    s.stats.text_s += result.text_s;
    s.stats.prompts.push_back(result);
    return result;
  });
}

int64_t Stream::next_prompt_frame() const { return impl_->FrameAt(impl_->source->next_change()); }

void Stream::Cancel() { impl_->cancelled = true; }

GenerationStats Stream::stats() const {
  GenerationStats stats = impl_->stats;
  stats.peak_rss_bytes = PeakResidentBytes();
  stats.peak_device_bytes = impl_->engine->device.PeakBytes();
  return stats;
}

}  // namespace monarchrt
