// Tests only: reads back what was written, through FFmpeg's demuxer and decoders.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "media/handles.h"

namespace mrt::media::testing {

/// A directory that is removed with everything in it.
class TemporaryDirectory {
 public:
  TemporaryDirectory();
  ~TemporaryDirectory();
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;

  std::string operator/(const std::string& name) const { return path_ + "/" + name; }
  const std::string& path() const { return path_; }
  /// Names in the directory, hidden ones too, sorted.
  std::vector<std::string> Files() const;

 private:
  std::string path_;
};

struct DecodedVideo {
  AVCodecID codec = AV_CODEC_ID_NONE;
  AVPixelFormat pixel_format = AV_PIX_FMT_NONE;
  AVColorSpace matrix = AVCOL_SPC_UNSPECIFIED;
  AVColorPrimaries primaries = AVCOL_PRI_UNSPECIFIED;
  AVColorTransferCharacteristic transfer = AVCOL_TRC_UNSPECIFIED;
  AVColorRange range = AVCOL_RANGE_UNSPECIFIED;
  int width = 0;
  int height = 0;
  double fps = 0;
  double duration_s = 0;
  std::map<std::string, std::string> tags;  // of the file
  std::vector<FramePtr> frames;             // as decoded
  std::vector<double> times_s;              // of the frames
  std::vector<std::string> boxes;           // top-level MP4 boxes in file order
  std::vector<std::vector<uint8_t>> rgb;    // per frame [height, width, 3], by the BT.709 formulas
};

/// Also decodes a PNG (a video of one frame). Fails the running test if it cannot.
DecodedVideo Decode(const std::string& path);

/// What EncodeFile() writes.
struct EncodedFile {
  const char* muxer = nullptr;  // nullptr: the packets one after the other
  const char* encoder = nullptr;
  AVPixelFormat format = AV_PIX_FMT_NONE;
  int width = 0;
  int height = 0;
  AVColorSpace matrix = AVCOL_SPC_UNSPECIFIED;
  AVColorRange range = AVCOL_RANGE_UNSPECIFIED;
  AVRational pixel_aspect = {1, 1};
  std::vector<int32_t> display_matrix;  // 9 numbers, or empty
  std::vector<int64_t> times_ms;        // one frame each
};

/// Encodes frames that `fill` makes, given their number. Fails the running test if it cannot.
void EncodeFile(const std::string& path, const EncodedFile& file,
                const std::function<void(int, AVFrame*)>& fill);

std::vector<uint8_t> ReadBytes(const std::string& path);

/// Peak signal to noise ratio in dB of equally long byte arrays.
double Psnr(const uint8_t* a, const uint8_t* b, int64_t count);

/// rgb: [frames, height, width, 3]: smooth gradients that move one pixel per frame.
std::vector<uint8_t> MovingGradient(int frames, int height, int width);

}  // namespace mrt::media::testing
