#include <memory>

#include "c_api/engine.h"
#include "c_api/options.h"

namespace mrt::c_api {
namespace {

using monarchrt::Chunk;
using monarchrt::GenerationStats;
using monarchrt::PromptChange;

mrt_chunk ToChunk(const Chunk& chunk) {
  return {.struct_size = sizeof(mrt_chunk),
          .rgb_bytes = chunk.rgb.size(),
          .index = chunk.index,
          .first_frame = chunk.first_frame,
          .frames = chunk.frames,
          .start_s = chunk.start_s,
          .transformer_ms = chunk.transformer_ms,
          .vae_ms = chunk.vae_ms,
          .wait_ms = chunk.wait_ms,
          .width = chunk.width,
          .height = chunk.height,
          .given = chunk.given ? 1 : 0,
          .prompt = chunk.prompt};
}

mrt_prompt_change ToPromptChange(const PromptChange& change) {
  return {.first_frame = change.first_frame,
          .start_s = change.start_s,
          .text_s = change.text_s,
          .prompt = change.prompt,
          .text_cache = static_cast<int32_t>(change.text_cache)};
}

mrt_stats ToStats(const GenerationStats& stats) {
  mrt_stats known = {};
  known.load_s = stats.load_s;
  known.text_s = stats.text_s;
  known.first_frame_s = stats.first_frame_s;
  known.transformer_s = stats.transformer_s;
  known.vae_s = stats.vae_s;
  known.wall_s = stats.wall_s;
  known.fps_transformer = stats.FpsTransformer();
  known.fps_with_vae = stats.FpsWithVae();
  known.fps_end_to_end = stats.FpsEndToEnd();
  known.sparsity = stats.sparsity;
  known.frames = stats.frames;
  known.chunks = static_cast<int64_t>(stats.chunk_transformer_ms.size());
  known.prompt_changes = static_cast<int64_t>(stats.prompts.size());
  known.peak_rss_bytes = stats.peak_rss_bytes;
  known.peak_device_bytes = stats.peak_device_bytes;
  if (stats.tiles.size() == 3) {
    known.f_tied = stats.tiles[0];
    known.h_reduce = stats.tiles[1];
    known.w_reduce = stats.tiles[2];
  }
  known.iterations = stats.iterations;
  known.threads = stats.threads;
  known.text_cache = static_cast<int32_t>(stats.text_cache);
  CopyText(stats.model, known.model);
  CopyText(stats.attention_mode, known.attention_mode);
  CopyText(stats.dtype, known.dtype);
  CopyText(stats.cpu, known.cpu);
  CopyText(stats.version, known.version);
  CopyText(stats.device, known.device);
  return known;
}

// Bytes of the next chunk; the engine has bounded both factors.
size_t NextBytes(const mrt_stream& s) {
  return static_cast<size_t>(s.stream.next_frames() * s.frame_bytes);
}

Status Open(mrt_engine* engine, const mrt_stream_options* options, mrt_phase_callback on_phase,
            void* user, std::unique_ptr<mrt_stream>* stream) {
  MRT_RETURN_IF_ERROR(Need(engine, "engine", "handle"));
  MRT_ASSIGN_OR_RETURN(const auto video, ToStreamOptions(options));
  MRT_ASSIGN_OR_RETURN(auto opened, engine->engine.Open(video, ToPhaseCallback(on_phase, user)));
  *stream =
      std::make_unique<mrt_stream>(std::move(opened), int64_t{video.width} * video.height * 3);
  return {};
}

// Calls `body` for a stream that no other thread uses.
template <typename F>
mrt_status WithStream(const mrt_stream* stream, F&& body) noexcept {
  return Boundary([&]() -> mrt_status {
    const StreamUse use(stream);
    if (const Status status = use.status(); !status.ok()) return Report(status);
    return Boundary(body);
  });
}

}  // namespace
}  // namespace mrt::c_api

extern "C" {

using namespace mrt;
using namespace mrt::c_api;

mrt_status mrt_stream_open(mrt_engine* engine, const mrt_stream_options* options,
                           mrt_phase_callback on_phase, void* user, mrt_stream** stream) {
  return Boundary([&]() -> Status {
    MRT_RETURN_IF_ERROR(Need(stream, "stream", "place for a handle"));
    *stream = nullptr;
    std::unique_ptr<mrt_stream> opened;
    MRT_RETURN_IF_ERROR(Open(engine, options, on_phase, user, &opened));
    *stream = opened.release();
    return {};
  });
}

void mrt_stream_destroy(mrt_stream* stream) {
  if (stream != nullptr && !stream->lent) delete stream;
}

int32_t mrt_stream_done(const mrt_stream* stream) {
  return stream == nullptr || stream->stream.done() ? 1 : 0;
}

mrt_status mrt_stream_next_size(const mrt_stream* stream, size_t* bytes) {
  return WithStream(stream, [&]() -> Status {
    MRT_RETURN_IF_ERROR(Need(bytes, "stream", "place for the size"));
    *bytes = NextBytes(*stream);
    return {};
  });
}

mrt_status mrt_stream_next(mrt_stream* stream, uint8_t* rgb, size_t capacity, mrt_chunk* chunk) {
  return WithStream(stream, [&]() -> mrt_status {
    size_t chunk_bytes = 0;
    if (chunk != nullptr) {
      const Status status = CheckSize<mrt_chunk>(chunk, "chunk", &chunk_bytes);
      if (!status.ok()) return Report(status);
    }
    const size_t need = NextBytes(*stream);
    if (need > 0 && rgb == nullptr) return Report(Need(nullptr, "stream", "buffer"));
    if (need > capacity) return ReportTooSmall("stream", capacity, need);
    const Status status = stream->stream.Next(stream->chunk);
    if (!status.ok()) return Report(status);
    const std::vector<uint8_t>& made = stream->chunk.rgb;
    if (made.size() > capacity) return Report(Internal("[stream] made more than it said"));
    std::copy(made.begin(), made.end(), rgb);
    if (chunk != nullptr) WriteStruct(ToChunk(stream->chunk), chunk_bytes, chunk);
    return MRT_OK;
  });
}

void mrt_stream_cancel(mrt_stream* stream) {
  if (stream != nullptr) stream->stream.Cancel();
}

mrt_status mrt_stream_set_prompt(mrt_stream* stream, const char* prompt, int32_t recache,
                                 mrt_prompt_change* change) {
  return WithStream(stream, [&]() -> Status {
    size_t bytes = 0;
    if (change != nullptr)
      MRT_RETURN_IF_ERROR(CheckSize<mrt_prompt_change>(change, "prompt change", &bytes));
    MRT_ASSIGN_OR_RETURN(const auto made, stream->stream.SetPrompt(Text(prompt), recache != 0));
    if (change != nullptr) WriteStruct(ToPromptChange(made), bytes, change);
    return {};
  });
}

mrt_status mrt_stream_next_prompt_frame(const mrt_stream* stream, int64_t* frame) {
  return WithStream(stream, [&]() -> Status {
    MRT_RETURN_IF_ERROR(Need(frame, "stream", "place for the frame"));
    *frame = stream->stream.next_prompt_frame();
    return {};
  });
}

mrt_status mrt_stream_stats(const mrt_stream* stream, mrt_stats* stats) {
  return WithStream(stream, [&] {
    return FillStruct(stats, "stats",
                      [&]() -> Result<mrt_stats> { return ToStats(stream->stream.stats()); });
  });
}

mrt_status mrt_stream_chunk_times(const mrt_stream* stream, double* transformer_ms, double* vae_ms,
                                  size_t capacity, size_t* count) {
  return WithStream(stream, [&]() -> mrt_status {
    if (count == nullptr) return Report(Need(nullptr, "chunk times", "place for the count"));
    const GenerationStats stats = stream->stream.stats();
    *count = stats.chunk_transformer_ms.size();
    if (*count > capacity) return ReportTooSmall("chunk times", capacity, *count);
    if (transformer_ms != nullptr)
      std::copy_n(stats.chunk_transformer_ms.begin(), *count, transformer_ms);
    if (vae_ms != nullptr) std::copy_n(stats.chunk_vae_ms.begin(), *count, vae_ms);
    return MRT_OK;
  });
}

mrt_status mrt_stream_prompt_change_at(const mrt_stream* stream, size_t index,
                                       mrt_prompt_change* change) {
  return WithStream(stream, [&] {
    return FillStruct(change, "prompt change", [&]() -> Result<mrt_prompt_change> {
      const GenerationStats stats = stream->stream.stats();
      MRT_RETURN_IF_ERROR(CheckIndex(index, stats.prompts.size(), "prompt change"));
      return ToPromptChange(stats.prompts[index]);
    });
  });
}

mrt_status mrt_stream_stats_json(const mrt_stream* stream, char* text, size_t capacity,
                                 size_t* needed) {
  return WithStream(stream, [&]() -> mrt_status {
    return WriteText(monarchrt::ToJson(stream->stream.stats()), "stats", text, capacity, needed);
  });
}

mrt_status mrt_generate(mrt_engine* engine, const mrt_stream_options* options,
                        mrt_phase_callback on_phase, mrt_chunk_callback on_chunk, void* user) {
  return Boundary([&]() -> Status {
    MRT_RETURN_IF_ERROR(Need(reinterpret_cast<const void*>(on_chunk), "generate", "callback"));
    std::unique_ptr<mrt_stream> stream;
    MRT_RETURN_IF_ERROR(Open(engine, options, on_phase, user, &stream));
    stream->lent = true;
    Chunk chunk;  // not the stream's own: the callback may pull chunks, too
    while (!stream->stream.done()) {
      {
        // The callback may have given the stream to another thread: that one is refused meanwhile.
        const StreamUse use = StreamUse::AfterOthers(*stream);
        MRT_RETURN_IF_ERROR(stream->stream.Next(chunk));
      }
      const mrt_chunk known = ToChunk(chunk);
      if (on_chunk(stream.get(), chunk.rgb.data(), &known, user) != 0)
        return Cancelled("[generate] was stopped by its callback");
    }
    return {};
  });
}

}  // extern "C"
