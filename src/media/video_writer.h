// Frames to a video file, a pipe or a folder of pictures, encoded while they are made.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/status.h"
#include "media/metadata.h"

namespace mrt::media {

struct VideoWriterOptions {
  /// x264's name for how hard it searches, "ultrafast" to "placebo". At equal quality a slower
  /// preset makes the file smaller, hardly better; the cores are needed for the model.
  static constexpr const char* kPresetDefault = "veryfast";
  /// Encoder threads. A fixed number, not that of the machine's cores, because encoders may write
  /// other bits for another thread count: so equal frames give equal files everywhere.
  static constexpr int kThreadsDefault = 2;

  int width = 0;            // pixels; even for mp4, webm and y4m
  int height = 0;           // pixels; likewise
  int fps = 16;             // frames per second, 1 to 240; gif: to 50
  std::string format;       // mp4, webm, gif, y4m, png or rgb; empty: what the name ends in
  std::string codec;        // h264, vp9 or av1; empty: h264 in mp4, vp9 in webm
  std::string quality;      // low, medium, high, best or the codec's crf; empty: high
  std::string preset;       // of x264; empty: kPresetDefault
  bool fragmented = false;  // mp4 that plays while it grows
  int threads = 0;          // 1 to 64; 0: kThreadsDefault
  Metadata metadata;        // into mp4, webm, gif and png
};

/// | format | what is written |
/// | mp4    | H.264 or AV1, the index in front ("faststart"), or fragmented |
/// | webm   | VP9 or AV1 |
/// | gif    | 255 colours of its own for every frame |
/// | y4m    | YUV4MPEG2, 4:2:0 |
/// | png    | a file per frame: name/00000.png for a folder, or a pattern such as name/f%04d.png |
/// | rgb    | bytes [frames, height, width, 3] without a header |
/// Video is yuv420p, converted with and tagged as BT.709 in TV range (y4m cannot carry the tag).
/// Equal frames and options give equal bytes on one machine; H.264 on all.
///
/// Where it goes:
/// - a file: the name appears, or is replaced, in Finish(), complete. Bytes are in a temporary
///   file in the same directory until then. Only a fragmented mp4 appears with its first frames,
///   and grows; if a later call fails, it stays with what it has.
/// - png: each picture appears complete; a folder is made with the first one (its parent must be
///   there). Pictures that are there already stay, or are replaced if they have the same name.
/// - stdout (the name "-") or a descriptor: webm, gif, y4m, rgb and fragmented mp4. Nothing is
///   written before the first Write(); what Write() was given has left when it returns. A reader
///   that goes away is an IoError, never SIGPIPE.
/// Fragments and pipes are encoded without look-ahead and with a key frame every 2 s.
///
/// Memory: some tens of frames inside the encoder, whatever the length. Move-only; to be used by
/// one thread at a time.
class VideoWriter {
 public:
  /// Everything that can be wrong is found here, before a frame is made, and nothing is left
  /// behind by a writer that got no frame. InvalidArgument: options that contradict each other,
  /// the name or the destination. NotFound and IoError: the file cannot be made. Unavailable: the
  /// FFmpeg libraries lack the encoder.
  static Result<VideoWriter> Open(const std::string& path, const VideoWriterOptions& options);

  /// The same into `fd`, which stays open and the caller's. Needs options.format.
  static Result<VideoWriter> OpenDescriptor(int fd, const VideoWriterOptions& options);

  VideoWriter(VideoWriter&&) noexcept;
  VideoWriter& operator=(VideoWriter&&) noexcept;
  /// Without Finish(): what has no final name yet is removed.
  ~VideoWriter();

  /// Encodes at once. rgb: [frames, height, width, 3] bytes; read only during the call.
  /// After an IoError (disk full) the temporary file is gone (a fragmented mp4 stays) and every
  /// later call returns the same error.
  Status Write(const uint8_t* rgb, int64_t frames);

  /// Encodes what is left, completes the file and gives it its name. Needs at least one frame;
  /// nothing may be called afterwards.
  Status Finish();

 private:
  class Impl;
  explicit VideoWriter(std::unique_ptr<Impl> impl);

  std::unique_ptr<Impl> impl_;
};

/// Names of the H.264, VP9 and AV1 encoders compiled into these FFmpeg libraries, sorted. Those of
/// hardware may still fail without the hardware. VideoWriter knows libx264, libvpx-vp9, libsvtav1,
/// libaom-av1 and librav1e.
std::vector<std::string> AvailableEncoders();

}  // namespace mrt::media
