// What an Engine is inside: everything that all its streams share, const after Load.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>

#include "model/vae/video_codec.h"
#include "model/wan/transformer.h"
#include "monarchrt/engine.h"
#include "ops/context.h"
#include "pipeline/device.h"
#include "pipeline/model_files.h"
#include "pipeline/prompt_encoder.h"

namespace monarchrt {

/// What the transformer takes of a prompt, and what the cache did for it.
struct EncodedPrompt {
  mrt::CrossKv kv;
  TextCacheUse cache = TextCacheUse::kOff;
  std::string cache_problem;
};

struct Engine::Impl {
  Impl(const EngineOptions& engine_options, mrt::Device engine_device,
       mrt::ops::Precision engine_precision)
      : options(engine_options), device(std::move(engine_device)), precision(engine_precision) {}

  const EngineOptions options;
  const mrt::Device device;  // before all that lies in its memory
  const mrt::ops::Precision precision;
  mrt::ops::WeightType weights = mrt::ops::WeightType::kActivation;  // of the transformer's blocks
  mrt::ModelFiles files;
  std::optional<mrt::WanTransformer> transformer;
  std::unique_ptr<mrt::VideoDecoder> decoder;
  std::optional<mrt::PromptEncoder> prompts;
  double load_s = 0;
  mutable std::mutex transformer_mutex, decoder_mutex;  // see LockTransformer

  Status Load(const PhaseCallback& on_phase);

  /// The keys and values of a prompt, with the encoder's scratch given back. Cancelled once `stop`
  /// is true.
  Result<EncodedPrompt> EncodePrompt(mrt::PromptEncoder::Prompt prompt,
                                     const std::atomic<bool>* stop) const;

  std::string ModelName() const;

  /// Held by a stream while its models use a backend of the device: each serves one stream at a
  /// time, the CPU all. Making room and copies need none. Nobody who holds one waits for the other.
  std::unique_lock<std::mutex> LockTransformer() const { return Lock(transformer_mutex); }
  std::unique_lock<std::mutex> LockDecoder() const { return Lock(decoder_mutex); }

 private:
  std::unique_lock<std::mutex> Lock(std::mutex& mutex) const {
    return device.backend() == nullptr ? std::unique_lock<std::mutex>() : std::unique_lock(mutex);
  }
};

/// Ok if the bytes of the initial frames are those of that many frames.
Status CheckInitialFrames(const StreamOptions& options);

}  // namespace monarchrt
