// From a prompt to its embedding: cleaned, split into tokens, out of the cache or encoded.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "model/tokenizer/tokenizer.h"
#include "model/umt5/umt5.h"
#include "monarchrt/stats.h"
#include "pipeline/device.h"
#include "pipeline/model_files.h"
#include "pipeline/text_cache.h"

namespace mrt {

/// Const calls may run at the same time. Move-only.
class PromptEncoder {
 public:
  /// Reads the tokenizer; of the encoder nothing is loaded. It is for a GPU that keeps kFreeBytes
  /// beside it and the `models_bytes` of the others' weights, else, and if the options say so, for
  /// the CPU. The device must outlive it.
  static Result<PromptEncoder> Open(const ModelFiles& files,
                                    const monarchrt::EngineOptions& options, const Device& device,
                                    int64_t models_bytes);

  /// For the streams of an engine: a window of 1280x720 takes 25 GB.
  static constexpr int64_t kFreeBytes = 32'000'000'000;

  /// Of the contexts of Encode: null for the CPU.
  ops::Backend* backend() const { return backend_; }
  ops::Precision precision() const { return precision_; }

  /// Before the first Encode: takes the encoder to a GPU, WeightBytes() of it. Throws
  /// std::bad_alloc.
  void Load();
  /// What the encoder always holds of a GPU's memory; 0 on the CPU.
  int64_t WeightBytes() const { return backend_ == nullptr ? 0 : encoder_.MatrixBytes(); }

  struct Prompt {
    std::vector<int32_t> ids;
    Tensor cached;  // F32 [text_len, dim]; empty: to be encoded
  };
  /// BadData: the tokenizer cannot split it.
  Result<Prompt> Prepare(const std::string& text) const;

  /// Bytes that Encode needs at its peak for it, beside WeightBytes(): where backend() is.
  int64_t PeakBytes(const Prompt& prompt) const;

  struct Encoded {
    Tensor embedding;  // F32 [text_len, dim]
    monarchrt::TextCacheUse cache = monarchrt::TextCacheUse::kOff;
    std::string cache_problem;  // why it could not be kept
  };
  /// Cancelled once the context is stopped.
  Result<Encoded> Encode(ops::Context& context, Prompt prompt) const;

 private:
  PromptEncoder(Umt5Encoder encoder, int text_len)
      : encoder_(std::move(encoder)), text_len_(text_len) {}

  Umt5Encoder encoder_;
  std::optional<Tokenizer> tokenizer_;  // none for a synthetic model
  TextCache cache_;
  int text_len_;
  ops::Backend* backend_ = nullptr;
  ops::Precision precision_ = ops::Precision::kF32;
};

}  // namespace mrt
