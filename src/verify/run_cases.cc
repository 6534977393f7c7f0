#include "model/wan/transformer.h"
#include "pipeline/model_files.h"
#include "pipeline/plan.h"
#include "verify/autoencoder_case.h"
#include "verify/case_file.h"
#include "verify/cases.h"
#include "verify/metadata.h"
#include "verify/rollout_case.h"
#include "verify/text_case.h"

namespace mrt::verify {
namespace {

// Decoded values low..high -> 0..1, clamped, as the golden video is.
void ToUnitRange(const TensorView& frames, PixelRange range) {
  float* x = frames.as<float>();
  for (int64_t i = 0; i < frames.shape.elements(); ++i) {
    const float unit = (x[i] - range.low) / (range.high - range.low);
    x[i] = unit < 0 ? 0 : unit > 1 ? 1 : unit;
  }
}

Status VerifyRun(const std::string& tree, const std::string& path, ops::Context& context,
                 ops::Context& text_context, const RunOptions& options, Judge& judge) {
  MRT_ASSIGN_OR_RETURN(const Checkpoint file, OpenCase(path));
  const Metadata metadata(file);
  MRT_ASSIGN_OR_RETURN(
      const ModelFiles model,
      OpenModelFiles({.model = tree, .checkpoint = metadata.Text("checkpoint", "")}));
  MRT_ASSIGN_OR_RETURN(const Umt5Encoder encoder, OpenTextEncoder(model));
  MRT_ASSIGN_OR_RETURN(const Tokenizer tokenizer, OpenTokenizer(model, encoder));
  const int text_len = static_cast<int>(model.config.text_len);
  MRT_ASSIGN_OR_RETURN(const std::vector<int32_t> ids,
                       tokenizer.Encode(CleanPrompt(metadata.Text("prompt", "")), text_len));
  if (!file.Find("ids").empty()) {
    judge.CompareExact(path, "ids", PadTokens(ids, text_len), file.Find("ids"));
  }
  MRT_ASSIGN_OR_RETURN(const Tensor text, encoder.Encode(text_context, ids, text_len));
  if (!file.Find("context").empty())
    judge.Compare(path, "context", text, file.Find("context"), kTensorLimit);
  MRT_ASSIGN_OR_RETURN(const ops::WeightType weights,
                       ResolveWeights(options.precision, model.transformer, model.config));
  if (options.skip_int8 && weights == ops::WeightType::kInt8) return {};
  MRT_ASSIGN_OR_RETURN(const WanTransformer transformer,
                       WanTransformer::Load(context, model.transformer, model.config, weights));
  MRT_RETURN_IF_ERROR(CheckRolloutLatents(model.config, file, "noise"));
  if (!file.Find("initial_latents").empty())
    MRT_RETURN_IF_ERROR(CheckRolloutLatents(model.config, file, "initial_latents"));
  MRT_ASSIGN_OR_RETURN(const RolloutCase rollout_case,
                       RolloutCase::Read(model.config, file, options, context.precision()));
  const Status runs =
      rollout_case.CheckTiling(model.config, context.precision(), context.backend());
  if (!runs.ok()) {
    for (const char* tensor : {"latents", "video"})
      if (!file.Find(tensor).empty()) judge.Skip(path, tensor, runs.message());
    return {};
  }
  MRT_ASSIGN_OR_RETURN(const RolloutResult result,
                       RunRolloutCase(context, transformer, rollout_case, text, {}));
  const double limit = TransformerLimit(kRolloutLimit, weights);
  judge.Compare(path, "latents", result.latents, file.Find("latents"), limit);
  if (file.Find("video").empty()) return {};
  MRT_ASSIGN_OR_RETURN(const auto decoder, LoadDecoder(context, model));
  MRT_ASSIGN_OR_RETURN(const Tensor frames, DecodeAll(context, *decoder, result.latents, path));
  ToUnitRange(frames, decoder->range());
  judge.Compare(path, "video", ChannelsFirst(frames), file.Find("video"), limit);
  return {};
}

}  // namespace

Status VerifyRuns(const std::string& tree, const Files& files, ops::Context& context,
                  ops::Context& text_context, const RunOptions& options, Judge& judge) {
  for (const std::string& path : files)
    MRT_RETURN_IF_ERROR(VerifyRun(tree, path, context, text_context, options, judge));
  return {};
}

}  // namespace mrt::verify
