// What a generation measured: the object that --stats and bench write.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace monarchrt {

/// Frame rates are given three ways. Load time is apart from all of them.
struct GenerationStats {
  double load_s = 0;         // reading and packing weights
  double text_s = 0;         // prompt to cross-attention keys and values
  double first_frame_s = 0;  // from the start of the prompt's encoding to the first chunk's frames
  int64_t frames = 0;        // video frames
  double transformer_s = 0;  // sum over chunks
  double vae_s = 0;
  double wall_s = 0;  // from the start of the prompt's encoding to the last frame, and to the end
                      // of the file once the caller has set it so
  std::vector<double> chunk_transformer_ms;  // one per chunk
  std::vector<double> chunk_vae_ms;
  int64_t peak_rss_bytes = 0;
  std::string model;           // "wan 30 layers, dim 1536, 12 heads"
  std::string attention_mode;  // "monarch" or "dense"
  std::vector<int> tiles;      // f_tied, h_reduce, w_reduce; empty when dense
  int iterations = 0;          // 0 when dense
  double sparsity = 0;         // 1 - (b1 + b2) / (b1 b2); 0 when dense
  std::string dtype;           // "f32" or "bf16"
  int threads = 0;
  std::string cpu;
  std::string version;  // of monarchrt

  double FpsTransformer() const;  // frames / transformer_s
  double FpsWithVae() const;      // frames / (transformer_s + vae_s)
  double FpsEndToEnd() const;     // frames / wall_s
};

/// One JSON object with the keys load_s, text_s, first_frame_s, frames, fps_transformer,
/// fps_with_vae, fps_end_to_end, chunk_ms {transformer_p50, transformer_p95, vae_p50, vae_p95},
/// peak_rss_bytes, model, attention {mode, tiles, iterations, sparsity}, dtype, threads, cpu,
/// version.
std::string ToJson(const GenerationStats& stats);

/// The version of this library, "0.1.0".
const char* Version();

}  // namespace monarchrt
