// How far a generation is, for people: one line redrawn in place on a terminal, plain lines else.
#pragma once

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <string>

namespace mrt::apps {

/// What one line shows.
struct ProgressState {
  const char* unit = "frames";  // what is counted
  int64_t frames_done = 0;
  int64_t frames_total = 0;      // 0: unknown, no bar and no time left
  double frames_per_second = 0;  // 0: not known yet
  double elapsed_s = 0;          // since the first frame was asked for
  std::string text;              // shown behind the numbers while there is room
};

/// `[#########......] 21/81 frames  1.9 frames/s  0:32 left  TEXT`, at most `columns` wide: first
/// the text, then the bar gives way. With all frames done the time they took stands for the time
/// left. Control characters become spaces, broken UTF-8 becomes `?`; a character outside ASCII
/// counts as two columns.
std::string FormatProgress(const ProgressState& state, int columns);

/// Seconds as `m:ss` or `h:mm:ss`.
std::string FormatDuration(double seconds);

/// Draws on `out`, usually stderr, which must outlive it. In place if `out` is a terminal (and TERM
/// is not "dumb"), at most ten times a second; otherwise one line per Update() that brings frames.
/// To be used by one thread. Errors of `out` are ignored.
class Progress {
 public:
  /// frames_total: how many there will be; 0 if nobody knows. `unit`: what is counted, if not
  /// frames.
  Progress(int64_t frames_total, FILE* out, const char* unit = "frames");
  /// Finishes.
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  /// A part that makes no frames begins, such as "loading weights". On a terminal it is replaced by
  /// the time it took when the next part begins.
  void Phase(const std::string& name);

  /// frames_done so far, never fewer than before. Frames per second count from the first Update():
  /// call Update(0, "") when the generation starts.
  void Update(int64_t frames_done, const std::string& text = "");

  /// Whether it draws in place, so that many updates cost no lines.
  bool in_place() const { return in_place_; }

  /// Draws the last state and ends the line, so that other output can follow. May be repeated.
  void Finish();

 private:
  using Clock = std::chrono::steady_clock;

  bool in_phase() const { return !phase_.empty(); }
  void EndPhase();
  void DrawFrames();
  void Redraw(const std::string& line);
  void EndLine();
  int Columns() const;

  FILE* const out_;
  const bool in_place_;  // a terminal that understands how to erase a line
  bool line_open_ = false;
  std::string phase_;  // empty: none runs
  Clock::time_point phase_start_;
  ProgressState state_;
  bool updated_ = false;  // there was an Update()
  bool drawn_ = true;     // the state is what was drawn last
  int64_t first_frames_done_ = 0;
  Clock::time_point first_update_;
  Clock::time_point last_draw_;
};

}  // namespace mrt::apps
