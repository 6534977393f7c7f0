#include "model/taehv/taehv.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "model/taehv/synthetic.h"
#include "testing/compare.h"
#include "testing/video_codec.h"
#include "testing/video_codec_suite.h"

namespace mrt {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

const std::string kGolden = MRT_GOLDEN_DIR "/taehv/";

Checkpoint Open(const std::string& path) { return testing::ValueOf(Checkpoint::Open(path)); }

struct Codec {
  explicit Codec(ops::Precision precision, ops::Backend* backend = nullptr)
      : context(precision, backend) {
    const Checkpoint weights = Open(kGolden + "taew2_1.pth");
    decoder = testing::ValueOf(LoadTaehvDecoder(context, weights));
    encoder = testing::ValueOf(LoadTaehvEncoder(context, weights));
  }
  ops::Context context;
  std::unique_ptr<VideoDecoder> decoder;
  std::unique_ptr<VideoEncoder> encoder;

  static std::string Golden() { return kGolden + "taehv_case.safetensors"; }
};

INSTANTIATE_TYPED_TEST_SUITE_P(Taehv, VideoCodecSuite, Codec);

TEST(Taehv, PlansTheMemoryItUses) {
  Codec codec(ops::Precision::kF32);
  testing::ExpectPlannedMemory(codec.context, *codec.decoder);
  Codec other(ops::Precision::kF32);
  testing::ExpectPlannedMemory(other.context, *other.encoder);
}

TEST(Taehv, SyntheticWeightsGiveFiniteFrames) {
  ops::Context context(ops::Precision::kF32);
  const Checkpoint weights = SyntheticTaehv();
  const auto decoder = testing::ValueOf(LoadTaehvDecoder(context, weights));
  const auto encoder = testing::ValueOf(LoadTaehvEncoder(context, weights));
  testing::ExpectRoundTripIsFinite(context, *encoder, *decoder);
}

/// `weight` with as many output channels again in front of its own.
Checkpoint WithExtraGrowth(const Checkpoint& whole, const std::string& name) {
  const ConstTensorView own = whole.Find(name);
  const Shape& shape = own.shape;
  auto doubled = std::make_shared<Tensor>(DType::kF32, Shape{2 * shape[0], shape[1], 1, 1});
  for (int64_t i = 0; i < shape.elements(); ++i) {
    doubled->as<float>()[i] = 100;  // must not be used
    doubled->as<float>()[shape.elements() + i] = ElementAsFloat(own, i);
  }
  Checkpoint checkpoint = whole;
  checkpoint.Add(name, *doubled, doubled);
  return checkpoint;
}

TEST(Taehv, UsesTheLastChannelsOfAGrowthThatHasTooMany) {
  const Checkpoint golden = Open(kGolden + "taehv_case.safetensors");
  const Checkpoint weights = Open(kGolden + "taew2_1.pth");
  ops::Context context(ops::Precision::kF32);
  const auto decoder = testing::ValueOf(
      LoadTaehvDecoder(context, WithExtraGrowth(weights, "decoder.7.conv.weight")));
  const Tensor frames = testing::Decode(context, *decoder, golden.Find("latents"));
  EXPECT_LE(testing::Compare(frames, testing::ToChannelsLast(golden.Find("decoded"))).relative_l2,
            1e-4);
}

TEST(Taehv, NamesEveryMissingTensor) {
  const Checkpoint part =
      testing::Without(Open(kGolden + "taew2_1.pth"),
                       {"decoder.4.conv.2.weight", "decoder.13.conv.weight", "decoder.22.bias",
                        "encoder.4.conv.0.weight", "encoder.17.weight"});
  ops::Context context(ops::Precision::kF32);
  const auto decoder = LoadTaehvDecoder(context, part);
  ASSERT_EQ(decoder.status().code(), StatusCode::kNotFound);
  EXPECT_THAT(decoder.status().message(),
              AllOf(HasSubstr("3 tensors are missing"), HasSubstr("decoder.4.conv.2.weight"),
                    HasSubstr("decoder.13.conv.weight"), HasSubstr("decoder.22.bias"),
                    Not(HasSubstr("wrong"))));
  const auto encoder = LoadTaehvEncoder(context, part);
  ASSERT_EQ(encoder.status().code(), StatusCode::kNotFound);
  EXPECT_THAT(encoder.status().message(),
              AllOf(HasSubstr("2 tensors are missing"), HasSubstr("encoder.4.conv.0.weight"),
                    HasSubstr("encoder.17.weight"), Not(HasSubstr("wrong"))));
}

TEST(Taehv, RefusesHostileTensors) {
  const Checkpoint whole = Open(kGolden + "taew2_1.pth");
  const auto load = [&](const std::string& name, const Shape& shape) {
    const Checkpoint bad = testing::WithShape(whole, name, DType::kF32, shape);
    ops::Context context(ops::Precision::kF32);
    const Status decoder = LoadTaehvDecoder(context, bad).status();
    return decoder.ok() ? LoadTaehvEncoder(context, bad).status() : decoder;
  };
  constexpr int64_t kHuge = int64_t{1} << 62;
  const std::pair<const char*, Shape> cases[] = {
      {"decoder.1.weight", {0, 16, 3, 3}},
      {"decoder.1.weight", {32, 0, 3, 3}},
      {"decoder.1.weight", {kHuge, 0, kHuge, 3}},
      {"decoder.1.weight", {}},
      {"decoder.7.conv.weight", {0, 32, 1, 1}},
      {"decoder.7.conv.weight", {33, 32, 1, 1}},
      {"decoder.13.conv.weight", {24, 24, 1, 1}},  // two frames per latent frame
      {"decoder.19.conv.weight", {16, 16, 1, 1}},
      {"decoder.22.weight", {12, 16, 3, 3}},  // another pixel layout
      {"decoder.3.conv.0.weight", {32, 32, 3, 3}},
      {"encoder.2.conv.weight", {16, 16, 1, 1}},
      {"encoder.2.conv.weight", {16, 0, 1, 1}},
      {"encoder.17.weight", {0, 16, 3, 3}},
  };
  for (const auto& [name, shape] : cases)
    EXPECT_THAT(load(name, shape).code(),
                ::testing::AnyOf(StatusCode::kBadData, StatusCode::kNotFound))
        << name << " " << shape.ToString();
}

}  // namespace
}  // namespace mrt
