// Many clips with one loaded model: a file of prompts, a folder of clips, a line of JSON for each.
#pragma once

#include <string>
#include <vector>

#include "apps/generation_run.h"

namespace mrt::apps {

struct BatchRun {
  GenerationRun clip;  // prompt, seed and paths are filled in for each
  std::string prompts_path;
  std::string out_dir;    // made if its parent is there
  std::string extension;  // of the clips: ".mp4"
};

/// The prompts of a file: one a line, without white space around it; empty lines and lines that
/// begin with # do not count. InvalidArgument if there is none.
monarchrt::Result<std::vector<std::string>> ParsePrompts(const std::string& text);

/// Clip number i, from 1, is OUT_DIR/000i.EXT with the seed plus i - 1. Each gives one line of JSON
/// on standard output: index, prompt, seed, file, status ("ok", "failed", "skipped"), and frames,
/// seconds, wall_s and fps_end_to_end or error. Lines of finished and failed clips are also
/// appended to OUT_DIR/clips.jsonl, and one with the status "outdated" before a finished clip is
/// made anew. A clip is skipped if that file has it finished with the same
/// prompt, seed and settings, and the clip is there: so a batch that was stopped goes on. A clip
/// that fails for its own prompt does not end the batch; lack of disk or memory does.
struct BatchResult {
  int failed = 0;          // clips
  int interrupted_by = 0;  // SIGINT or SIGTERM: the batch ended, an unfinished clip is dropped
};
monarchrt::Result<BatchResult> GenerateBatch(const BatchRun& run);

}  // namespace mrt::apps
