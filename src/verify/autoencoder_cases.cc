#include <algorithm>
#include <cstring>
#include <filesystem>
#include <functional>
#include <memory>

#include "model/taehv/taehv.h"
#include "model/vae/wan_vae.h"
#include "ops/transfer.h"
#include "verify/autoencoder_case.h"
#include "verify/case_file.h"
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

// TAEHV encodes four frames at a time: the published encoder repeats the last one to fill the
// group.
Tensor RepeatLastFrame(const Tensor& video, int64_t group) {
  const int64_t frames = video.shape()[0], full = (frames + group - 1) / group * group;
  Tensor out(DType::kF32, {full, video.shape()[1], video.shape()[2], video.shape()[3]});
  for (int64_t f = 0; f < full; ++f) {
    const int64_t source = std::min(f, frames - 1);
    const ConstTensorView from = video.view().Slice(source, source + 1);
    std::memcpy(out.view().Slice(f, f + 1).data, from.data, static_cast<size_t>(from.bytes()));
  }
  return out;
}

Result<Tensor> EncodeAll(ops::Context& context, const VideoEncoder& encoder,
                         const ConstTensorView& video, int64_t group, const std::string& where) {
  const Shape& s = video.shape;
  if (s.rank() != 4 || s[0] < 1 || s[1] != 3 || s[2] < kPixelsPerLatent ||
      s[2] % kPixelsPerLatent != 0 || s[3] < kPixelsPerLatent || s[3] % kPixelsPerLatent != 0)
    return BadData("[verify] " + where + ": video is " + s.ToString() +
                   ", need [frames, 3, a multiple of 8, a multiple of 8]");
  const Tensor frames = RepeatLastFrame(ChannelsLast(video), group);
  const auto state = encoder.NewState(s[2], s[3]);
  Tensor latents(DType::kF32,
                 {encoder.LatentsOut(*state, frames.shape()[0]), encoder.latent_channels(),
                  s[2] / kPixelsPerLatent, s[3] / kPixelsPerLatent});
  encoder.Encode(context, *state, frames, latents);
  return latents;
}

// Loads a half of the autoencoder when the first case asks for it.
template <typename Coder>
class Lazy {
 public:
  using Loader = std::function<Result<std::unique_ptr<Coder>>()>;
  explicit Lazy(Loader loader) : loader_(std::move(loader)) {}
  Result<const Coder*> Get() {
    if (!coder_) {
      MRT_ASSIGN_OR_RETURN(coder_, loader_());
    }
    return coder_.get();
  }

 private:
  Loader loader_;
  std::unique_ptr<Coder> coder_;
};

// latents -> decoded and video -> encoded, over the case files that have them.
Status VerifyAutoencoder(Lazy<VideoDecoder> decoder, Lazy<VideoEncoder> encoder, int64_t group,
                         const Files& files, ops::Context& context, Judge& judge) {
  for (const std::string& path : files) {
    MRT_ASSIGN_OR_RETURN(const Checkpoint file, OpenCase(path));
    if (!file.Find("decoded").empty() && !file.Find("latents").empty()) {
      MRT_ASSIGN_OR_RETURN(const VideoDecoder* const half, decoder.Get());
      MRT_ASSIGN_OR_RETURN(const Tensor frames,
                           DecodeAll(context, *half, file.Find("latents"), path));
      judge.Compare(path, "decoded", ChannelsFirst(frames), file.Find("decoded"), kTensorLimit);
    }
    if (!file.Find("encoded").empty() && !file.Find("video").empty()) {
      MRT_ASSIGN_OR_RETURN(const VideoEncoder* const half, encoder.Get());
      MRT_ASSIGN_OR_RETURN(const Tensor latents,
                           EncodeAll(context, *half, file.Find("video"), group, path));
      judge.Compare(path, "encoded", latents, file.Find("encoded"), kTensorLimit);
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
  const ArenaScope scope(context.arena());
  const TensorView made = ops::RoomFor(context, frames);
  decoder.Decode(context, *state, ToFloat32(latents), made);
  ops::DownloadTo(context, made, frames);
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
  return VerifyAutoencoder(
      Lazy<VideoDecoder>([&] { return LoadWanVaeDecoder(context, weights, statistics); }),
      Lazy<VideoEncoder>([&] { return LoadWanVaeEncoder(context, weights, statistics); }),
      /*group=*/1, files, context, judge);
}

Status VerifyTaehv(const std::string& directory, const Files& files, ops::Context& context,
                   Judge& judge) {
  MRT_ASSIGN_OR_RETURN(const Checkpoint weights, Checkpoint::Open(directory + "/taew2_1.pth"));
  return VerifyAutoencoder(Lazy<VideoDecoder>([&] { return LoadTaehvDecoder(context, weights); }),
                           Lazy<VideoEncoder>([&] { return LoadTaehvEncoder(context, weights); }),
                           kFramesPerLatent, files, context, judge);
}

}  // namespace mrt::verify
