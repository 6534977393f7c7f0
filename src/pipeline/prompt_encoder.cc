#include "pipeline/prompt_encoder.h"

#include <utility>

namespace mrt {
namespace {

using monarchrt::TextCacheUse;

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

Result<PromptEncoder> PromptEncoder::Open(const ModelFiles& files,
                                          const monarchrt::EngineOptions& options,
                                          const Device& device, int64_t models_bytes) {
  MRT_ASSIGN_OR_RETURN(Umt5Encoder encoder, OpenTextEncoder(files));
  PromptEncoder prompts(std::move(encoder), static_cast<int>(files.config.text_len));
  const int64_t needed_bytes = models_bytes + prompts.encoder_.MatrixBytes() + kFreeBytes;
  const bool there =
      device.backend() != nullptr && options.text_device == monarchrt::TextDevice::kAuto &&
      needed_bytes <= device.AvailableBytes() && prompts.encoder_.RunsOn(*device.backend());
  if (there) prompts.backend_ = device.backend();
  MRT_ASSIGN_OR_RETURN(prompts.precision_, there ? device.ResolvePrecision(options.precision)
                                                 : device.ResolveTextPrecision(options.precision));
  if (!files.tokenizer_path.empty()) {
    MRT_ASSIGN_OR_RETURN(prompts.tokenizer_, OpenTokenizer(files, prompts.encoder_));
  }
  prompts.cache_ = TextCache(options.cache_dir, files.text_encoder, prompts.precision_,
                             there ? device.GpuName() : std::string());
  return prompts;
}

void PromptEncoder::Load() {
  if (backend_ != nullptr) encoder_.MoveMatrices(*backend_);
}

Result<PromptEncoder::Prompt> PromptEncoder::Prepare(const std::string& text) const {
  Prompt prompt;
  if (tokenizer_) {
    MRT_ASSIGN_OR_RETURN(prompt.ids, tokenizer_->Encode(CleanPrompt(text), text_len_));
  } else {
    prompt.ids = BytesAsTokens(text, text_len_);
  }
  prompt.cached = cache_.Find(prompt.ids, text_len_, encoder_.config().dim);
  return prompt;
}

int64_t PromptEncoder::PeakBytes(const Prompt& prompt) const {
  constexpr int64_t kCopies = 2;  // the mapped file and the tensor
  return prompt.cached.empty() ? encoder_.PeakBytes(precision_, text_len_)
                               : kCopies * prompt.cached.bytes();
}

Result<PromptEncoder::Encoded> PromptEncoder::Encode(ops::Context& context, Prompt prompt) const {
  Encoded result;
  if (!prompt.cached.empty()) {
    result.embedding = std::move(prompt.cached);
    result.cache = TextCacheUse::kHit;
    return result;
  }
  MRT_ASSIGN_OR_RETURN(result.embedding, encoder_.Encode(context, prompt.ids, text_len_));
  if (context.stopped()) return Cancelled("[stream] was cancelled");  // the embedding is none
  if (!cache_.on()) return result;
  const Status stored = cache_.Store(prompt.ids, result.embedding);
  result.cache = stored.ok() ? TextCacheUse::kMiss : TextCacheUse::kUnwritable;
  result.cache_problem = stored.message();
  return result;
}

}  // namespace mrt
