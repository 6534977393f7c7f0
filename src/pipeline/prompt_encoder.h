// From a prompt to its embedding: cleaned, split into tokens, out of the cache or encoded.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "model/tokenizer/tokenizer.h"
#include "model/umt5/umt5.h"
#include "monarchrt/stats.h"
#include "pipeline/model_files.h"
#include "pipeline/text_cache.h"

namespace mrt {

/// Const calls may run at the same time. Move-only.
class PromptEncoder {
 public:
  /// Reads the tokenizer; of the encoder nothing is loaded. `cache_dir`: of EngineOptions.
  static Result<PromptEncoder> Open(const ModelFiles& files, const std::string& cache_dir,
                                    ops::Precision precision);

  struct Prompt {
    std::vector<int32_t> ids;
    Tensor cached;  // F32 [text_len, dim]; empty: to be encoded
  };
  Prompt Prepare(const std::string& text) const;

  /// Bytes that Encode needs at its peak for it.
  int64_t PeakBytes(const Prompt& prompt) const;

  struct Encoded {
    Tensor embedding;  // F32 [text_len, dim]
    monarchrt::TextCacheUse cache = monarchrt::TextCacheUse::kOff;
    std::string cache_problem;  // why it could not be kept
  };
  /// Cancelled once the context is stopped.
  Result<Encoded> Encode(ops::Context& context, Prompt prompt) const;

 private:
  PromptEncoder(Umt5Encoder encoder, int text_len, ops::Precision precision)
      : encoder_(std::move(encoder)), text_len_(text_len), precision_(precision) {}

  Umt5Encoder encoder_;
  std::optional<Tokenizer> tokenizer_;  // none for a synthetic model
  TextCache cache_;
  int text_len_;
  ops::Precision precision_;
};

}  // namespace mrt
