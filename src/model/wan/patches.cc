#include "model/wan/patches.h"

#include "base/threads.h"

namespace mrt {
namespace {

/// Calls `body(token, channel, latent offset of the patch's first element)` for all patches of
/// [frames, channels, h, w], spread over the threads by rows of tokens.
template <typename Body>
void ForEachPatch(const WanConfig& config, const Shape& latents, const Body& body) {
  const int64_t channels = latents[1], h = latents[2], w = latents[3];
  const int64_t rows = h / config.patch_size[1], cols = w / config.patch_size[2];
  ParallelFor(latents[0] * rows, 1, [&](int64_t begin, int64_t end) {
    for (int64_t fr = begin; fr < end; ++fr) {
      const int64_t frame = fr / rows, y = fr % rows * config.patch_size[1];
      for (int64_t ch = 0; ch < channels; ++ch)
        for (int64_t c = 0; c < cols; ++c)
          body(fr * cols + c, ch, ((frame * channels + ch) * h + y) * w + c * config.patch_size[2]);
    }
  });
}

}  // namespace

void Patchify(const WanConfig& config, const ConstTensorView& latents, const TensorView& patches) {
  const int64_t ph = config.patch_size[1], pw = config.patch_size[2], w = latents.shape[3];
  const float* const from = latents.as<float>();
  float* const to = patches.as<float>();
  ForEachPatch(config, latents.shape, [&](int64_t token, int64_t channel, int64_t offset) {
    float* const out = to + token * patches.shape[1] + channel * ph * pw;
    for (int64_t r = 0; r < ph; ++r)
      for (int64_t c = 0; c < pw; ++c) out[r * pw + c] = from[offset + r * w + c];
  });
}

void Unpatchify(const WanConfig& config, const ConstTensorView& patches,
                const TensorView& latents) {
  const int64_t ph = config.patch_size[1], pw = config.patch_size[2];
  const int64_t w = latents.shape[3];
  const float* const from = patches.as<float>();
  float* const to = latents.as<float>();
  ForEachPatch(config, latents.shape, [&](int64_t token, int64_t channel, int64_t offset) {
    const float* const in = from + token * patches.shape[1] + channel * ph * pw;
    for (int64_t r = 0; r < ph; ++r)
      for (int64_t c = 0; c < pw; ++c) to[offset + r * w + c] = in[r * pw + c];
  });
}

}  // namespace mrt
