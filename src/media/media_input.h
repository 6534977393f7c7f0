// Opens and decodes a picture or video that may be hostile.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "base/status.h"
#include "media/handles.h"

namespace mrt::media {

/// Largest picture that is decoded, checked before memory for it is asked: 8192x8192 as far as
/// area goes. One decoded frame of 8 bytes per pixel is then 512 MiB at most.
inline constexpr int64_t kInputPixelsMax = int64_t{8192} * 8192;
inline constexpr int kInputSideMax = 16384;

/// The first video stream of a file, frame by frame. Only that one file is read: formats that name
/// other files (playlists, concat) are refused, and there are no protocols. To be used by one
/// thread.
class MediaInput {
 public:
  /// NotFound: no such file. InvalidArgument: a directory, pipe or device. BadData: no known
  /// picture or video format, no video in it, a size over the limits. Unavailable: no decoder.
  static Result<std::unique_ptr<MediaInput>> Open(const std::string& path);
  ~MediaInput();
  MediaInput(const MediaInput&) = delete;
  MediaInput& operator=(const MediaInput&) = delete;

  /// The next frame in the order of presentation, or nullptr after the last one; valid until the
  /// next call. What cannot be decoded is passed over and noted in damaged().
  Result<const AVFrame*> Next();
  bool damaged() const { return damaged_; }

  /// When the frame that Next() gave is shown, in seconds; never before an earlier one.
  double time_s() const { return time_s_; }

  /// Goes to a key frame at or before `time_s` if the file lets it, before the first Next().
  void SeekBefore(double time_s);

  const AVStream& stream() const { return *demuxer_->streams[stream_]; }
  /// A format of one picture.
  bool is_still() const;
  /// Start and length in seconds; no more than a hint. 0: unknown, or a still picture.
  double start_s() const;
  double duration_s() const;
  /// Frames per second on average; 0: unknown, or a still picture.
  double fps() const;

 private:
  MediaInput() = default;
  Status OpenFile(const std::string& path);
  Status OpenDemuxer();
  Status OpenDecoder();
  Status CheckSize(int width, int height) const;
  // Takes texts and colour profiles out of a PNG in packet_: the decoder would unpack them without
  // a limit, and nobody looks at them.
  void DropPngTexts();

  int fd_ = -1;
  int64_t position_ = 0, size_bytes_ = 0;  // of fd_
  std::string path_;
  IoPtr io_;
  InputPtr demuxer_;  // after io_, which it uses
  int stream_ = 0;
  CodecContextPtr decoder_;
  FramePtr frame_;
  PacketPtr packet_;
  bool damaged_ = false;
  bool at_end_ = false;  // of the file; the decoder may still hold frames
  int64_t frames_ = 0;
  double time_s_ = 0;
};

}  // namespace mrt::media
