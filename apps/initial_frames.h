// --image and --video: what a clip goes on from.
#pragma once

#include <string>

#include "monarchrt/engine.h"

namespace mrt::apps {

struct InitialFrameFlags {
  std::string image;  // path; at most one of the two is given
  std::string video;
  bool include_input = false;  // the video's used frames are written, too

  const std::string& path() const { return image.empty() ? video : image; }
};

struct PictureSize {
  int width = 0, height = 0;
};

/// The size for a clip that goes on from a picture of `source`: that size if it fits, else the
/// nearest that keeps its shape with about pixels_most at most. Sides are multiples of unit_width
/// and unit_height.
PictureSize FitSize(PictureSize source, int unit_width, int unit_height, double pixels_most);

/// Takes the shape from the picture, in multiples that the tilings in use allow, and not more
/// pixels than the stream's size has, which is the model's.
monarchrt::Status ChooseSize(const InitialFrameFlags& flags, monarchrt::StreamOptions& stream);

/// Reads the frames into stream.initial_rgb, scaled and cropped to the stream's size, a video at
/// 16 frames a second from its end, as many as the window holds. An image is shown; the frames of a
/// video only if asked.
monarchrt::Status ReadInitialFrames(const InitialFrameFlags& flags,
                                    monarchrt::StreamOptions& stream);

}  // namespace mrt::apps
