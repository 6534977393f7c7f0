#include "media/video_codec.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "media/ffmpeg.h"

namespace mrt::media {
namespace {

using ::testing::HasSubstr;

// Every row that is compiled in takes its own settings and gives as many packets as frames.
TEST(VideoEncoders, EveryRowEncodes) {
  SilenceFfmpeg();
  constexpr int kFrames = 12;
  for (const char* name : {"h264", "vp9", "av1"})
    for (const VideoEncoder& encoder : FindVideoCodec(name)->encoders)
      for (const bool live : {false, true}) {
        if (live && !encoder.can_be_live) continue;
        if (!FindEncoder(encoder.name).ok()) continue;
        const auto context = OpenVideoEncoder(
            encoder, {.width = 96, .height = 64, .fps = 16, .crf = 30, .threads = 2, .live = live});
        ASSERT_TRUE(context.ok()) << context.status().message();
        const auto frame = NewFrame(AV_PIX_FMT_YUV420P, 96, 64);
        const PacketPtr packet(av_packet_alloc());
        int packets = 0;
        for (int f = 0; f <= kFrames; ++f) {
          ASSERT_EQ(av_frame_make_writable(frame->get()), 0);
          for (int plane = 0; plane < 3; ++plane)
            std::memset((*frame)->data[plane], 50 + 5 * f,
                        size_t{1} * (*frame)->linesize[plane] * (plane ? 32 : 64));
          (*frame)->pts = f;
          ASSERT_EQ(avcodec_send_frame(context->get(), f < kFrames ? frame->get() : nullptr), 0);
          while (avcodec_receive_packet(context->get(), packet.get()) == 0) ++packets;
          if (live && f < kFrames) {
            EXPECT_EQ(packets, f + 1) << encoder.name;
          }
        }
        EXPECT_EQ(packets, kFrames) << encoder.name;
      }
}

TEST(VideoEncoders, RefuseWhatTheyCannot) {
  const VideoEncoder& x264 = FindVideoCodec("h264")->encoders[0];
  const VideoEncoder& vp9 = FindVideoCodec("vp9")->encoders[0];
  EncoderSettings settings = {.width = 96, .height = 64, .fps = 16, .crf = 30, .threads = 1};
  settings.preset = "quick";
  EXPECT_EQ(OpenVideoEncoder(x264, settings).status().code(), StatusCode::kInvalidArgument);
  settings.preset = "fast";
  EXPECT_EQ(OpenVideoEncoder(x264, settings).status().code(), StatusCode::kOk);
  EXPECT_THAT(OpenVideoEncoder(vp9, settings).status().message(), HasSubstr("preset 'fast'"));
  settings = {.width = 32, .height = 32, .fps = 16, .crf = 30, .threads = 1};
  EXPECT_THAT(OpenVideoEncoder(FindVideoCodec("av1")->encoders[0], settings).status().message(),
              HasSubstr("at least 64"));
  const VideoCodec none = {.name = "none", .encoders = {{.name = "libnone"}, {.name = "libnil"}}};
  EXPECT_EQ(ChooseEncoder(none, false).status().code(), StatusCode::kUnavailable);
  EXPECT_THAT(ChooseEncoder(none, false).status().message(), HasSubstr("libnone, libnil"));
  EXPECT_EQ(FindVideoCodec("mpeg2"), nullptr);
}

TEST(VideoEncoders, AStreamGetsOneThatCanBeLive) {
  const auto live = ChooseEncoder(*FindVideoCodec("av1"), true);
  if (!live.ok()) GTEST_SKIP() << "no AV1 encoder that can be live";
  EXPECT_TRUE((*live)->can_be_live);
}

}  // namespace
}  // namespace mrt::media
