#include "media/picture_reader.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "media/ffmpeg.h"
#include "media/media_input.h"
#include "media/rgb_fit.h"

namespace mrt::media {
namespace {

Status CheckSize(int width, int height) {
  if (width >= 1 && width <= kSideMax && height >= 1 && height <= kSideMax) return {};
  return InvalidArgument("[input] got a size of " + std::to_string(width) + "x" +
                         std::to_string(height) + " to fit, need 1 to " + std::to_string(kSideMax) +
                         " on each side");
}

Status Damaged(const std::string& path) {
  return BadData("[input] got '" + path + "', which is damaged or cut off, need the whole file");
}

// A still picture must be whole; of a video the first good frame will do.
Result<const AVFrame*> FirstFrame(const std::string& path, MediaInput* input) {
  MRT_ASSIGN_OR_RETURN(const AVFrame* frame, input->Next());
  if (!frame || (input->is_still() && input->damaged())) return Damaged(path);
  return frame;
}

// Times of all frames from `from_s` on, or from the nearest key frame before it.
Result<std::vector<double>> TimesOf(const std::string& path, const double* from_s) {
  MRT_ASSIGN_OR_RETURN(const auto input, MediaInput::Open(path));
  if (from_s) input->SeekBefore(*from_s);
  std::vector<double> times_s;
  for (;;) {
    MRT_ASSIGN_OR_RETURN(const AVFrame* frame, input->Next());
    if (!frame) return times_s;
    times_s.push_back(input->time_s());
  }
}

// For each wanted frame the number of the one that is nearest in time.
std::vector<int64_t> Pick(const std::vector<double>& times_s, double fps, int64_t frames_max) {
  const double last_s = times_s.back();
  const double span = std::floor((last_s - times_s.front()) * fps + 0.5);  // in wanted frames
  const auto frames = static_cast<int64_t>(std::min(span, static_cast<double>(frames_max - 1))) + 1;
  std::vector<int64_t> picks(frames);
  int64_t at = 0;
  for (int64_t i = 0; i < frames; ++i) {
    const double wanted_s = last_s - static_cast<double>(frames - 1 - i) / fps;
    const auto distance = [&](int64_t k) { return std::abs(times_s[k] - wanted_s); };
    const auto count = static_cast<int64_t>(times_s.size());
    while (at + 1 < count && distance(at + 1) <= distance(at)) ++at;
    picks[i] = at;
  }
  return picks;
}

}  // namespace

Result<PictureInfo> ProbePicture(const std::string& path) {
  MRT_ASSIGN_OR_RETURN(const auto input, MediaInput::Open(path));
  MRT_ASSIGN_OR_RETURN(const AVFrame* frame, FirstFrame(path, input.get()));
  const DisplaySize size = DisplaySizeOf(input->stream(), *frame);
  return PictureInfo{size.width, size.height, input->duration_s(), input->fps()};
}

Result<std::vector<uint8_t>> ReadImage(const std::string& path, int width, int height) {
  MRT_RETURN_IF_ERROR(CheckSize(width, height));
  MRT_ASSIGN_OR_RETURN(const auto input, MediaInput::Open(path));
  MRT_ASSIGN_OR_RETURN(const AVFrame* frame, FirstFrame(path, input.get()));
  std::vector<uint8_t> rgb(size_t{3} * width * height);
  MRT_RETURN_IF_ERROR(FitRgb(input->stream(), *frame, width, height, rgb.data()));
  return rgb;
}

Result<RgbFrames> ReadVideoTail(const std::string& path, int width, int height, double fps,
                                int64_t frames_max) {
  MRT_RETURN_IF_ERROR(CheckSize(width, height));
  if (!(fps > 0 && fps <= kFpsMax) || frames_max < 1)
    return InvalidArgument("[input] got " + std::to_string(frames_max) + " frames at " +
                           std::to_string(fps) + " per second, need 1 or more at up to 240");
  MRT_ASSIGN_OR_RETURN(auto input, MediaInput::Open(path));
  // Decoded twice: only the last frame tells which others are wanted.
  constexpr double kMarginS = 1;
  const double tail_s = static_cast<double>(frames_max) / fps;
  double from_s = input->start_s() + input->duration_s() - tail_s - kMarginS;
  bool seeks = input->duration_s() > 0 && from_s > input->start_s();
  std::vector<double> times_s;
  if (seeks) {
    MRT_ASSIGN_OR_RETURN(times_s, TimesOf(path, &from_s));
    // The file was wrong about its length or its key frames: everything, then.
    seeks = !times_s.empty() && times_s.front() <= times_s.back() - tail_s;
  }
  if (!seeks) {
    MRT_ASSIGN_OR_RETURN(times_s, TimesOf(path, nullptr));
  }
  if (times_s.empty()) return Damaged(path);

  const std::vector<int64_t> picks = Pick(times_s, fps, frames_max);
  const int64_t frame_bytes = int64_t{3} * width * height;
  RgbFrames tail = {.frames = static_cast<int64_t>(picks.size())};
  tail.rgb.resize(picks.size() * frame_bytes);
  if (seeks) input->SeekBefore(from_s);
  size_t done = 0;
  for (int64_t number = 0; done < picks.size(); ++number) {
    MRT_ASSIGN_OR_RETURN(const AVFrame* frame, input->Next());
    if (!frame) return Damaged(path);  // it changed meanwhile
    if (picks[done] != number) continue;
    uint8_t* rgb = &tail.rgb[done * frame_bytes];
    MRT_RETURN_IF_ERROR(FitRgb(input->stream(), *frame, width, height, rgb));
    for (++done; done < picks.size() && picks[done] == number; ++done)
      std::memcpy(&tail.rgb[done * frame_bytes], rgb, frame_bytes);
  }
  return tail;
}

}  // namespace mrt::media
