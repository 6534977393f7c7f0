#include "model/vae/wan_vae.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "model/vae/synthetic.h"
#include "testing/compare.h"
#include "testing/video_codec.h"
#include "testing/video_codec_suite.h"

namespace mrt {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

const std::string kGolden = MRT_GOLDEN_DIR "/wan_vae/";

Checkpoint Open(const std::string& path) { return testing::ValueOf(Checkpoint::Open(path)); }

struct Codec {
  explicit Codec(ops::Precision precision, ops::Backend* backend = nullptr)
      : context(precision, backend) {
    const Checkpoint weights = Open(kGolden + "Wan2.1_VAE.pth");
    decoder = testing::ValueOf(LoadWanVaeDecoder(context, weights, LatentStatistics::Wan21()));
    encoder = testing::ValueOf(LoadWanVaeEncoder(context, weights, LatentStatistics::Wan21()));
  }
  ops::Context context;
  std::unique_ptr<VideoDecoder> decoder;
  std::unique_ptr<VideoEncoder> encoder;

  static std::string Golden() { return kGolden + "vae_case.safetensors"; }
};

INSTANTIATE_TYPED_TEST_SUITE_P(WanVae, VideoCodecSuite, Codec);

TEST(WanVae, DecodesTheGoldenRun) {
  const Checkpoint golden = Open(MRT_GOLDEN_DIR "/toy_wan/run_0.safetensors");
  const Checkpoint weights =
      Open(MRT_GOLDEN_DIR "/toy_wan/wan_models/Wan2.1-T2V-1.3B/Wan2.1_VAE.pth");
  ops::Context context(ops::Precision::kF32);
  const auto decoder =
      testing::ValueOf(LoadWanVaeDecoder(context, weights, LatentStatistics::Wan21()));
  const Tensor frames = testing::Decode(context, *decoder, golden.Find("latents"));
  for (int64_t i = 0; i < frames.shape().elements(); ++i) {  // the video is stored in 0..1
    float& pixel = frames.as<float>()[i];
    pixel = std::clamp((pixel - decoder->range().low) / 2, 0.0f, 1.0f);
  }
  constexpr double kHalfUlpF16 = 0x1p-11;  // relative: the video is stored as F16
  EXPECT_LE(testing::Compare(frames, testing::ToChannelsLast(golden.Find("video"))).relative_l2,
            1e-4 + kHalfUlpF16);
}

TEST(WanVae, PlansTheMemoryItUses) {
  ops::Context context(ops::Precision::kF32);
  const auto decoder =
      testing::ValueOf(LoadWanVaeDecoder(context, SyntheticWanVae(8), LatentStatistics::Wan21()));
  testing::ExpectPlannedMemory(context, *decoder);
  ops::Context encoder_context(ops::Precision::kF32);
  const auto encoder = testing::ValueOf(
      LoadWanVaeEncoder(encoder_context, SyntheticWanVae(8), LatentStatistics::Wan21()));
  testing::ExpectPlannedMemory(encoder_context, *encoder);
}

TEST(WanVae, SyntheticWeightsGiveFiniteFrames) {
  ops::Context context(ops::Precision::kF32);
  const Checkpoint weights = SyntheticWanVae(8);
  const auto decoder =
      testing::ValueOf(LoadWanVaeDecoder(context, weights, LatentStatistics::Wan21()));
  const auto encoder =
      testing::ValueOf(LoadWanVaeEncoder(context, weights, LatentStatistics::Wan21()));
  testing::ExpectRoundTripIsFinite(context, *encoder, *decoder);
}

TEST(WanVae, NamesEveryMissingTensor) {
  const Checkpoint whole = Open(kGolden + "Wan2.1_VAE.pth");
  const Checkpoint part =
      testing::Without(whole, {"decoder.upsamples.4.residual.2.weight", "conv2.bias",
                               "decoder.upsamples.7.time_conv.weight", "encoder.conv1.weight",
                               "encoder.middle.1.to_qkv.bias"});
  ops::Context context(ops::Precision::kF32);
  const auto decoder = LoadWanVaeDecoder(context, part, LatentStatistics::Wan21());
  ASSERT_EQ(decoder.status().code(), StatusCode::kNotFound);
  EXPECT_THAT(decoder.status().message(),
              AllOf(HasSubstr("3 tensors are missing"),
                    HasSubstr("decoder.upsamples.4.residual.2.weight"), HasSubstr("conv2.bias"),
                    HasSubstr("decoder.upsamples.7.time_conv.weight"), Not(HasSubstr("wrong"))));
  const auto encoder = LoadWanVaeEncoder(context, part, LatentStatistics::Wan21());
  ASSERT_EQ(encoder.status().code(), StatusCode::kNotFound);
  EXPECT_THAT(encoder.status().message(),
              AllOf(HasSubstr("2 tensors are missing"), HasSubstr("encoder.conv1.weight"),
                    HasSubstr("encoder.middle.1.to_qkv.bias"), Not(HasSubstr("wrong"))));
}

TEST(WanVae, RefusesHostileTensors) {
  const Checkpoint whole = Open(kGolden + "Wan2.1_VAE.pth");
  const auto load = [&](const std::string& name, DType dtype, const Shape& shape) {
    const Checkpoint bad = testing::WithShape(whole, name, dtype, shape);
    ops::Context context(ops::Precision::kF32);
    const Status decoder = LoadWanVaeDecoder(context, bad, LatentStatistics::Wan21()).status();
    return decoder.ok() ? LoadWanVaeEncoder(context, bad, LatentStatistics::Wan21()).status()
                        : decoder;
  };
  constexpr int64_t kHuge = int64_t{1} << 62;
  const std::pair<const char*, Shape> cases[] = {
      {"decoder.conv1.weight", {0, 16, 3, 3, 3}},
      {"decoder.conv1.weight", {kHuge, 0, 3, 3, 3}},
      {"decoder.conv1.weight", {}},
      {"decoder.conv1.weight", {32, 16, 3, 3}},
      {"conv2.weight", {5000, 1, 1, 1, 1}},
      {"conv2.weight", {0}},
      {"decoder.upsamples.4.residual.2.weight", {33, 16, 3, 3, 3}},
      {"decoder.upsamples.3.resample.1.weight", {kHuge, 0}},
      {"decoder.middle.0.residual.2.weight", {16, 32, 3, 3, 3}},
      {"decoder.upsamples.0.residual.0.gamma", {32}},
      {"decoder.head.2.weight", {4, 8, 3, 3, 3}},
      {"conv1.weight", {31, 31, 1, 1, 1}},
      {"encoder.downsamples.8.time_conv.bias", {31}},
  };
  for (const auto& [name, shape] : cases)
    EXPECT_THAT(load(name, DType::kF32, shape).code(),
                ::testing::AnyOf(StatusCode::kBadData, StatusCode::kNotFound))
        << name << " " << shape.ToString();
  EXPECT_EQ(load("decoder.conv1.bias", DType::kI32, {32}).code(), StatusCode::kBadData);
}

TEST(WanVae, RefusesAnotherFrameRate) {
  const Checkpoint whole = Open(kGolden + "Wan2.1_VAE.pth");
  const Checkpoint slow = testing::Without(
      whole, {"decoder.upsamples.3.time_conv.weight", "decoder.upsamples.3.time_conv.bias"});
  ops::Context context(ops::Precision::kF32);
  const auto decoder = LoadWanVaeDecoder(context, slow, LatentStatistics::Wan21());
  ASSERT_EQ(decoder.status().code(), StatusCode::kBadData);
  EXPECT_THAT(decoder.status().message(), HasSubstr("got 1 levels with a time_conv, need 2"));
}

TEST(LatentStatistics, ReadsTheGoldenConfig) {
  const auto read = LatentStatistics::Read(kGolden + "vae_config.json");
  ASSERT_TRUE(read.ok()) << read.status().message();
  EXPECT_EQ(read->mean, LatentStatistics::Wan21().mean);
  EXPECT_EQ(read->std, LatentStatistics::Wan21().std);
}

TEST(LatentStatistics, RefusesWhatMakesNoSense) {
  EXPECT_EQ(LatentStatistics::Read("/does/not/exist").status().code(), StatusCode::kNotFound);
  const std::string path = ::testing::TempDir() + "vae_config.json";
  for (const char* text : {"", "[]", "{}", "{\"latent_mean\": [1], \"latent_std\": 1}",
                           "{\"latent_mean\": [1], \"latent_std\": [\"1\"]}",
                           "{\"latent_mean\": [1], \"latent_std\": [1, 1]}",
                           "{\"latent_mean\": [1], \"latent_std\": [0]}",
                           "{\"latent_mean\": [1], \"latent_std\": [-1]}",
                           "{\"latent_mean\": [1e99], \"latent_std\": [1]}"}) {
    std::ofstream(path) << text;
    EXPECT_EQ(LatentStatistics::Read(path).status().code(), StatusCode::kBadData) << text;
  }
  std::ofstream(path) << std::string(2'000'000, '[');
  EXPECT_THAT(LatentStatistics::Read(path).status().message(), HasSubstr("too long"));
  std::filesystem::remove(path);
  ASSERT_EQ(mkfifo(path.c_str(), 0600), 0);
  EXPECT_EQ(LatentStatistics::Read(path).status().code(), StatusCode::kInvalidArgument);
  std::filesystem::remove(path);
}

TEST(LatentStatistics, MustFitTheVae) {
  const Checkpoint weights = Open(kGolden + "Wan2.1_VAE.pth");
  ops::Context context(ops::Precision::kF32);
  LatentStatistics statistics = LatentStatistics::Wan21();
  statistics.mean.pop_back();
  EXPECT_EQ(LoadWanVaeDecoder(context, weights, statistics).status().code(),
            StatusCode::kInvalidArgument);
  EXPECT_EQ(LoadWanVaeEncoder(context, weights, statistics).status().code(),
            StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace mrt
