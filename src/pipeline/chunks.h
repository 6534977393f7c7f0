// How latent frames are grouped: chunks are denoised together, and a video frame belongs to one.
#pragma once

#include <algorithm>
#include <cstdint>

#include "model/vae/video_codec.h"

namespace mrt {

/// Latent frames denoised together; the released models are trained for 3.
inline constexpr int64_t kChunkLatentFrames = 3;

struct ChunkSpan {
  int64_t first = 0;   // latent frame
  int64_t frames = 0;  // latent frames
};

/// The chunk that latent frame `position` belongs to. Chunks have `chunk_frames`, but for a first
/// one of a single frame.
inline ChunkSpan ChunkAt(int64_t position, int64_t chunk_frames, bool single_first) {
  const int64_t before = single_first ? 1 : 0;
  if (position < before) return {0, before};
  return {before + (position - before) / chunk_frames * chunk_frames, chunk_frames};
}

/// Video frames of the first `latents` latent frames: the first gives one, every other one four.
inline int64_t VideoFrames(int64_t latents) {
  return latents == 0 ? 0 : 1 + kFramesPerLatent * (latents - 1);
}

/// Latent frames, at least one, that whole video frames 0 ... frames - 1 need.
inline int64_t LatentsFor(int64_t frames) {
  return 1 + (std::max<int64_t>(frames, 1) - 1 + kFramesPerLatent - 1) / kFramesPerLatent;
}

}  // namespace mrt
