// From a name and options to what will be written, or to the sentence that says why it cannot be.
#pragma once

#include <optional>
#include <string>

#include "base/status.h"
#include "media/video_codec.h"
#include "media/video_writer.h"

namespace mrt::media {

enum class OutputFormat { kMp4, kWebm, kGif, kY4m, kPng, kRgb };

struct OutputPlan {
  OutputFormat format = OutputFormat::kMp4;
  std::string path;                       // png: the pattern, "folder/%05d.png"
  std::optional<int> fd;                  // set: bytes go there and not to `path`
  const VideoEncoder* encoder = nullptr;  // mp4 and webm only
  int crf = 0;                            // likewise
  bool fragmented = false;                // mp4 only

  /// Bytes are of use as soon as they are written.
  bool live() const { return fragmented || fd.has_value(); }
};

/// Only looks at its arguments and at which encoders there are; touches no file. `fd`: write there,
/// `path` is not looked at.
Result<OutputPlan> PlanOutput(const std::string& path, std::optional<int> fd,
                              const VideoWriterOptions& options);

}  // namespace mrt::media
