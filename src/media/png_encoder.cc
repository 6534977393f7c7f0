#include "media/png_encoder.h"

extern "C" {
#include <libavutil/crc.h>
}

#include <cctype>
#include <string>

#include "media/ffmpeg.h"

namespace mrt::media {
namespace {

constexpr int kCompressionLevel = 6;  // zlib's own default; 9 takes long for 1 % less

// PNG specification (third edition), 5.2 and 5.3: the signature, then the chunk IHDR, which is
// always 13 bytes long. A chunk is a big-endian length of its data, four letters, the data and a
// CRC over letters and data.
constexpr int64_t kAfterHeaderBytes = 8 + (4 + 4 + 13 + 4);

void AppendBigEndian(uint32_t value, std::vector<uint8_t>* out) {
  for (int shift = 24; shift >= 0; shift -= 8) out->push_back(static_cast<uint8_t>(value >> shift));
}

// 11.3.3.4: keyword, separator, not compressed, method 0, no language, no translated keyword, text.
void AppendTextChunk(const Tag& tag, std::vector<uint8_t>* out) {
  std::string data = tag.name;
  data[0] = static_cast<char>(std::toupper(static_cast<unsigned char>(data[0])));  // as registered
  data.append(5, '\0');
  data += tag.text;
  AppendBigEndian(static_cast<uint32_t>(data.size()), out);
  const std::string letters_and_data = "iTXt" + data;
  out->insert(out->end(), letters_and_data.begin(), letters_and_data.end());
  constexpr uint32_t kStart = ~uint32_t{0};
  const uint32_t crc =
      ~av_crc(av_crc_get_table(AV_CRC_32_IEEE_LE), kStart,
              reinterpret_cast<const uint8_t*>(letters_and_data.data()), letters_and_data.size());
  AppendBigEndian(crc, out);
}

}  // namespace

Result<std::vector<uint8_t>> EncodePng(const AVFrame& frame, const std::vector<Tag>& tags) {
  MRT_ASSIGN_OR_RETURN(const AVCodec* codec, FindEncoder("png"));
  CodecContextPtr encoder(avcodec_alloc_context3(codec));
  PacketPtr packet(av_packet_alloc());
  if (!encoder || !packet) return OutOfMemory("[png] no memory for the encoder");
  encoder->width = frame.width;
  encoder->height = frame.height;
  encoder->pix_fmt = AV_PIX_FMT_RGB24;
  encoder->time_base = {1, 1};  // asked for, unused
  encoder->thread_count = 1;
  encoder->compression_level = kCompressionLevel;
  int error = avcodec_open2(encoder.get(), codec, nullptr);
  if (error >= 0) error = avcodec_send_frame(encoder.get(), &frame);
  if (error >= 0) error = avcodec_receive_packet(encoder.get(), packet.get());
  if (error < 0) return FfmpegError(StatusCode::kInternal, "[png] encoding failed", error);
  std::vector<uint8_t> png(packet->data, packet->data + kAfterHeaderBytes);
  for (const Tag& tag : tags) AppendTextChunk(tag, &png);
  png.insert(png.end(), packet->data + kAfterHeaderBytes, packet->data + packet->size);
  return png;
}

}  // namespace mrt::media
