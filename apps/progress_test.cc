#include "apps/progress.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <string>
#include <thread>
#include <vector>

namespace mrt::apps {
namespace {

using ::testing::ElementsAre;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::MatchesRegex;
using ::testing::Not;
using ::testing::StartsWith;

TEST(FormatDuration, IsShort) {
  EXPECT_EQ(FormatDuration(0), "0:00");
  EXPECT_EQ(FormatDuration(32.4), "0:32");
  EXPECT_EQ(FormatDuration(59.6), "1:00");
  EXPECT_EQ(FormatDuration(3600 + 62), "1:01:02");
  EXPECT_EQ(FormatDuration(-1), "0:00");
  EXPECT_EQ(FormatDuration(1e300), "999:00:00");
}

TEST(FormatProgress, ShowsBarNumbersAndText) {
  const ProgressState state = {.frames_done = 21,
                               .frames_total = 81,
                               .frames_per_second = 1.9,
                               .elapsed_s = 11,
                               .text = "chunk 2"};
  EXPECT_EQ(FormatProgress(state, 70),
            "[####.............] 21/81 frames  1.9 frames/s  0:32 left  chunk 2");
}

TEST(FormatProgress, GivesWayWhenNarrow) {
  const ProgressState state = {.frames_done = 21,
                               .frames_total = 81,
                               .frames_per_second = 1.9,
                               .elapsed_s = 11,
                               .text = "a ball"};
  EXPECT_EQ(FormatProgress(state, 54), "[###..........] 21/81 frames  1.9 frames/s  0:32 left");
  EXPECT_EQ(FormatProgress(state, 40), "21/81 frames  1.9 frames/s  0:32 left  a");
  EXPECT_EQ(FormatProgress(state, 12), "21/81 frames");
  EXPECT_EQ(FormatProgress(state, 0), "");
}

TEST(FormatProgress, CountsOtherThings) {
  EXPECT_EQ(FormatProgress(
                {.unit = "MB", .frames_done = 21, .frames_total = 81, .frames_per_second = 30}, 60),
            "[###............] 21/81 MB  30.0 MB/s  0:02 left");
}

TEST(FormatProgress, KnowsTheEnds) {
  ProgressState state = {.frames_total = 81};
  EXPECT_EQ(FormatProgress(state, 30), "[..........] 0/81 frames");
  state = {.frames_done = 81, .frames_total = 81, .frames_per_second = 2, .elapsed_s = 40.5};
  EXPECT_EQ(FormatProgress(state, 55), "[#############] 81/81 frames  2.0 frames/s  in 0:41");
  state.frames_done = 90;  // more than announced
  EXPECT_THAT(FormatProgress(state, 55), StartsWith("[#############] 90/81"));
  state.frames_total = 0;  // nobody knows
  EXPECT_EQ(FormatProgress(state, 55), "90 frames  2.0 frames/s");
}

TEST(FormatProgress, LetsNoTextRuleTheTerminal) {
  const auto shown = [](const std::string& text, int columns) {
    return FormatProgress({.text = text}, columns).substr(std::string("0 frames  ").size());
  };
  EXPECT_EQ(shown("a\x1b[2Jb\r\n\x7f", 80), "a [2Jb   ");
  EXPECT_EQ(shown("\xc2\x9b"  // U+009B is the one-character form of ESC [
                  "2J",
                  80),
            " 2J");
  EXPECT_EQ(shown("\xff\x9b \xe4\xbd", 80), "?? ??");                    // broken UTF-8
  EXPECT_EQ(shown("\xe4\xbd\xa0\xe5\xa5\xbd", 10 + 3), "\xe4\xbd\xa0");  // two wide ones
}

std::string ReadAll(FILE* file) {
  rewind(file);
  std::string text;
  for (int c; (c = fgetc(file)) != EOF;) text += static_cast<char>(c);
  return text;
}

TEST(Progress, WritesPlainLinesToAFile) {
  FILE* file = tmpfile();
  ASSERT_NE(file, nullptr);
  {
    Progress progress(21, file);
    progress.Phase("loading weights");
    progress.Update(0, "");
    progress.Update(9, "chunk 1");
    progress.Update(9, "still chunk 1");  // no new frames: no line
    progress.Update(21, "chunk 2");
  }
  const std::string text = ReadAll(file);
  fclose(file);
  EXPECT_THAT(text, Not(HasSubstr("\r")));
  EXPECT_THAT(text, Not(HasSubstr("\x1b")));
  EXPECT_THAT(text, StartsWith("loading weights ...\n["));
  EXPECT_THAT(text, HasSubstr(" 9/21 frames"));
  EXPECT_THAT(text, Not(HasSubstr("still")));
  EXPECT_THAT(text, HasSubstr(" 21/21 frames"));
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 4);
}

// A pseudo terminal. Screen() interprets what was written as a terminal would.
class Terminal {
 public:
  explicit Terminal(unsigned short columns) {
    EXPECT_EQ(grantpt(master_) | unlockpt(master_), 0);
    out_ = fopen(ptsname(master_), "w");
    Resize(columns);
    setenv("TERM", "xterm", 1);
  }
  ~Terminal() {
    fclose(out_);
    close(master_);
  }

  FILE* out() { return out_; }
  void Resize(unsigned short columns) {
    const winsize size = {24, columns, 0, 0};
    EXPECT_EQ(ioctl(master_, TIOCSWINSZ, &size), 0);
  }

  std::vector<std::string> Screen() {
    char buffer[4096];
    for (ssize_t got; (got = read(master_, buffer, sizeof(buffer))) > 0;) raw_.append(buffer, got);
    std::vector<std::string> lines(1);
    size_t column = 0;
    for (size_t i = 0; i < raw_.size(); ++i) {
      if (raw_[i] == '\r') {
        column = 0;
      } else if (raw_[i] == '\n') {
        lines.emplace_back();
      } else if (raw_.compare(i, 3, "\x1b[K") == 0) {
        lines.back().resize(column);
        i += 2;
      } else {
        lines.back().resize(std::max(lines.back().size(), column + 1));
        lines.back()[column++] = raw_[i];
      }
    }
    return lines;
  }
  int redraws() const {
    int count = 0;
    for (size_t at = 0; (at = raw_.find("\x1b[K", at)) != std::string::npos; ++at) ++count;
    return count;
  }

 private:
  int master_ = posix_openpt(O_RDWR | O_NOCTTY | O_NONBLOCK);
  FILE* out_ = nullptr;
  std::string raw_;
};

TEST(Progress, RedrawsInPlaceOnATerminal) {
  Terminal terminal(60);
  Progress progress(81, terminal.out());
  progress.Phase("loading weights");
  EXPECT_THAT(terminal.Screen(), ElementsAre("loading weights ..."));
  progress.Phase("reading the prompt");
  EXPECT_THAT(terminal.Screen(),
              ElementsAre(MatchesRegex("loading weights: 0\\.. s"), "reading the prompt ..."));
  progress.Update(0);
  std::this_thread::sleep_for(std::chrono::milliseconds(150));
  progress.Update(9, "chunk 1 of 7, and a longer text than there is room for");
  auto screen = terminal.Screen();
  ASSERT_EQ(screen.size(), 3u);
  EXPECT_THAT(screen[2], HasSubstr(" 9/81 frames  "));
  EXPECT_THAT(screen[2], HasSubstr(" frames/s  0:0"));
  EXPECT_LE(screen[2].size(), 59u);
  terminal.Resize(40);
  std::this_thread::sleep_for(std::chrono::milliseconds(110));
  progress.Update(21);
  screen = terminal.Screen();
  ASSERT_EQ(screen.size(), 3u);
  EXPECT_THAT(screen[2], StartsWith("21/81 frames  "));
  EXPECT_LE(screen[2].size(), 39u);
  progress.Update(81);
  progress.Finish();
  screen = terminal.Screen();
  ASSERT_EQ(screen.size(), 4u);
  EXPECT_THAT(screen[2], HasSubstr("81/81 frames"));
  EXPECT_THAT(screen[2], EndsWith("in 0:00"));
  EXPECT_EQ(screen[3], "");
}

TEST(Progress, DrawsSeldomAndAlwaysTheLast) {
  Terminal terminal(80);
  const auto start = std::chrono::steady_clock::now();
  {
    Progress progress(100000, terminal.out());
    for (int64_t i = 0; i <= 100000; ++i) progress.Update(i);
  }
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
  EXPECT_THAT(terminal.Screen()[0], HasSubstr("100000/100000 frames"));
  EXPECT_LE(terminal.redraws(), 2 + took.count() * 10);
}

TEST(Progress, IsPlainOnADumbTerminal) {
  Terminal terminal(80);
  setenv("TERM", "dumb", 1);
  Progress(10, terminal.out()).Update(5);
  EXPECT_THAT(terminal.Screen(), ElementsAre(HasSubstr("5/10 frames"), ""));
  EXPECT_EQ(terminal.redraws(), 0);
}

TEST(Progress, UnusedPrintsNothing) {
  Terminal terminal(80);
  Progress(10, terminal.out()).Finish();
  EXPECT_THAT(terminal.Screen(), ElementsAre(""));
}

}  // namespace
}  // namespace mrt::apps
