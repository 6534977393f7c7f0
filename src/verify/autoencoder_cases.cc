#include <filesystem>

#include "model/taehv/taehv.h"
#include "model/vae/wan_vae.h"
#include "verify/autoencoder_case.h"
#include "verify/cases.h"

namespace mrt::verify {
namespace {

// [a, b, c, d] -> [a, c, d, b]
Tensor ChannelsLast(const ConstTensorView& x) {
  const int64_t frames = x.shape[0], channels = x.shape[1], pixels = x.shape[2] * x.shape[3];
  const Tensor source = ToFloat32(x);
  Tensor out(DType::kF32, {frames, x.shape[2], x.shape[3], channels});
  const float* from = source.as<float>();
  for (int64_t f = 0; f < frames; ++f)
    for (int64_t c = 0; c < channels; ++c)
      for (int64_t p = 0; p < pixels; ++p)
        out.as<float>()[(f * pixels + p) * channels + c] = *from++;
  return out;
}

// Both directions of one autoencoder over the case files that have them.
Status VerifyAutoencoder(const VideoDecoder& decoder, const VideoEncoder& encoder,
                         const Files& files, ops::Context& context, Judge& judge) {
  for (const std::string& path : files) {
    MRT_ASSIGN_OR_RETURN(const Checkpoint file, Checkpoint::Open(path));
    if (!file.Find("decoded").empty()) {
      MRT_ASSIGN_OR_RETURN(const Tensor frames,
                           DecodeAll(context, decoder, file.Find("latents"), path));
      judge.Compare(path, "decoded", ChannelsFirst(frames), file.Find("decoded"), kTensorLimit);
    }
    if (!file.Find("encoded").empty()) {
      const ConstTensorView video = file.Find("video");
      if (video.shape.rank() != 4 || video.shape[1] != 3 || video.shape[0] < 1 ||
          video.shape[2] < kPixelsPerLatent || video.shape[2] % kPixelsPerLatent != 0 ||
          video.shape[3] < kPixelsPerLatent || video.shape[3] % kPixelsPerLatent != 0)
        return BadData("[verify] " + path + ": video is " + video.shape.ToString() +
                       ", need [frames, 3, 8 rows, 8 columns]");
      const auto state = encoder.NewState(video.shape[2], video.shape[3]);
      const int64_t latents = encoder.LatentsOut(*state, video.shape[0]);
      Tensor encoded(DType::kF32,
                     {latents, decoder.latent_channels(), video.shape[2] / kPixelsPerLatent,
                      video.shape[3] / kPixelsPerLatent});
      encoder.Encode(context, *state, ChannelsLast(video), encoded);
      judge.Compare(path, "encoded", encoded, file.Find("encoded"), kTensorLimit);
    }
  }
  return {};
}

}  // namespace

Tensor ChannelsFirst(const ConstTensorView& x) {
  const int64_t frames = x.shape[0], pixels = x.shape[1] * x.shape[2], channels = x.shape[3];
  Tensor out(DType::kF32, {frames, channels, x.shape[1], x.shape[2]});
  const float* from = x.as<float>();
  for (int64_t f = 0; f < frames; ++f)
    for (int64_t p = 0; p < pixels; ++p)
      for (int64_t c = 0; c < channels; ++c)
        out.as<float>()[(f * channels + c) * pixels + p] = *from++;
  return out;
}

Result<Tensor> DecodeAll(ops::Context& context, const VideoDecoder& decoder,
                         const ConstTensorView& latents, const std::string& where) {
  if (latents.shape.rank() != 4 || latents.shape[1] != decoder.latent_channels() ||
      latents.shape.elements() == 0)
    return BadData("[verify] " + where + ": latents are " + latents.shape.ToString() +
                   ", need [frames, " + std::to_string(decoder.latent_channels()) +
                   ", rows, columns]");
  const auto state = decoder.NewState(latents.shape[2], latents.shape[3]);
  Tensor frames(DType::kF32,
                {decoder.FramesOut(*state, latents.shape[0]), latents.shape[2] * kPixelsPerLatent,
                 latents.shape[3] * kPixelsPerLatent, 3});
  decoder.Decode(context, *state, ToFloat32(latents), frames);
  return frames;
}

Status VerifyWanVae(const std::string& directory, const Files& files, ops::Context& context,
                    Judge& judge) {
  MRT_ASSIGN_OR_RETURN(const Checkpoint weights, Checkpoint::Open(directory + "/Wan2.1_VAE.pth"));
  LatentStatistics statistics = LatentStatistics::Wan21();
  const std::string config = directory + "/vae_config.json";
  if (std::filesystem::exists(config)) {
    MRT_ASSIGN_OR_RETURN(statistics, LatentStatistics::Read(config));
  }
  MRT_ASSIGN_OR_RETURN(const auto decoder, LoadWanVaeDecoder(context, weights, statistics));
  MRT_ASSIGN_OR_RETURN(const auto encoder, LoadWanVaeEncoder(context, weights, statistics));
  return VerifyAutoencoder(*decoder, *encoder, files, context, judge);
}

Status VerifyTaehv(const std::string& directory, const Files& files, ops::Context& context,
                   Judge& judge) {
  MRT_ASSIGN_OR_RETURN(const Checkpoint weights, Checkpoint::Open(directory + "/taew2_1.pth"));
  MRT_ASSIGN_OR_RETURN(const auto decoder, LoadTaehvDecoder(context, weights));
  MRT_ASSIGN_OR_RETURN(const auto encoder, LoadTaehvEncoder(context, weights));
  return VerifyAutoencoder(*decoder, *encoder, files, context, judge);
}

}  // namespace mrt::verify
