// A decoded frame to RGB of a wanted size.
#pragma once

#include <cstdint>
#include <vector>

#include "base/status.h"
#include "media/handles.h"

namespace mrt::media {

/// How stored pixels become an upright picture: first rows and columns are exchanged, then
/// mirrored.
struct Orientation {
  bool transpose = false;
  bool flip_x = false;
  bool flip_y = false;
};

/// From the display matrix of the stream or frame, or the EXIF data of a JPEG. Angles other than
/// quarter turns are ignored.
Orientation OrientationOf(const AVStream& stream, const AVFrame& frame);

struct DisplaySize {
  int width = 0;
  int height = 0;
};

/// Of the upright picture, with square pixels.
DisplaySize DisplaySizeOf(const AVStream& stream, const AVFrame& frame);

/// Writes rgb: [height, width, 3]: upright, over white where the picture is transparent, scaled to
/// cover width x height and cut in the middle. Without a scale the pixels of RGB pictures stay as
/// they are. Matrix and range are those of the frame; untagged video is BT.709 from 720 rows on,
/// else BT.601; transfer and primaries are not looked at.
Status FitRgb(const AVStream& stream, const AVFrame& frame, int width, int height, uint8_t* rgb);

}  // namespace mrt::media
