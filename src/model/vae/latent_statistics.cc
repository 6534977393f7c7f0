#include "model/vae/latent_statistics.h"

#include <cmath>

#include "base/json.h"
#include "tensor/mapped_file.h"

namespace mrt {

LatentStatistics LatentStatistics::Wan21() {
  return {{-0.7571f, -0.7089f, -0.9113f, 0.1075f, -0.1745f, 0.9653f, -0.1517f, 1.5508f, 0.4134f,
           -0.0715f, 0.5517f, -0.3632f, -0.1922f, -0.9497f, 0.2503f, -0.2921f},
          {2.8184f, 1.4541f, 2.3275f, 2.6558f, 1.2196f, 1.7708f, 2.6052f, 2.0743f, 3.2687f, 2.1526f,
           2.8652f, 1.5579f, 1.6382f, 1.1253f, 2.8251f, 1.9160f}};
}

Result<LatentStatistics> LatentStatistics::Read(const std::string& vae_config_json) {
  constexpr size_t kFileBytesMax = 1 << 20;  // that of 16 channels has a few hundred
  MRT_ASSIGN_OR_RETURN(const auto file, MappedFile::Open(vae_config_json));
  if (file->bytes().size() > kFileBytesMax)
    return BadData("[wan vae] " + vae_config_json + " is too long, need at most " +
                   std::to_string(kFileBytesMax) + " bytes");
  const Json json = ParseJson(file->bytes());
  LatentStatistics statistics;
  for (auto [key, values] :
       {std::pair{"latent_mean", &statistics.mean}, std::pair{"latent_std", &statistics.std}}) {
    const auto found = json.is_object() ? json.find(key) : json.end();
    if (found == json.end() || !found->is_array())
      return BadData("[wan vae] " + vae_config_json + ": need a list of numbers " + key);
    for (const auto& value : *found) {
      if (!value.is_number())
        return BadData("[wan vae] " + vae_config_json + ": need a list of numbers " + key);
      values->push_back(value.get<float>());
    }
  }
  const Status valid = Validate(statistics, static_cast<int64_t>(statistics.mean.size()));
  if (!valid.ok()) return BadData(valid.message() + " in " + vae_config_json);
  return statistics;
}

Status Validate(const LatentStatistics& statistics, int64_t channels) {
  const auto want = static_cast<size_t>(channels);
  if (statistics.mean.size() != want || statistics.std.size() != want)
    return InvalidArgument("[wan vae] got " + std::to_string(statistics.mean.size()) +
                           " latent means and " + std::to_string(statistics.std.size()) +
                           " standard deviations, need " + std::to_string(channels) + " each");
  for (size_t i = 0; i < want; ++i)
    if (!std::isfinite(statistics.mean[i]) || !std::isnormal(statistics.std[i]) ||
        statistics.std[i] < 0)
      return InvalidArgument("[wan vae] got latent mean " + std::to_string(statistics.mean[i]) +
                             " and standard deviation " + std::to_string(statistics.std[i]) +
                             ", need finite numbers and a positive deviation");
  return {};
}

namespace {

ChannelAffine Affine(size_t channels) {
  const Shape shape{static_cast<int64_t>(channels)};
  return {Tensor(DType::kF32, shape), Tensor(DType::kF32, shape)};
}

ChannelAffine MovedTo(Memory* memory, ChannelAffine affine) {
  return {MoveTo(memory, std::move(affine.scale)), MoveTo(memory, std::move(affine.bias))};
}

}  // namespace

ChannelAffine Denormalize(const LatentStatistics& statistics, Memory* memory) {
  ChannelAffine affine = Affine(statistics.mean.size());
  for (size_t i = 0; i < statistics.mean.size(); ++i) {
    affine.scale.as<float>()[i] = statistics.std[i];
    affine.bias.as<float>()[i] = statistics.mean[i];
  }
  return MovedTo(memory, std::move(affine));
}

ChannelAffine Normalize(const LatentStatistics& statistics, Memory* memory) {
  ChannelAffine affine = Affine(statistics.mean.size());
  for (size_t i = 0; i < statistics.mean.size(); ++i) {
    affine.scale.as<float>()[i] = 1 / statistics.std[i];
    affine.bias.as<float>()[i] = -statistics.mean[i] / statistics.std[i];
  }
  return MovedTo(memory, std::move(affine));
}

}  // namespace mrt
