// The transformer's side of a stream: latents chunk after chunk, the initial ones first.
#pragma once

#include <cstdint>

#include "ops/context.h"
#include "pipeline/chunks.h"
#include "pipeline/plan.h"
#include "pipeline/rollout.h"
#include "pipeline/sampler.h"

namespace mrt {

/// One chunk of latents and where it came from.
struct LatentChunk {
  Tensor buffer;  // F32 [largest chunk, channels, rows, cols]
  ChunkSpan span;
  bool given = false;  // initial latents
  int prompt = 0;      // the number of the text it was made with
  double transformer_s = 0;

  /// F32 [frames, channels, rows, cols]
  TensorView latents() const { return buffer.view().Slice(0, span.frames); }
};

class LatentMaker {
 public:
  /// `initial`: F32 [plan.initial_latents, channels, rows, cols], or empty. The transformer and the
  /// context must outlive it. Allocates all a stream needs. SetText comes before the first Make.
  LatentMaker(ops::Context& context, const WanTransformer& transformer, const VideoPlan& plan,
              Schedule schedule, uint64_t seed, Tensor initial);

  /// A chunk to pass to Make.
  LatentChunk NewChunk() const;

  /// Before the first Make: what of that can be done without the text.
  void Prepare();

  /// The next chunk: given latents are remembered, others generated. Not after done(). Cancelled if
  /// the context was stopped; any error ends the stream.
  Status Make(LatentChunk& chunk);

  /// What is left to do before the next Make, if it was not done yet: the clean pass. Errors as
  /// Make's. Its time is counted for the next chunk.
  Status Finish();

  /// From the next Make on, after Finish. With `recache` that first computes the window anew.
  void SetText(CrossKv text, int prompt, bool recache);

  /// The chunk that Make would make.
  ChunkSpan NextSpan() const {
    return ChunkAt(rollout_.frames_done(), kChunkLatentFrames, plan_.single_first);
  }
  bool done() const { return rollout_.frames_done() >= plan_.latents; }
  const VideoPlan& plan() const { return plan_; }

 private:
  /// The noise that the chunk at `position` begins with, if one is to be generated there.
  void PrepareNoise(int64_t position);

  ops::Context& context_;
  const VideoPlan plan_;
  const Schedule schedule_;
  const uint64_t seed_;
  const Tensor initial_;
  CrossKv text_;
  int prompt_ = 0;
  bool recache_ = false;
  int64_t chunks_ = 0;  // begun
  bool finished_ = true;
  double finish_s_ = 0;  // of Finish, since the last Make
  Tensor first_noise_;   // of the chunk at first_noise_position_, F32 like LatentChunk::buffer
  int64_t first_noise_position_ = -1;
  Rollout rollout_;
};

}  // namespace mrt
