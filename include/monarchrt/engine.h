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
// Threads: several streams of one engine may run on several threads at once. One stream is used by
// one thread at a time, but for Stream::Cancel and done, which any thread may call. The engine
// spreads work over OpenMP's threads, and leaves the caller's own omp_set_num_threads as it is.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "monarchrt/attention.h"
#include "monarchrt/export.h"
#include "monarchrt/stats.h"
#include "monarchrt/status.h"
#include "monarchrt/trace.h"

namespace monarchrt {

enum class Precision {
  kAuto,  // bfloat16 where the CPU computes with it natively, else float32; int8 if the file has it
  kF32,
  kBF16,
  kInt8,  // the matrices of the transformer's blocks as int8, everything else as kAuto has it
};

enum class VaeKind {
  kWan,    // Wan2.1_VAE.pth
  kTaehv,  // taew2_1.pth, the tiny one
};

/// Where the text encoder runs if the other models are on a GPU.
enum class TextDevice {
  kAuto,  // there if 32 GB of it are left beside all weights, else on the CPU
  kCpu,   // a released one then takes 9.3 GB less of the GPU, and a prompt half a second more
};

/// Whether the autoencoder decodes a chunk while the transformer makes the next one.
enum class DecodeOverlap {
  kAuto,  // where it was measured to help: on a GPU, and from 8 threads on
  kOff,   // one after the other, each with all threads
  kOn,    // side by side, each with half of the threads; one chunk is made ahead
};

/// Another attention for some layers in some passes.
struct AttentionRule {
  /// In `steps`: the pass of the clean chunk at t = 0, which leaves its keys and values behind.
  static constexpr int kCleanPass = -1;

  std::vector<int> layers;  // of the transformer, from 0; empty: all
  std::vector<int> steps;   // denoising steps, from 0, and kCleanPass; empty: all
  AttentionOptions attention;
};

/// Attention settings as JSON: an object whose optional "default" is the attention of all layers,
/// and whose optional "rules" say where it differs, each over the ones before it:
///   {"default": {"mode": "monarch", "tiles": [1, 1, 1], "iterations": 1},
///    "rules": [{"layers": "0-3,29", "mode": "dense"},
///              {"steps": "0,clean", "mode": "monarch", "tiles": [1, 2, 1]},
///              {"steps": 1, "mode": "topk", "density": 0.25}]}
/// "mode" is an AttentionModeName, "tiles" are f_tied, h_reduce, w_reduce. A rule takes from
/// "default" what it does not say, and that from AttentionOptions. InvalidArgument names what is
/// wrong; unknown names are wrong.
struct AttentionSettings {
  AttentionOptions attention;
  std::vector<AttentionRule> rules;
};
MRT_API Result<AttentionSettings> ParseAttentionSettings(const std::string& json);

struct EngineOptions {
  /// A Wan 2.1 model directory (config.json, diffusion_pytorch_model*.safetensors, Wan2.1_VAE.pth,
  /// models_t5_umt5-xxl-enc-bf16.pth, google/umt5-xxl/spiece.model), a tree with one such directory
  /// in wan_models/, or a package with a model.json (docs/formats.md).
  std::string model;
  /// FILE or FILE:key of the transformer's weights, relative to the working directory, else to
  /// `model`. Without a key, generator_ema is taken if there is one, then generator. Empty: the
  /// model's own diffusion_pytorch_model.
  std::string checkpoint;
  /// "wan2.1-1.3b": random weights of that size made in memory instead of files, to measure with.
  std::string synthetic;
  VaeKind vae = VaeKind::kWan;  // a package has its own and says which
  Precision precision = Precision::kAuto;
  int threads = 0;  // 0: all CPUs this process may use
  /// One of ListDevices(), or "cuda" for the first GPU. On a GPU transformer and autoencoder run,
  /// in bf16 (kAuto means that there) and with dense or Monarch attention; the text encoder as
  /// `text_device` says.
  std::string device = "cpu";
  TextDevice text_device = TextDevice::kAuto;
  std::shared_ptr<Trace> trace;  // of loading and of all streams; null: none is recorded
  /// A folder where text embeddings are kept between runs, so that a prompt is encoded once. Made
  /// for this user alone if it is not there; at most 256 files and 512 MiB, the least used go. What
  /// it gives has the same bits as the encoder's result. Never a reason to fail:
  /// GenerationStats::text_cache tells what it did. Empty, or a synthetic model: none.
  std::string cache_dir;
};

/// How the keys and values of the window are stored.
enum class KvCacheType {
  kAuto,  // as activations are
  kBF16,  // bfloat16: half the memory where activations are float32, for an error of 2^-9
};

struct StreamOptions {
  std::string prompt;  // UTF-8
  uint64_t seed = 0;
  int width = 832;                                 // pixels; a multiple of 16 * w_reduce
  int height = 480;                                // pixels; a multiple of 16 * h_reduce
  int64_t frames = 81;                             // video frames, 16 a second
  std::vector<int> steps = {1000, 750, 500, 250};  // denoising steps, strictly decreasing, 0..1000
  double timestep_shift = 5;
  AttentionOptions attention;                  // f_tied: 1 or 3
  std::vector<AttentionRule> attention_rules;  // over `attention`; the last one that fits counts
  int window_frames = 21;  // latent frames a query sees, the current chunk included; -1: all
  int sink_frames = 0;     // of these, the first frames of the video that always stay
  KvCacheType kv_cache = KvCacheType::kAuto;
  /// The video's first chunk is a single latent frame, that is one video frame: for models that
  /// were trained so. True as well if config.json says "independent_first_frame": true.
  bool independent_first_frame = false;
  DecodeOverlap decode_overlap = DecodeOverlap::kAuto;

  /// Frames to go on from: [initial_frames, height, width, 3], RGB8. One is image to video, several
  /// are the continuation of a video. They become latent frames of whole chunks: the last 9, 21,
  /// 33 ... of them are used (1, 13, 25 ... with independent_first_frame), at most the window; of
  /// fewer than 9 the first is held still. Empty: from nothing. Read only by Open, in place.
  std::vector<uint8_t> initial_rgb;
  int64_t initial_frames = 0;
  /// The used initial frames come out first, as the autoencoder gives them back, and count among
  /// `frames`. Else only new frames come out.
  bool show_initial = false;
};

/// A phase of loading or text encoding begins: "loading the transformer". For progress displays.
using PhaseCallback = std::function<void(const std::string& phase)>;

/// The frames of one chunk.
struct Chunk {
  int64_t index = 0;        // of the chunk, from 0
  bool given = false;       // these are initial frames, not generated
  int prompt = 0;           // which prompt made it: 0, and one more for each SetPrompt
  int64_t first_frame = 0;  // index of its first video frame
  int64_t frames = 0;
  int width = 0, height = 0;  // pixels
  double start_s = 0;         // time stamp of its first frame, in seconds of video
  double transformer_ms = 0;  // spent in the transformer for this chunk
  double vae_ms = 0;          // spent decoding it
  double wait_ms = 0;         // spent in Next(): less than both together if they overlap
  std::vector<uint8_t> rgb;   // [frames, height, width, 3]
};

/// One video in the making. Move-only; keeps its engine alive.
class MRT_API Stream {
 public:
  Stream(Stream&&) noexcept;
  Stream& operator=(Stream&&) noexcept;
  ~Stream();

  /// Generates the next chunk. Cancelled after Cancel(); InvalidArgument when done(). After any
  /// other failure the stream cannot go on: further calls return the same.
  Result<Chunk> Next();
  /// The same into a chunk whose memory is used again: after the first ones, nothing is allocated.
  Status Next(Chunk& chunk);
  /// All frames of StreamOptions::frames have been given. Any thread.
  bool done() const;
  /// How many frames Next() will give: its rgb has 3 * width * height bytes for each. 0 when
  /// done().
  int64_t next_frames() const;

  /// Goes on with another prompt, from the next chunk that has not been begun. `recache` also
  /// computes the keys and values of the window's frames anew with it, so that the old prompt loses
  /// its hold at once: costs a pass for each chunk in the window. InvalidArgument for a prompt that
  /// is too long, and for a recache if a tile of 3 frames would have to be cut at the sink.
  /// NotFound if no chunk is left to change: at once, or after the prompt was encoded, if the last
  /// chunk was begun beside that. OutOfMemory if the text encoder's work does not fit beside the
  /// stream. The stream goes on after any of these.
  Result<PromptChange> SetPrompt(const std::string& prompt, bool recache = false);
  /// The first video frame that a SetPrompt now would change; StreamOptions::frames or more if
  /// there is none.
  int64_t next_prompt_frame() const;

  /// Makes a running or later Next() return Cancelled soon, within a layer's work; on a GPU it
  /// first waits for its turn, that is for chunks of the engine's other streams. Any thread; safe
  /// in a signal handler.
  void Cancel();
  /// What has been measured so far; complete when done().
  GenerationStats stats() const;

 private:
  friend class Engine;
  struct MRT_HIDDEN Impl;
  MRT_HIDDEN explicit Stream(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

/// Where an engine can run.
struct DeviceInfo {
  std::string name;         // as EngineOptions::device takes it: "cpu", "cuda:0"
  std::string description;  // "AMD EPYC, 2 threads, native bf16", "NVIDIA H200"
  int64_t memory_total_bytes = 0;
  int64_t memory_available_bytes = 0;  // what this process can still get
};
/// All of this machine that this build can use, the best first.
MRT_API std::vector<DeviceInfo> ListDevices();

/// What a loaded model is.
struct ModelInfo {
  std::string name;                      // "wan 30 layers, dim 1536, 12 heads"
  std::string device;                    // "cpu", "cuda:0"
  std::string dtype;                     // "f32", "bf16" or "int8"
  int64_t layers = 0;                    // of the transformer
  int width_multiple = 0;                // width is a multiple of it, in pixels; with Monarch
  int height_multiple = 0;               // attention, of it times the cuts of the tiling
  bool independent_first_frame = false;  // config.json says so
  int64_t weights_bytes = 0;             // packed, transformer and autoencoder
};

/// The memory of one generation, of the host but for the last two. Planned before anything is
/// loaded; what runs stays below. Not in it: other streams of the engine; what the caller holds, as
/// initial_rgb and the chunks it keeps; and a Stream::SetPrompt with the text encoder on the CPU,
/// which takes text_bytes beside the running stream and is refused where they are not left.
struct MemoryEstimate {
  int64_t weights_bytes = 0;           // packed transformer and autoencoder, from Load on
  int64_t text_bytes = 0;              // while a prompt is encoded
  int64_t stream_bytes = 0;            // KV cache, activations, autoencoder states, frames
  int64_t peak_bytes = 0;              // the most of it at one time
  int64_t available_bytes = 0;         // what this process can still get now
  int64_t device_peak_bytes = 0;       // the most of a GPU's memory at one time; 0 on the CPU
  int64_t device_available_bytes = 0;  // what it has free
};

/// A loaded model. Move-only.
class MRT_API Engine {
 public:
  Engine(Engine&&) noexcept;
  Engine& operator=(Engine&&) noexcept;
  ~Engine();

  /// Checks files, tensors, sizes, settings and memory before anything large is loaded: what Load
  /// and Open would refuse for these options, at once. Of the weights only the autoencoder's are
  /// read, the smallest, because its working memory depends on them. Sizes that do not fit come
  /// with the nearest that do.
  static Status Validate(const EngineOptions& engine, const StreamOptions& stream);

  /// The same checks but for that of the memory, which is told instead.
  static Result<MemoryEstimate> EstimateMemory(const EngineOptions& engine,
                                               const StreamOptions& stream);

  /// The defaults of StreamOptions for this model: a package says width, height, steps, shift,
  /// window and attention mode it was trained for ("generation" in its model.json,
  /// docs/formats.md); of others they are the usual ones. Reads no weights.
  static Result<StreamOptions> DefaultStreamOptions(const EngineOptions& engine);

  /// Ok if a prompt is taken: at most 1 MiB.
  static Status CheckPrompt(const std::string& prompt);

  /// Reads and packs the weights of the transformer and the VAE.
  static Result<Engine> Load(const EngineOptions& options, const PhaseCallback& on_phase = {});

  /// Encodes the prompt and starts a stream. What that took of the host's memory is given back
  /// before this returns.
  Result<Stream> Open(const StreamOptions& options, const PhaseCallback& on_phase = {});

  ModelInfo info() const;

  /// Video frames a second of what this engine makes.
  static constexpr int kFps = 16;

 private:
  friend class Stream;
  struct MRT_HIDDEN Impl;
  MRT_HIDDEN explicit Engine(std::shared_ptr<Impl> impl);
  std::shared_ptr<Impl> impl_;
};

}  // namespace monarchrt
