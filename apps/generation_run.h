// One generation from options to a finished file: what generate and bench both do.
#pragma once

#include <string>

#include "monarchrt/engine.h"

namespace mrt::apps {

struct GenerationRun {
  monarchrt::EngineOptions engine;
  monarchrt::StreamOptions stream;
  std::string video_path;
  std::string contact_sheet_path;  // empty: none
};

struct GenerationResult {
  monarchrt::GenerationStats stats;  // wall_s up to the finished video file
  double encode_s = 0;               // spent in the video encoder
};

/// Checks everything that can be wrong, loads, generates and writes as it goes, showing progress on
/// stderr.
monarchrt::Result<GenerationResult> Generate(const GenerationRun& run);

}  // namespace mrt::apps
