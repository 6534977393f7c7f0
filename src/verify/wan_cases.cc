#include "model/wan/transformer.h"
#include "pipeline/plan.h"
#include "pipeline/rollout.h"
#include "pipeline/sampler.h"
#include "verify/case_file.h"
#include "verify/cases.h"
#include "verify/metadata.h"
#include "verify/rollout_case.h"

namespace mrt::verify {
namespace {

ops::AttentionGrid GridOf(const WanConfig& config, const Shape& latents) {
  return {.rows = static_cast<int>(latents[2] / config.patch_size[1]),
          .cols = static_cast<int>(latents[3] / config.patch_size[2]),
          .heads = static_cast<int>(config.num_heads),
          .head_dim = static_cast<int>(config.head_dim())};
}

Status VerifyBidirectional(const WanTransformer& transformer, const Checkpoint& file,
                           const std::string& label, ops::Context& context,
                           const RunOptions& options, Judge& judge) {
  if (options.variation != 0) return {};  // has no noise to vary
  const WanConfig& config = transformer.config();
  MRT_RETURN_IF_ERROR(CheckRolloutLatents(config, file, "latents"));
  MRT_RETURN_IF_ERROR(CheckTextContext(config, file, "context"));
  const Metadata metadata(file);
  MRT_ASSIGN_OR_RETURN(const double timestep, metadata.Number("timestep", 0));
  MRT_ASSIGN_OR_RETURN(const ops::AttentionConfig attention,
                       metadata.Attention(options.implementation));
  const Tensor latents = ToFloat32(file.Find("latents"));
  const int frames = static_cast<int>(latents.shape()[0]);
  MRT_RETURN_IF_ERROR(ops::ValidateAttention(attention, GridOf(config, latents.shape()), frames,
                                             frames, context.precision()));
  const Status runs = ops::ValidateAttention(attention, GridOf(config, latents.shape()), frames,
                                             frames, context.precision(), context.backend());
  if (!runs.ok()) {
    judge.Skip(label, "flow", runs.message());
    return {};
  }
  const CrossKv text = transformer.EncodeText(context, ToFloat32(file.Find("context")));
  Tensor flow(DType::kF32, {frames, config.out_dim, latents.shape()[2], latents.shape()[3]});
  transformer.ForwardBidirectional(context, latents, static_cast<float>(timestep), text, attention,
                                   flow);
  judge.Compare(label, "flow", flow, file.Find("flow"),
                TransformerLimit(kTensorLimit, transformer.weights()));
  return {};
}

Status VerifyRollout(const WanTransformer& transformer, const Checkpoint& file,
                     const std::string& label, ops::Context& context, const RunOptions& options,
                     Judge& judge) {
  MRT_RETURN_IF_ERROR(CheckRolloutLatents(transformer.config(), file, "noise"));
  MRT_RETURN_IF_ERROR(CheckTextContext(transformer.config(), file, "context"));
  if (!file.Find("context_1").empty())
    MRT_RETURN_IF_ERROR(CheckTextContext(transformer.config(), file, "context_1"));
  if (!file.Find("initial_latents").empty())
    MRT_RETURN_IF_ERROR(CheckRolloutLatents(transformer.config(), file, "initial_latents"));
  MRT_ASSIGN_OR_RETURN(const RolloutCase rollout_case,
                       RolloutCase::Read(transformer.config(), file, options, context.precision()));
  const Status runs =
      rollout_case.CheckTiling(transformer.config(), context.precision(), context.backend());
  if (!runs.ok()) {
    for (const char* tensor : {"first_flow", "latents"})
      if (!file.Find(tensor).empty()) judge.Skip(label, tensor, runs.message());
    return {};
  }
  const std::vector<DenoisingStep>& steps = rollout_case.schedule.steps();
  const ConstTensorView timesteps = file.Find("timesteps");
  if (!timesteps.empty()) {
    Tensor got(DType::kF32, {static_cast<int64_t>(steps.size())});
    for (size_t i = 0; i < steps.size(); ++i) got.as<float>()[i] = steps[i].timestep;
    judge.Compare(label, "timesteps", got, timesteps, kTensorLimit);
  }
  const Tensor text = ToFloat32(file.Find("context"));
  const Tensor text_1 =
      file.Find("context_1").empty() ? Tensor() : ToFloat32(file.Find("context_1"));
  MRT_ASSIGN_OR_RETURN(
      RolloutResult result,
      RunRolloutCase(context, transformer, rollout_case, text,
                     text_1.empty() ? ConstTensorView{} : ConstTensorView(text_1)));
  if (!file.Find("first_flow").empty())
    judge.Compare(label, "first_flow", result.first_flow, file.Find("first_flow"),
                  TransformerLimit(kTensorLimit, transformer.weights()));
  judge.Compare(label, "latents", result.latents, file.Find("latents"),
                TransformerLimit(kRolloutLimit, transformer.weights()));
  return {};
}

}  // namespace

Status VerifyWan(const std::string& directory, const Files& files, ops::Context& context,
                 const RunOptions& options, Judge& judge) {
  MRT_ASSIGN_OR_RETURN(const Checkpoint weights, Checkpoint::Open(directory));
  MRT_ASSIGN_OR_RETURN(const WanConfig config,
                       WanConfig::Read(directory + "/config.json", weights));
  MRT_ASSIGN_OR_RETURN(const ops::WeightType type,
                       ResolveWeights(options.precision, weights, config));
  if (options.skip_int8 && type == ops::WeightType::kInt8) return {};
  MRT_ASSIGN_OR_RETURN(const WanTransformer transformer,
                       WanTransformer::Load(context, weights, config, type));
  for (const std::string& path : files) {
    MRT_ASSIGN_OR_RETURN(const Checkpoint file, OpenCase(path));
    MRT_RETURN_IF_ERROR(
        file.Find("flow").empty()
            ? VerifyRollout(transformer, file, path, context, options, judge)
            : VerifyBidirectional(transformer, file, path, context, options, judge));
  }
  return {};
}

}  // namespace mrt::verify
