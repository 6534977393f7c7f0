// One clip from a stream to a finished file: what generate, its batch mode and bench all do.
#pragma once

#include <string>
#include <vector>

#include "apps/prompt_changes.h"
#include "media/video_writer.h"
#include "monarchrt/engine.h"

namespace mrt::apps {

/// Whether the video is encoded on a thread of its own while the next chunks are made.
enum class EncodeOverlap {
  kAuto,  // on a GPU, which else would wait; the CPU's cores are needed for the model
  kOff,
  kOn,
};

struct GenerationRun {
  monarchrt::EngineOptions engine;
  monarchrt::StreamOptions stream;
  std::string video_path;           // "-": standard output
  media::VideoWriterOptions video;  // but for the size, which is the stream's
  std::string contact_sheet_path;   // empty: none
  std::vector<PromptChangeAt> prompt_changes;
  bool recache = false;
  bool keep_cut = true;  // an interrupted clip becomes a file that ends early, else none; but a
                         // fragmented MP4, which has its name already, stays
  EncodeOverlap encode_overlap = EncodeOverlap::kAuto;
};

struct GenerationResult {
  monarchrt::GenerationStats stats;  // wall_s up to the finished video file
  double frames_s = 0;               // spent making frames: transformer and VAE, one after the
                                     // other or side by side
  double encode_s = 0;               // spent in the video encoder
  double encode_wait_s = 0;          // of it while no frames were made; all but with overlap
  int interrupted_by = 0;            // SIGINT or SIGTERM: the file ends early, or there is none if
                                     // stats.frames is 0 or it was not to be kept
  std::string prompt_report;         // PromptChanger::Report
};

/// Ok if nothing about the run can be wrong but what only happens on the way: options, files,
/// memory, prompts, places to write to. Before anything large is loaded.
monarchrt::Status Check(const GenerationRun& run);

/// Makes the clip with a loaded engine, writing as it goes, showing progress on stderr. SIGINT or
/// SIGTERM end it early.
monarchrt::Result<GenerationResult> GenerateClip(monarchrt::Engine& engine,
                                                 const GenerationRun& run);

/// Check, load, GenerateClip.
monarchrt::Result<GenerationResult> Generate(const GenerationRun& run);

/// Loads with progress on stderr.
monarchrt::Result<monarchrt::Engine> LoadEngine(const monarchrt::EngineOptions& options);

}  // namespace mrt::apps
