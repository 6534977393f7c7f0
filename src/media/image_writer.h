// Frames to PNG files: single images, and an overview of a whole video.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "base/status.h"

namespace mrt::media {

/// InvalidArgument unless `path` ends in ".png", in small or capital letters.
Status CheckPngName(const std::string& path);

/// rgb: [height, width, 3] bytes. The name `path` appears, or is replaced, only when the file is
/// complete. InvalidArgument: a name that does not end in .png, a size not in 1..kSideMax (8192).
Status WritePng(const std::string& path, const uint8_t* rgb, int width, int height);

struct ContactSheetOptions {
  int width = 0;         // of the frames that are added
  int height = 0;        //
  int columns = 4;       // tiles side by side
  int rows = 3;          // tiles below each other
  int tile_width = 240;  // pixels; the tile height keeps the shape of the frame
};

/// A grid of small frames, evenly spread over a video of unknown length. Keeps at most
/// 2 * columns * rows tiles: every k-th frame, and k doubles whenever they are too many.
/// Move-only; to be used by one thread at a time.
class ContactSheet {
 public:
  /// InvalidArgument if a size is not positive or the sheet would be larger than a PNG may be here.
  static Result<ContactSheet> Create(const ContactSheetOptions& options);

  ContactSheet(ContactSheet&&) noexcept;
  ContactSheet& operator=(ContactSheet&&) noexcept;
  ~ContactSheet();

  /// rgb: [frames, height, width, 3] bytes; read only during the call.
  Status Add(const uint8_t* rgb, int64_t frames);

  /// The sheet of what was added so far, at least one frame, in reading order. With fewer frames
  /// than tiles it is as small as they need.
  Status Write(const std::string& path) const;

 private:
  class Impl;
  explicit ContactSheet(std::unique_ptr<Impl> impl);

  std::unique_ptr<Impl> impl_;
};

}  // namespace mrt::media
