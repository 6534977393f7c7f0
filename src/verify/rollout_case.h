// A recorded rollout: its settings, its noise in drawing order, and how to run it again.
#pragma once

#include <vector>

#include "model/wan/transformer.h"
#include "pipeline/rollout.h"
#include "pipeline/sampler.h"
#include "tensor/checkpoint.h"
#include "verify/cases.h"

namespace mrt::verify {

struct RolloutCase {
  Schedule schedule;
  RolloutOptions options;
  std::vector<int64_t> chunk_frames;             // latent frames of each generated chunk
  std::vector<int64_t> remembered_chunk_frames;  // of each chunk of initial_latents
  int64_t text_1_from_chunk = -1;  // generated chunk from which the second text holds; -1: never
  Tensor noise;                    // F32 [frames, channels, rows, cols]
  Tensor renoise;                  // F32, flat, in drawing order
  Tensor initial_latents;          // F32 [frames, channels, rows, cols] or empty

  /// Settings are checked against the tensors: BadData or InvalidArgument if they do not fit.
  static Result<RolloutCase> Read(const WanConfig& config, const Checkpoint& file,
                                  const RunOptions& options, ops::Precision precision);

  /// Changes every number of the noise by up to what rounding it to bf16 would: nobody could tell
  /// this case from the other, but all roundings after it fall otherwise.
  void Vary(int variation);

  /// Every chunk with the frames it will see must fit the tiling and the backend.
  Status CheckTiling(const WanConfig& config, ops::Precision precision,
                     ops::Backend* backend = nullptr) const;
};

struct RolloutResult {
  Tensor latents;     // F32 [initial + generated frames, channels, rows, cols]
  Tensor first_flow;  // F32, the velocity of chunk 0, step 0
};

/// `text`, `text_1` F32 [rows, text_dim]; text_1 may be empty.
Result<RolloutResult> RunRolloutCase(ops::Context& context, const WanTransformer& transformer,
                                     const RolloutCase& rollout_case, const ConstTensorView& text,
                                     const ConstTensorView& text_1);

/// Ok if tensor `name` of the file is [frames, in_dim, rows, cols] that the patches divide.
Status CheckRolloutLatents(const WanConfig& config, const Checkpoint& file,
                           const std::string& name);

/// Ok if tensor `name` of the file is a text embedding this transformer takes.
Status CheckTextContext(const WanConfig& config, const Checkpoint& file, const std::string& name);

}  // namespace mrt::verify
