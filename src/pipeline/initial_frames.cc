#include "pipeline/initial_frames.h"

#include <algorithm>

#include "pipeline/chunks.h"
#include "pipeline/pixels.h"

namespace mrt {

Result<Tensor> EncodeInitialFrames(ops::Context& context, const VideoEncoder& encoder,
                                   const std::vector<uint8_t>& rgb, int64_t frames, int64_t height,
                                   int64_t width, int64_t latents) {
  Tensor out(DType::kF32, {latents, encoder.latent_channels(), height / kPixelsPerLatent,
                           width / kPixelsPerLatent});
  const Tensor frame(DType::kF32, {1, height, width, 3});
  const auto state = encoder.NewState(height, width);
  const int64_t used = VideoFrames(latents), first = std::max<int64_t>(0, frames - used);
  int64_t done = 0;
  // Where the encoder starts with a group of frames, it gets some more of the first.
  for (int64_t v = 1 - encoder.first_group_frames(); v < used; ++v) {
    const int64_t from = std::max(first, frames - used + v);
    FromRgb8(rgb.data() + from * height * width * 3, encoder.range(), frame);
    const int64_t complete = encoder.LatentsOut(*state, 1);
    encoder.Encode(context, *state, frame, out.view().Slice(done, done + complete));
    done += complete;
    if (context.stopped()) return Cancelled("[stream] was cancelled");
  }
  return out;
}

}  // namespace mrt
