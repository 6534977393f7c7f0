#include "media/decode_for_test.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>

namespace mrt::media::testing {
namespace {

// ITU-R BT.709-6, items 3.2 to 3.4 and 4.6: TV range, chroma of the nearest sample.
std::vector<uint8_t> RgbOf(const AVFrame& f) {
  std::vector<uint8_t> rgb(size_t{3} * f.width * f.height);
  for (int y = 0; y < f.height; ++y) {
    for (int x = 0; x < f.width; ++x) {
      uint8_t* out = &rgb[3 * (size_t{1} * y * f.width + x)];
      if (f.format == AV_PIX_FMT_RGB24) {
        std::memcpy(out, f.data[0] + y * f.linesize[0] + 3 * x, 3);
        continue;
      }
      if (f.format == AV_PIX_FMT_BGRA) {  // of GIF
        const uint8_t* bgr = f.data[0] + y * f.linesize[0] + 4 * x;
        for (int c = 0; c < 3; ++c) out[c] = bgr[2 - c];
        continue;
      }
      const double luma = (f.data[0][y * f.linesize[0] + x] - 16) / 219.0;
      const double cb = (f.data[1][y / 2 * f.linesize[1] + x / 2] - 128) / 224.0;
      const double cr = (f.data[2][y / 2 * f.linesize[2] + x / 2] - 128) / 224.0;
      const double r = luma + 1.5748 * cr, b = luma + 1.8556 * cb;
      const double g = (luma - 0.2126 * r - 0.0722 * b) / 0.7152;
      for (int c = 0; c < 3; ++c)
        out[c] =
            static_cast<uint8_t>(std::lround(255 * std::clamp(std::array{r, g, b}[c], 0.0, 1.0)));
    }
  }
  return rgb;
}

void Drain(AVCodecContext* decoder, AVRational time_base, DecodedVideo* video) {
  for (;;) {
    FramePtr frame(av_frame_alloc());
    const int error = avcodec_receive_frame(decoder, frame.get());
    if (error == AVERROR(EAGAIN) || error == AVERROR_EOF) return;
    ASSERT_GE(error, 0);
    video->times_s.push_back(static_cast<double>(frame->pts) * av_q2d(time_base));
    video->rgb.push_back(RgbOf(*frame));
    video->frames.push_back(std::move(frame));
  }
}

void DecodeInto(const std::string& path, DecodedVideo* video) {
  AVFormatContext* raw = nullptr;
  ASSERT_GE(avformat_open_input(&raw, ("file:" + path).c_str(), nullptr, nullptr), 0) << path;
  const InputPtr input(raw);
  ASSERT_GE(avformat_find_stream_info(input.get(), nullptr), 0);
  ASSERT_EQ(input->nb_streams, 1u);
  const AVStream& stream = *input->streams[0];
  const AVCodecParameters& p = *stream.codecpar;
  video->codec = p.codec_id;
  video->pixel_format = static_cast<AVPixelFormat>(p.format);
  video->matrix = p.color_space;
  video->primaries = p.color_primaries;
  video->transfer = p.color_trc;
  video->range = p.color_range;
  video->width = p.width;
  video->height = p.height;
  video->fps = av_q2d(stream.avg_frame_rate);
  video->duration_s = stream.duration == AV_NOPTS_VALUE
                          ? static_cast<double>(input->duration) / AV_TIME_BASE
                          : static_cast<double>(stream.duration) * av_q2d(stream.time_base);
  const AVDictionaryEntry* entry = nullptr;
  while ((entry = av_dict_get(input->metadata, "", entry, AV_DICT_IGNORE_SUFFIX)))
    video->tags[entry->key] = entry->value;

  const CodecContextPtr decoder(avcodec_alloc_context3(avcodec_find_decoder(p.codec_id)));
  ASSERT_GE(avcodec_parameters_to_context(decoder.get(), &p), 0);
  decoder->thread_count = 1;
  ASSERT_GE(avcodec_open2(decoder.get(), nullptr, nullptr), 0);
  const PacketPtr packet(av_packet_alloc());
  while (av_read_frame(input.get(), packet.get()) >= 0) {
    ASSERT_GE(avcodec_send_packet(decoder.get(), packet.get()), 0);
    av_packet_unref(packet.get());
    Drain(decoder.get(), stream.time_base, video);
  }
  ASSERT_GE(avcodec_send_packet(decoder.get(), nullptr), 0);
  Drain(decoder.get(), stream.time_base, video);
}

// A box is a 32-bit big-endian size, which counts itself, and four letters.
std::vector<std::string> TopLevelBoxes(const std::vector<uint8_t>& bytes) {
  std::vector<std::string> names;
  for (size_t at = 0; at + 8 <= bytes.size();) {
    const size_t size =
        size_t{bytes[at]} << 24 | bytes[at + 1] << 16 | bytes[at + 2] << 8 | bytes[at + 3];
    names.emplace_back(bytes.begin() + at + 4, bytes.begin() + at + 8);
    if (size < 8) break;
    at += size;
  }
  return names;
}

}  // namespace

TemporaryDirectory::TemporaryDirectory() {
  std::string name = ::testing::TempDir() + "/mrt_media_XXXXXX";
  path_ = mkdtemp(name.data());
}

TemporaryDirectory::~TemporaryDirectory() { std::filesystem::remove_all(path_); }

std::vector<std::string> TemporaryDirectory::Files() const {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(path_))
    names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

DecodedVideo Decode(const std::string& path) {
  DecodedVideo video;
  DecodeInto(path, &video);
  video.boxes = TopLevelBoxes(ReadBytes(path));
  return video;
}

void EncodeFile(const std::string& path, const EncodedFile& file,
                const std::function<void(int, AVFrame*)>& fill) {
  const AVCodec* codec = avcodec_find_encoder_by_name(file.encoder);
  ASSERT_TRUE(codec) << file.encoder;
  const CodecContextPtr encoder(avcodec_alloc_context3(codec));
  encoder->width = file.width;
  encoder->height = file.height;
  encoder->pix_fmt = file.format;
  encoder->time_base = {1, 1000};
  encoder->colorspace = file.matrix;
  encoder->color_range = file.range;
  encoder->sample_aspect_ratio = file.pixel_aspect;
  encoder->thread_count = 1;
  encoder->strict_std_compliance = FF_COMPLIANCE_EXPERIMENTAL;
  encoder->flags |= AV_CODEC_FLAG_GLOBAL_HEADER;
  ASSERT_GE(avcodec_open2(encoder.get(), codec, nullptr), 0);
  OutputPtr muxer;
  std::ofstream bare;
  if (file.muxer) {
    AVFormatContext* raw = nullptr;
    ASSERT_GE(avformat_alloc_output_context2(&raw, nullptr, file.muxer, nullptr), 0);
    muxer.reset(raw);
    AVStream* stream = avformat_new_stream(raw, nullptr);
    stream->time_base = encoder->time_base;
    ASSERT_GE(avcodec_parameters_from_context(stream->codecpar, encoder.get()), 0);
    stream->sample_aspect_ratio = file.pixel_aspect;
    if (!file.display_matrix.empty())
      std::memcpy(av_stream_new_side_data(stream, AV_PKT_DATA_DISPLAYMATRIX, 36),
                  file.display_matrix.data(), 36);
    ASSERT_GE(avio_open(&raw->pb, ("file:" + path).c_str(), AVIO_FLAG_WRITE), 0);
    ASSERT_GE(avformat_write_header(raw, nullptr), 0);
  } else {
    bare.open(path, std::ios::binary);
  }
  const PacketPtr packet(av_packet_alloc());
  for (size_t f = 0; f <= file.times_ms.size(); ++f) {
    FramePtr frame;
    if (f < file.times_ms.size()) {
      frame.reset(av_frame_alloc());
      frame->format = file.format;
      frame->width = file.width;
      frame->height = file.height;
      ASSERT_GE(av_frame_get_buffer(frame.get(), 0), 0);
      fill(static_cast<int>(f), frame.get());
      frame->pts = file.times_ms[f];
    }
    ASSERT_GE(avcodec_send_frame(encoder.get(), frame.get()), 0);
    while (avcodec_receive_packet(encoder.get(), packet.get()) >= 0) {
      if (!muxer) {
        bare.write(reinterpret_cast<const char*>(packet->data), packet->size);
        continue;
      }
      av_packet_rescale_ts(packet.get(), encoder->time_base, muxer->streams[0]->time_base);
      ASSERT_GE(av_write_frame(muxer.get(), packet.get()), 0);
    }
  }
  if (muxer) {
    ASSERT_GE(av_write_trailer(muxer.get()), 0);
  }
}

std::vector<uint8_t> ReadBytes(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

double Psnr(const uint8_t* a, const uint8_t* b, int64_t count) {
  double sum_sq = 0;
  for (int64_t i = 0; i < count; ++i) sum_sq += (a[i] - b[i]) * (a[i] - b[i]);
  return 10 * std::log10(255.0 * 255.0 * static_cast<double>(count) / std::max(sum_sq, 1e-9));
}

std::vector<uint8_t> MovingGradient(int frames, int height, int width) {
  std::vector<uint8_t> rgb;
  rgb.reserve(size_t{3} * frames * height * width);
  const auto wave = [](double turns) {
    return static_cast<uint8_t>(std::lround(127.5 + 100 * std::sin(2 * M_PI * turns)));
  };
  for (int f = 0; f < frames; ++f)
    for (int y = 0; y < height; ++y)
      for (int x = 0; x < width; ++x) {
        rgb.push_back(wave((x + f) / 160.0));
        rgb.push_back(wave((y - f) / 120.0));
        rgb.push_back(wave((x + y + 2 * f) / 250.0));
      }
  return rgb;
}

}  // namespace mrt::media::testing
