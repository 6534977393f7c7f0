#include "verify/rollout_case.h"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <random>

#include "verify/metadata.h"

namespace mrt::verify {
namespace {

// `frames` in chunks of `chunk`, after one frame on its own if `independent_first`.
Result<std::vector<int64_t>> SplitIntoChunks(int64_t frames, int64_t chunk, bool independent_first,
                                             const std::string& where) {
  std::vector<int64_t> chunks;
  if (independent_first && frames > 0) chunks.push_back(1), --frames;
  if (frames % chunk != 0)
    return BadData("[verify] " + where + ": got " + std::to_string(frames) +
                   " frames, need a multiple of num_frame_per_block " + std::to_string(chunk));
  for (; frames > 0; frames -= chunk) chunks.push_back(chunk);
  return chunks;
}

int64_t FrameElements(const Tensor& frames) {
  return frames.shape().elements() / frames.shape()[0];
}

}  // namespace

Status CheckRolloutLatents(const WanConfig& config, const Checkpoint& file,
                           const std::string& name) {
  const ConstTensorView x = file.Find(name);
  const bool fits = x.shape.rank() == 4 && x.shape[0] > 0 && x.shape[1] == config.in_dim &&
                    x.shape[2] > 0 && x.shape[2] % config.patch_size[1] == 0 && x.shape[3] > 0 &&
                    x.shape[3] % config.patch_size[2] == 0;
  if (fits) return {};
  return BadData("[verify] " + file.path() + ": " + name + " is " + x.shape.ToString() +
                 ", need [frames, " + std::to_string(config.in_dim) + ", rows, columns]");
}

Status CheckTextContext(const WanConfig& config, const Checkpoint& file, const std::string& name) {
  const ConstTensorView text = file.Find(name);
  if (text.shape.rank() == 2 && text.shape[0] >= 1 && text.shape[0] <= config.text_len &&
      text.shape[1] == config.text_dim)
    return {};
  return BadData("[verify] " + file.path() + ": " + name + " is " + text.shape.ToString() +
                 ", need [at most " + std::to_string(config.text_len) + ", " +
                 std::to_string(config.text_dim) + "]");
}

Status RolloutCase::CheckTiling(const WanConfig& config, ops::Precision precision,
                                ops::Backend* backend) const {
  const ops::AttentionGrid grid = {
      .rows = static_cast<int>(options.latent_rows / config.patch_size[1]),
      .cols = static_cast<int>(options.latent_cols / config.patch_size[2]),
      .heads = static_cast<int>(config.num_heads),
      .head_dim = static_cast<int>(config.head_dim())};
  int64_t seen = 0;
  for (const auto* chunks : {&remembered_chunk_frames, &chunk_frames})
    for (int64_t frames : *chunks) {
      seen = std::min(seen + frames, options.window_frames);
      MRT_RETURN_IF_ERROR(ops::ValidateAttention(options.attention.different()[0], grid,
                                                 static_cast<int>(frames), static_cast<int>(seen),
                                                 precision, backend));
    }
  return {};
}

Result<RolloutCase> RolloutCase::Read(const WanConfig& config, const Checkpoint& file,
                                      const RunOptions& run, ops::Precision precision) {
  if (config.in_dim != config.out_dim)
    return BadData("[verify] the model takes " + std::to_string(config.in_dim) +
                   " channels and gives " + std::to_string(config.out_dim) +
                   ", need equally many for a rollout");
  const Metadata metadata(file);
  RolloutCase c;
  MRT_ASSIGN_OR_RETURN(const std::vector<int> steps,
                       metadata.IntegerList("denoising_step_list", {1000, 750, 500, 250}));
  MRT_ASSIGN_OR_RETURN(const double shift, metadata.Number("timestep_shift", 5));
  MRT_ASSIGN_OR_RETURN(c.schedule, Schedule::Make(steps, shift));
  MRT_ASSIGN_OR_RETURN(const int64_t block, metadata.Integer("num_frame_per_block", 3));
  MRT_ASSIGN_OR_RETURN(const int64_t window, metadata.Integer("local_attn_size", -1));
  MRT_ASSIGN_OR_RETURN(c.options.sink_frames, metadata.Integer("sink_size", 0));
  MRT_ASSIGN_OR_RETURN(c.text_1_from_chunk, metadata.Integer("context_1_from_chunk", -1));
  MRT_ASSIGN_OR_RETURN(const ops::AttentionConfig attention,
                       metadata.Attention(run.implementation));
  c.options.attention = attention;
  if (block < 1)
    return BadData("[verify] " + file.path() + ": num_frame_per_block is " + std::to_string(block) +
                   ", need 1 or more");
  c.noise = ToFloat32(file.Find("noise"));
  if (!file.Find("renoise").empty()) c.renoise = ToFloat32(file.Find("renoise"));
  if (!file.Find("initial_latents").empty())
    c.initial_latents = ToFloat32(file.Find("initial_latents"));

  const bool independent_first = metadata.Flag("independent_first_frame");
  const int64_t initial = c.initial_latents.empty() ? 0 : c.initial_latents.shape()[0];
  const int64_t generated = c.noise.shape()[0];
  MRT_ASSIGN_OR_RETURN(c.remembered_chunk_frames,
                       SplitIntoChunks(initial, block, independent_first, file.path()));
  MRT_ASSIGN_OR_RETURN(
      c.chunk_frames,
      SplitIntoChunks(generated, block, independent_first && initial == 0, file.path()));
  const int64_t renoise = static_cast<int64_t>(steps.size() - 1) * c.noise.shape().elements();
  const int64_t renoise_given = c.renoise.empty() ? 0 : c.renoise.shape().elements();
  if (renoise_given != renoise)
    return BadData("[verify] " + file.path() + ": renoise has " + std::to_string(renoise_given) +
                   " elements, need " + std::to_string(renoise));
  for (int axis = 1; axis < 4 && !c.initial_latents.empty(); ++axis)
    if (c.initial_latents.shape()[axis] != c.noise.shape()[axis])
      return BadData("[verify] " + file.path() + ": initial_latents is " +
                     c.initial_latents.shape().ToString() + ", noise is " +
                     c.noise.shape().ToString() + "; need equal frames");
  c.options.latent_rows = c.noise.shape()[2];
  c.options.latent_cols = c.noise.shape()[3];
  const int64_t all = initial + generated;
  if (window < 0 || window >= all) {  // nothing is ever evicted
    c.options.window_frames = all;
    c.options.sink_frames = 0;
  } else {
    c.options.window_frames = window;
  }
  if (c.options.sink_frames < 0 ||
      c.options.window_frames - c.options.sink_frames < std::min(block, all))
    return BadData("[verify] " + file.path() + ": local_attn_size " + std::to_string(window) +
                   " with sink_size " + std::to_string(c.options.sink_frames) +
                   " leaves no room for a chunk");
  MRT_RETURN_IF_ERROR(c.CheckTiling(config, precision));
  if (run.variation != 0) c.Vary(run.variation);
  return c;
}

void RolloutCase::Vary(int variation) {
  constexpr double kBf16HalfUlp = 0x1p-8;  // relative
  std::mt19937 random(static_cast<uint32_t>(variation));
  std::uniform_real_distribution<double> change(-kBf16HalfUlp, kBf16HalfUlp);
  for (Tensor* tensor : {&noise, &renoise})
    for (int64_t i = 0; !tensor->empty() && i < tensor->shape().elements(); ++i)
      tensor->as<float>()[i] *= static_cast<float>(1 + change(random));
}

Result<RolloutResult> RunRolloutCase(ops::Context& context, const WanTransformer& transformer,
                                     const RolloutCase& c, const ConstTensorView& text,
                                     const ConstTensorView& text_1) {
  const CrossKv text_kv = transformer.EncodeText(context, text);
  const bool switches = !text_1.empty() && c.text_1_from_chunk >= 0;
  const CrossKv text_1_kv = transformer.EncodeText(context, switches ? text_1 : text);
  RolloutOptions options = c.options;
  options.kv_dtype = context.activation();
  options.memory = context.memory();
  Rollout rollout(transformer, options);
  const Shape& noise_shape = c.noise.shape();
  const int64_t initial = c.initial_latents.empty() ? 0 : c.initial_latents.shape()[0];
  RolloutResult result;
  result.latents = Tensor(
      DType::kF32, {initial + noise_shape[0], noise_shape[1], noise_shape[2], noise_shape[3]});
  int64_t done = 0;
  for (int64_t frames : c.remembered_chunk_frames) {
    const TensorView given = c.initial_latents.view().Slice(done, done + frames);
    MRT_RETURN_IF_ERROR(rollout.Remember(context, given, text_kv));
    std::memcpy(result.latents.view().Slice(done, done + frames).data, given.data,
                static_cast<size_t>(given.bytes()));
    done += frames;
  }
  int64_t renoise_used = 0;  // elements
  const auto noise = [&](int64_t first_frame, int step, const TensorView& out) {
    const float* from = c.noise.as<float>() + (first_frame - initial) * FrameElements(c.noise);
    if (step > 0) {
      from = c.renoise.as<float>() + renoise_used;
      renoise_used += out.shape.elements();
    }
    std::memcpy(out.data, from, static_cast<size_t>(out.bytes()));
  };
  const auto observer = [&](int64_t, int, const ConstTensorView& flow) {
    if (result.first_flow.empty()) result.first_flow = ToFloat32(flow);
  };
  for (size_t chunk = 0; chunk < c.chunk_frames.size(); ++chunk) {
    const int64_t frames = c.chunk_frames[chunk];
    const bool second = switches && static_cast<int64_t>(chunk) >= c.text_1_from_chunk;
    const CrossKv& text_kv_now = second ? text_1_kv : text_kv;
    MRT_RETURN_IF_ERROR(rollout.NextObserved(context, c.schedule, text_kv_now, noise,
                                             result.latents.view().Slice(done, done + frames),
                                             observer));
    MRT_RETURN_IF_ERROR(rollout.Finish(context, text_kv_now));
    done += frames;
  }
  return result;
}

}  // namespace mrt::verify
