#include "apps/progress.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cinttypes>
#include <cmath>
#include <cstdlib>
#include <cstring>

namespace mrt::apps {
namespace {

constexpr int kColumnsDefault = 80;  // of a terminal that does not tell
constexpr int kBarMin = 10;          // cells; a shorter bar says less than the numbers
constexpr int kBarMax = 40;          // a longer one is only wider
constexpr auto kDrawInterval = std::chrono::milliseconds(100);
constexpr const char* kEraseToEnd = "\x1b[K";

double Seconds(std::chrono::steady_clock::duration d) {
  return std::chrono::duration<double>(d).count();
}

bool CanRedraw(FILE* out) {
  const char* term = std::getenv("TERM");
  return isatty(fileno(out)) == 1 && !(term && std::strcmp(term, "dumb") == 0);
}

// Bytes of the UTF-8 character at `i`, 0 if there is none.
size_t CharacterBytes(const std::string& text, size_t i) {
  const auto lead = static_cast<unsigned char>(text[i]);
  if (lead < 0x80) return 1;
  if (lead < 0xc2 || lead > 0xf4) return 0;
  const size_t bytes = lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
  for (size_t k = 1; k < bytes; ++k)
    if (i + k >= text.size() || (text[i + k] & 0xc0) != 0x80) return 0;
  return bytes;
}

// The control characters of ASCII and of Unicode (U+0080 to U+009F): terminals obey both.
bool IsControl(const std::string& text, size_t i) {
  const auto lead = static_cast<unsigned char>(text[i]);
  return lead < 0x20 || lead == 0x7f ||
         (lead == 0xc2 && static_cast<unsigned char>(text[i + 1]) < 0xa0);
}

// `text` without anything a terminal would obey, cut before it is wider than `columns`.
std::string Printable(const std::string& text, int columns) {
  std::string shown;
  for (size_t i = 0; i < text.size();) {
    const size_t bytes = CharacterBytes(text, i);
    // Wide characters take two columns; which ones depends on the terminal, so all may.
    columns -= bytes > 1 ? 2 : 1;
    if (columns < 0) break;
    if (bytes == 0) {
      shown += '?';
    } else if (IsControl(text, i)) {
      shown += ' ';
    } else {
      shown.append(text, i, bytes);
    }
    i += std::max<size_t>(bytes, 1);
  }
  return shown;
}

std::string Numbers(const ProgressState& s) {
  char buffer[64];
  if (s.frames_total > 0) {
    std::snprintf(buffer, sizeof(buffer), "%" PRId64 "/%" PRId64 " %s", s.frames_done,
                  s.frames_total, s.unit);
  } else {
    std::snprintf(buffer, sizeof(buffer), "%" PRId64 " %s", s.frames_done, s.unit);
  }
  std::string line = buffer;
  if (s.frames_per_second > 0) {
    std::snprintf(buffer, sizeof(buffer), "  %.*f %s/s", s.frames_per_second < 100 ? 1 : 0,
                  s.frames_per_second, s.unit);
    line += buffer;
    if (s.frames_total > s.frames_done) {
      const auto left = static_cast<double>(s.frames_total - s.frames_done);
      line += "  " + FormatDuration(left / s.frames_per_second) + " left";
    }
  }
  if (s.frames_total > 0 && s.frames_done >= s.frames_total)
    line += "  in " + FormatDuration(s.elapsed_s);
  return line;
}

std::string Bar(const ProgressState& s, int cells) {
  const double share = static_cast<double>(s.frames_done) / static_cast<double>(s.frames_total);
  const int full = static_cast<int>(std::clamp(share, 0.0, 1.0) * cells);
  std::string bar = "[";
  bar.append(full, '#').append(cells - full, '.');
  return bar + "] ";
}

}  // namespace

std::string FormatDuration(double seconds) {
  constexpr double kLongest = 999 * 3600.0;  // keeps the text short and the numbers in range
  const auto total = std::lround(std::clamp(seconds, 0.0, kLongest));
  const long hours = total / 3600, minutes = total / 60 % 60, rest = total % 60;
  char buffer[32];
  if (hours > 0) {
    std::snprintf(buffer, sizeof(buffer), "%ld:%02ld:%02ld", hours, minutes, rest);
  } else {
    std::snprintf(buffer, sizeof(buffer), "%ld:%02ld", minutes, rest);
  }
  return buffer;
}

std::string FormatProgress(const ProgressState& state, int columns) {
  std::string line = Numbers(state);
  // A fixed share of the line, so that the bar stays as the numbers grow.
  const std::string bar =
      state.frames_total > 0 ? Bar(state, std::clamp(columns / 4, kBarMin, kBarMax)) : "";
  if (static_cast<int>(bar.size() + line.size()) <= columns) line = bar + line;
  const std::string text = Printable("  " + state.text, columns - static_cast<int>(line.size()));
  if (text.size() > 2) line += text;  // more than the space before it
  return Printable(line, columns);
}

Progress::Progress(int64_t frames_total, FILE* out, const char* unit)
    : out_(out), in_place_(CanRedraw(out)) {
  state_.unit = unit;
  state_.frames_total = std::max<int64_t>(frames_total, 0);
}

Progress::~Progress() { Finish(); }

void Progress::Phase(const std::string& name) {
  Finish();
  phase_ = name;
  phase_start_ = Clock::now();
  if (in_place_) {
    Redraw(Printable(phase_ + " ...", Columns()));
  } else {
    std::fprintf(out_, "%s ...\n", Printable(phase_, kColumnsDefault).c_str());
    std::fflush(out_);
  }
}

void Progress::Update(int64_t frames_done, const std::string& text) {
  EndPhase();
  const auto now = Clock::now();
  if (!updated_) {
    first_frames_done_ = frames_done;
    first_update_ = now;
  }
  const bool more_frames = !updated_ || frames_done > state_.frames_done;
  updated_ = true;
  drawn_ = false;
  state_.frames_done = frames_done;
  state_.text = text;
  state_.elapsed_s = Seconds(now - first_update_);
  const auto frames = static_cast<double>(frames_done - first_frames_done_);
  state_.frames_per_second = state_.elapsed_s > 0 ? frames / state_.elapsed_s : 0;
  if (in_place_ ? !line_open_ || now - last_draw_ >= kDrawInterval : more_frames) DrawFrames();
}

void Progress::Finish() {
  EndPhase();
  if (!drawn_ && in_place_) DrawFrames();
  EndLine();
}

void Progress::EndPhase() {
  if (!in_phase()) return;
  if (in_place_) {
    char took[32];
    std::snprintf(took, sizeof(took), ": %.1f s", Seconds(Clock::now() - phase_start_));
    const int room = Columns() - static_cast<int>(std::strlen(took));
    Redraw(Printable(phase_, room) + took);
    EndLine();
  }
  phase_.clear();
}

void Progress::DrawFrames() {
  drawn_ = true;
  last_draw_ = Clock::now();
  if (in_place_) return Redraw(FormatProgress(state_, Columns()));
  std::fprintf(out_, "%s\n", FormatProgress(state_, kColumnsDefault).c_str());
  std::fflush(out_);
}

void Progress::Redraw(const std::string& line) {
  std::fprintf(out_, "\r%s%s", line.c_str(), kEraseToEnd);
  std::fflush(out_);
  line_open_ = true;
}

void Progress::EndLine() {
  if (!line_open_) return;
  std::fputc('\n', out_);
  std::fflush(out_);
  line_open_ = false;
}

// One less than the terminal has: with the last one filled, some terminals wrap.
int Progress::Columns() const {
  winsize size = {};
  const bool known = ioctl(fileno(out_), TIOCGWINSZ, &size) == 0 && size.ws_col > 0;
  return (known ? size.ws_col : kColumnsDefault) - 1;
}

}  // namespace mrt::apps
