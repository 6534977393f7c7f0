// The tests that both video codecs must pass: golden tensors, a device, bfloat16, streams in
// pieces, memory.
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <utility>

#include "testing/compare.h"
#include "testing/video_codec.h"
#include "testing/video_codec_device.h"

namespace mrt {

/// Codec(precision, backend) has a context, a decoder and an encoder; Codec::Golden() is the file
/// of `latents` and `decoded`, `video` and `encoded`.
template <typename Codec>
class VideoCodecSuite : public ::testing::Test {
 protected:
  const Checkpoint golden_ = testing::ValueOf(Checkpoint::Open(Codec::Golden()));
  const ConstTensorView latents_ = golden_.Find("latents"), encoded_ = golden_.Find("encoded");
  const Tensor video_ = testing::ToChannelsLast(golden_.Find("video"));
  const Tensor decoded_ = testing::ToChannelsLast(golden_.Find("decoded"));

  /// Relative L2 of the frames and of the latents.
  std::pair<double, double> Errors(ops::Precision precision) const {
    Codec codec(precision);
    return {testing::Compare(testing::Decode(codec.context, *codec.decoder, latents_), decoded_)
                .relative_l2,
            testing::Compare(testing::Encode(codec.context, *codec.encoder, video_), encoded_)
                .relative_l2};
  }
};

TYPED_TEST_SUITE_P(VideoCodecSuite);

TYPED_TEST_P(VideoCodecSuite, MatchesTheGoldenTensors) {
  const auto [decode, encode] = this->Errors(ops::Precision::kF32);
  EXPECT_LE(decode, 1e-4);
  EXPECT_LE(encode, 1e-4);
}

TYPED_TEST_P(VideoCodecSuite, GivesOnADeviceWhatTheCpuGives) {
  testing::ExpectTheSameOnADevice<TypeParam>(this->latents_, this->video_);
}

TYPED_TEST_P(VideoCodecSuite, IsAsGoodInBF16AsRoundingAllows) {
  if (!ops::HasNativeBF16()) GTEST_SKIP() << "this machine has no native bfloat16";
  const auto [decode, encode] = this->Errors(ops::Precision::kBF16);
  const auto [decode_rounded, encode_rounded] = this->Errors(ops::Precision::kBF16Emulated);
  this->RecordProperty("decode", std::to_string(decode) + " / " + std::to_string(decode_rounded));
  this->RecordProperty("encode", std::to_string(encode) + " / " + std::to_string(encode_rounded));
  EXPECT_LE(decode, 2 * decode_rounded);
  EXPECT_LE(encode, 2 * encode_rounded);
}

TYPED_TEST_P(VideoCodecSuite, DecodesAStreamInAnyPieces) {
  TypeParam codec(ops::Precision::kF32);
  testing::ExpectDecodesInAnyPieces(codec.context, *codec.decoder, this->latents_);
}

TYPED_TEST_P(VideoCodecSuite, EncodesAStreamInAnyPieces) {
  TypeParam codec(ops::Precision::kF32);
  testing::ExpectEncodesInAnyPieces(codec.context, *codec.encoder, this->video_);
}

TYPED_TEST_P(VideoCodecSuite, MemoryDoesNotGrowWithTheStream) {
  TypeParam codec(ops::Precision::kF32);
  testing::ExpectBoundedMemory(codec.context, *codec.decoder);
}

REGISTER_TYPED_TEST_SUITE_P(VideoCodecSuite, MatchesTheGoldenTensors, GivesOnADeviceWhatTheCpuGives,
                            IsAsGoodInBF16AsRoundingAllows, DecodesAStreamInAnyPieces,
                            EncodesAStreamInAnyPieces, MemoryDoesNotGrowWithTheStream);

}  // namespace mrt
