// What a generation measured: the object that --stats and bench write.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "monarchrt/export.h"

namespace monarchrt {

/// What the cache of text embeddings (EngineOptions::cache_dir) did for a prompt.
enum class TextCacheUse {
  kOff,         // there is none
  kHit,         // the embedding was in it: the encoder did not run
  kMiss,        // encoded, and kept for the next time
  kUnwritable,  // encoded, but could not be kept
};
/// "off", "hit", "miss", "unwritable"
MRT_API const char* TextCacheUseName(TextCacheUse use);

/// From where on a new prompt shows.
struct PromptChange {
  int prompt = 0;           // its number, as in Chunk::prompt
  int64_t first_frame = 0;  // the first video frame made with it
  double start_s = 0;       // the time stamp of that frame, in seconds of video
  double text_s = 0;        // spent encoding it
  TextCacheUse text_cache = TextCacheUse::kOff;
};

/// Frame rates are given three ways. Load time is apart from all of them.
struct MRT_API GenerationStats {
  double load_s = 0;                             // reading and packing weights
  double text_s = 0;                             // prompts to cross-attention keys and values
  TextCacheUse text_cache = TextCacheUse::kOff;  // of the first prompt
  std::string text_cache_problem;                // why an embedding could not be kept; else empty
  double first_frame_s = 0;  // from the start of the prompt's encoding to the first chunk's frames
  int64_t frames = 0;        // video frames
  double transformer_s = 0;  // sum over chunks
  double vae_s = 0;
  double wall_s = 0;  // from the start of the prompt's encoding to the last frame, and to the end
                      // of the file once the caller has set it so
  std::vector<double> chunk_transformer_ms;  // one per chunk
  std::vector<double> chunk_vae_ms;
  std::vector<PromptChange> prompts;  // of each SetPrompt
  int64_t peak_rss_bytes = 0;
  int64_t peak_device_bytes = 0;  // of a GPU, the most its engine held so far, without what the
                                  // driver and the vendor's libraries take; 0 on the CPU
  std::string model;              // "wan 30 layers, dim 1536, 12 heads"
  std::string attention_mode;     // "monarch", "dense" ..., or "mixed" if rules make it differ
  std::vector<int> tiles;         // f_tied, h_reduce, w_reduce of Monarch; else empty
  int iterations = 0;             // of Monarch; else 0
  double sparsity = 0;  // 1 - AttentionDensity of a chunk with a full window; 0 when dense or mixed
  std::string dtype;    // "f32", "bf16" or "int8"
  int threads = 0;
  std::string cpu;
  std::string device;   // where the models ran: "cpu", "cuda:0"
  std::string version;  // of monarchrt

  double FpsTransformer() const;  // frames / transformer_s
  double FpsWithVae() const;      // frames / (transformer_s + vae_s)
  double FpsEndToEnd() const;     // frames / wall_s
};

/// One JSON object with the keys load_s, text_s, text_cache, first_frame_s, frames,
/// fps_transformer, fps_with_vae, fps_end_to_end, chunk_ms {transformer_p50, transformer_p95,
/// vae_p50, vae_p95}, prompts [{prompt, first_frame, start_s, text_s, text_cache}], peak_rss_bytes,
/// peak_device_bytes, model, attention {mode, tiles, iterations, sparsity}, dtype, threads, cpu,
/// device, version.
MRT_API std::string ToJson(const GenerationStats& stats);

/// The version of this library, "0.1.0".
MRT_API const char* Version();

}  // namespace monarchrt
