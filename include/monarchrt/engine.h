// The engine: a prompt in, video frames out while they are being made.
//
//   auto engine = monarchrt::Engine::Load({.model = "wan_models/Wan2.1-T2V-1.3B",
//                                          .checkpoint = "checkpoints/self_forcing_dmd.pt"});
//   auto stream = engine->Open({.prompt = "a red ball bounces", .seed = 7});
//   while (!stream->done()) {
//     auto chunk = stream->Next();           // 9 frames first, then 12 at a time
//     if (!chunk.ok()) break;                // chunk.status().message() says why
//     Show(chunk->rgb.data(), chunk->frames);
//   }
//
// Threads: an Engine and its Streams are used by one thread at a time; Stream::Cancel may be called
// from any thread. The engine spreads work over its own threads.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "monarchrt/stats.h"
#include "monarchrt/status.h"

namespace monarchrt {

enum class Precision {
  kAuto,  // bfloat16 where the CPU computes with it natively, else float32
  kF32,
  kBF16,
};

enum class VaeKind {
  kWan,    // Wan2.1_VAE.pth
  kTaehv,  // taew2_1.pth, the tiny one
};

enum class AttentionMode { kDense, kMonarch };

struct AttentionOptions {
  AttentionMode mode = AttentionMode::kMonarch;
  int f_tied = 1;              // latent frames per tile: 1 or 3, a divisor of the chunk
  int h_reduce = 1;            // cuts of the token rows; divides height / 16
  int w_reduce = 1;            // cuts of the token columns; divides width / 16
  int iterations = 1;          // refinement steps
  std::string implementation;  // a kernel's name ("avx512", "reference" ...), or empty for the best
};

struct EngineOptions {
  /// A Wan 2.1 model directory (config.json, diffusion_pytorch_model*.safetensors, Wan2.1_VAE.pth,
  /// models_t5_umt5-xxl-enc-bf16.pth, google/umt5-xxl/spiece.model), or a tree with one such
  /// directory in wan_models/.
  std::string model;
  /// FILE or FILE:key of the transformer's weights, relative to the working directory, else to
  /// `model`. Without a key, generator_ema is taken if there is one, then generator. Empty: the
  /// model's own diffusion_pytorch_model.
  std::string checkpoint;
  /// "wan2.1-1.3b": random weights of that size made in memory instead of files, to measure with.
  std::string synthetic;
  VaeKind vae = VaeKind::kWan;
  Precision precision = Precision::kAuto;
  int threads = 0;  // 0: all CPUs this process may use
};

struct StreamOptions {
  std::string prompt;  // UTF-8
  uint64_t seed = 0;
  int width = 832;                                 // pixels; a multiple of 16 * w_reduce
  int height = 480;                                // pixels; a multiple of 16 * h_reduce
  int64_t frames = 81;                             // video frames, 16 a second
  std::vector<int> steps = {1000, 750, 500, 250};  // denoising steps, strictly decreasing, 0..1000
  double timestep_shift = 5;
  AttentionOptions attention;
  int window_frames = 21;  // latent frames a query sees, the current chunk included; -1: all
  int sink_frames = 0;     // of these, the first frames of the video that always stay
};

/// A phase of loading or text encoding begins: "loading the transformer". For progress displays.
using PhaseCallback = std::function<void(const std::string& phase)>;

/// The frames of one chunk.
struct Chunk {
  int64_t index = 0;        // of the chunk, from 0
  int64_t first_frame = 0;  // index of its first video frame
  int64_t frames = 0;
  int width = 0, height = 0;  // pixels
  double start_s = 0;         // time stamp of its first frame, in seconds of video
  double transformer_ms = 0;  // spent in the transformer for this chunk
  double vae_ms = 0;          // spent decoding it
  std::vector<uint8_t> rgb;   // [frames, height, width, 3]
};

/// One video in the making. Move-only; keeps its engine alive.
class Stream {
 public:
  Stream(Stream&&) noexcept;
  Stream& operator=(Stream&&) noexcept;
  ~Stream();

  /// Generates the next chunk. Cancelled after Cancel(); InvalidArgument when done(). After any
  /// other failure the stream cannot go on: further calls return the same.
  Result<Chunk> Next();
  /// All frames of StreamOptions::frames have been given.
  bool done() const;
  /// Makes a running or later Next() return Cancelled between two denoising steps. Any thread.
  void Cancel();
  /// What has been measured so far; complete when done().
  GenerationStats stats() const;

 private:
  friend class Engine;
  struct Impl;
  explicit Stream(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

/// A loaded model. Move-only.
class Engine {
 public:
  Engine(Engine&&) noexcept;
  Engine& operator=(Engine&&) noexcept;
  ~Engine();

  /// Checks files, tensors, sizes, settings and memory before anything large is loaded: what Load
  /// and Open would refuse for these options, at once. Of the weights only the autoencoder's are
  /// read, the smallest, because its working memory depends on them. Sizes that do not fit come
  /// with the nearest that do.
  static Status Validate(const EngineOptions& engine, const StreamOptions& stream);

  /// Reads and packs the weights of the transformer and the VAE.
  static Result<Engine> Load(const EngineOptions& options, const PhaseCallback& on_phase = {});

  /// Encodes the prompt and starts a stream. The text encoder's memory is given back before this
  /// returns.
  Result<Stream> Open(const StreamOptions& options, const PhaseCallback& on_phase = {});

  /// Video frames a second of what this engine makes.
  static constexpr int kFps = 16;

 private:
  friend class Stream;
  struct Impl;
  explicit Engine(std::shared_ptr<Impl> impl);
  std::shared_ptr<Impl> impl_;
};

}  // namespace monarchrt
