// --prompt-at: other prompts while a video is being made.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "monarchrt/engine.h"

namespace mrt::apps {

struct PromptChangeAt {
  double at_s = 0;  // seconds of the video that is written
  std::string prompt;
};

/// Each "2.5s:TEXT" (the s may be left out), sorted by time. InvalidArgument for another form, a
/// time that is not 0 or more, and two of one time.
monarchrt::Result<std::vector<PromptChangeAt>> ParsePromptChanges(
    const std::vector<std::string>& texts);

/// Sets each prompt as soon as everything that is still to be begun lies at or after its time.
class PromptChanger {
 public:
  /// fps: of the video that is written.
  PromptChanger(std::vector<PromptChangeAt> changes, int fps, bool recache)
      : changes_(std::move(changes)), fps_(fps), recache_(recache) {}

  /// To be called before every Stream::Next. Of several prompts that are due, the last counts. One
  /// that comes too late for the last chunk is no error.
  monarchrt::Status Apply(monarchrt::Stream& stream);

  /// A line per change for people: "prompt 2 from 2.81 s on", or that its time was in the last
  /// chunk, so that it never showed.
  std::string Report() const;

 private:
  struct Shown {
    size_t change = 0;
    int64_t first_frame = 0;
  };
  std::vector<PromptChangeAt> changes_;
  int fps_;
  bool recache_;
  size_t next_ = 0;
  std::vector<Shown> shown_;
};

}  // namespace mrt::apps
