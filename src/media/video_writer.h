// Frames to an MP4 file (H.264), encoded while they are made.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/status.h"

namespace mrt::media {

struct VideoWriterOptions {
  /// x264's constant rate factor, 1 (best) to 51. At 18 people see no difference to the source.
  static constexpr int kCrfDefault = 18;
  /// x264's name for how hard it searches, "ultrafast" to "placebo". At equal crf a slower preset
  /// makes the file smaller, hardly better; the cores are needed for the model.
  static constexpr const char* kPresetDefault = "veryfast";
  /// Encoder threads. A fixed number, not that of the machine's cores, because x264 writes other
  /// bits for another thread count: so equal frames give equal files everywhere.
  static constexpr int kThreadsDefault = 2;

  int width = 0;   // pixels, even
  int height = 0;  // pixels, even
  int fps = 16;    // frames per second, 1 to 240
  int crf = kCrfDefault;
  std::string preset = kPresetDefault;
  int threads = 0;  // 1 to 64; 0: kThreadsDefault
};

/// Writes H.264 yuv420p into MP4 with the index in front ("faststart"), colours converted with and
/// tagged as BT.709 in TV range. Equal frames and options give equal bytes. Memory: some tens of
/// frames inside the encoder, whatever the length. Move-only; to be used by one thread at a time.
class VideoWriter {
 public:
  /// Everything that can be wrong is found here, before a frame is made: InvalidArgument for the
  /// options, a name that does not end in .mp4, or a directory; NotFound and IoError if the file
  /// cannot be made; Unavailable if the FFmpeg libraries lack the encoder.
  /// The bytes go to a hidden temporary file in the same directory; the name `path` appears, or is
  /// replaced, only in Finish().
  static Result<VideoWriter> Open(const std::string& path, const VideoWriterOptions& options);

  VideoWriter(VideoWriter&&) noexcept;
  VideoWriter& operator=(VideoWriter&&) noexcept;
  /// Without Finish(): removes the temporary file.
  ~VideoWriter();

  /// Encodes at once. rgb: [frames, height, width, 3] bytes; read only during the call.
  /// After an IoError (disk full) the temporary file is gone and every later call returns the same
  /// error.
  Status Write(const uint8_t* rgb, int64_t frames);

  /// Encodes what is left, writes the index, flushes to the device and gives the file its name.
  /// Needs at least one frame; nothing may be called afterwards.
  Status Finish();

 private:
  class Impl;
  explicit VideoWriter(std::unique_ptr<Impl> impl);

  std::unique_ptr<Impl> impl_;
};

/// Names of the H.264, VP9 and AV1 encoders compiled into these FFmpeg libraries, sorted. Those of
/// hardware may still fail without the hardware. VideoWriter needs "libx264".
std::vector<std::string> AvailableEncoders();

}  // namespace mrt::media
