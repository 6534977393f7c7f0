// What generate does beyond one prompt and one file: other prompts on the way, attention settings,
// interruption, many clips, the outputs and what they say of themselves.
#include <sys/stat.h>

#include <array>
#include <chrono>
#include <csignal>
#include <sstream>
#include <thread>

#include "base/cpu_features.h"
#include "base/json.h"
#include "testing/cli.h"
#include "testing/sanitizer.h"

namespace mrt::apps {
namespace {

using mrt::Json;
using ::testing::AllOf;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;

class GenerateCli : public Cli {
 protected:
  // Everything but where prompts and frames come from and go to.
  static std::vector<std::string> Toy(const std::vector<std::string>& more) {
    std::vector<std::string> arguments = {
        "generate", "--model", kTree, "--checkpoint", "checkpoints/self_forcing_dmd.pt", "--size",
        "80x48",    "--seed",  "7"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return arguments;
  }

  void Write(const std::string& name, const std::string& text) const {
    std::ofstream(In(name), std::ios::binary) << text;
  }

  // Waits until the running binary has made its first frames.
  void WaitForFrames(const std::string& needle) const {
    for (int i = 0; i < 3000 && ReadFile(In(".err")).find(needle) == std::string::npos; ++i)
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
};

std::vector<Json> Lines(const std::string& text) {
  std::vector<Json> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) lines.push_back(mrt::ParseJson(line));
  return lines;
}

TEST_F(GenerateCli, StoresKeysAndValuesAsItIsTold) {
  const auto video = [&](const std::string& type) {
    const Outcome outcome = Run(Toy(
        {"--prompt", "rain", "--frames", "13", "--kv-cache", type, "--out", In(type + ".rgb")}));
    EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
    return ReadFile(In(type + ".rgb"));
  };
  EXPECT_EQ(video("auto").size(), 13u * 80 * 48 * 3);
  const Outcome wrong = Run(Toy({"--prompt", "rain", "--kv-cache", "int4", "--out", In("v.mp4")}));
  EXPECT_EQ(wrong.exit_code, 2);
  EXPECT_THAT(wrong.err, HasSubstr("--kv-cache: int4 not in {auto,bf16}"));
  if (GetCpuFeatures().avx512_bf16) GTEST_SKIP() << "activations are bf16 as well";
  EXPECT_NE(video("bf16"), video("auto"));
}

TEST_F(GenerateCli, ChangesThePromptWhereItSays) {
  const Outcome outcome =
      Run(Toy({"--prompt", "a red ball", "--prompt-at", "2s:rain", "--prompt-at", "1.1:a cube",
               "--prompt-at", "1:never", "--frames", "48", "--overlap", "off", "--out", In("v.mp4"),
               "--stats", In("s.json")}));
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_THAT(outcome.out, AllOf(HasSubstr("prompt at 1 s never shows"),
                                 HasSubstr("prompt at 1.1 s shows from 1.31 s on (frame 21)"),
                                 HasSubstr("prompt at 2 s shows from 2.06 s on (frame 33)")));
  const Json prompts = mrt::ParseJson(ReadFile(In("s.json")))["prompts"];
  ASSERT_EQ(prompts.size(), 2u);
  EXPECT_EQ(prompts[0]["first_frame"], 21);
  EXPECT_EQ(prompts[1]["prompt"], 2);
}

// Whether the last chunk is being made already or not.
TEST_F(GenerateCli, APromptInTheLastChunkIsNoError) {
  for (const char* overlap : {"off", "on"}) {
    const Outcome outcome =
        Run(Toy({"--prompt", "a red ball", "--prompt-at", "2.5s:rain", "--frames", "45", "--out",
                 In("v.mp4"), "--overlap", overlap}));
    EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
    EXPECT_THAT(outcome.out, HasSubstr("prompt at 2.5 s never shows")) << overlap;
  }
}

TEST_F(GenerateCli, RecachingMakesAnotherVideo) {
  const std::vector<std::string> flags =
      Toy({"--prompt", "a red ball", "--prompt-at", "0.5s:a cube", "--frames", "21", "--overlap",
           "off", "--format", "rgb"});
  const auto video = [&](const std::string& out, const std::vector<std::string>& more) {
    std::vector<std::string> arguments = flags;
    arguments.insert(arguments.end(), {"--out", In(out)});
    arguments.insert(arguments.end(), more.begin(), more.end());
    const Outcome outcome = Run(arguments);
    EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
    return ReadFile(In(out));
  };
  const std::string plain = video("a", {}), recached = video("b", {"--recache"});
  ASSERT_EQ(plain.size(), 21u * 80 * 48 * 3);
  const size_t first_chunk = 9u * 80 * 48 * 3;
  EXPECT_EQ(plain.substr(0, first_chunk), recached.substr(0, first_chunk));
  EXPECT_NE(plain, recached);
}

TEST_F(GenerateCli, RefusesPromptChangesThatCannotBe) {
  const auto refusal = [&](const std::string& at) {
    return Run(Toy({"--prompt", "a", "--prompt-at", at, "--out", In("v.mp4")}));
  };
  ExpectRefusal(refusal("a cube"), 2, "[prompt-at]");
  ExpectRefusal(refusal("-1s:a cube"), 2, "[prompt-at]");
  ExpectRefusal(refusal("99s:a cube"), 2, "less than the video's");
}

TEST_F(GenerateCli, TakesAttentionFromAFile) {
  Write("a.json", R"({"default": {"mode": "dense"},
                      "rules": [{"layers": "1", "steps": "0,clean", "mode": "monarch"}]})");
  const Outcome outcome = Run(Toy({"--prompt", "a", "--frames", "9", "--out", In("v.mp4"),
                                   "--attention-config", In("a.json"), "--stats", In("s.json")}));
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_EQ(mrt::ParseJson(ReadFile(In("s.json")))["attention"]["mode"], "mixed");
}

TEST_F(GenerateCli, TracesWhereTheTimeGoes) {
  ExpectRefusal(Run(Toy({"--prompt", "a", "--out", In("w.mp4"), "--trace", In("no/t.json")})), 1,
                "no/t.json");
  const Outcome outcome =
      Run(Toy({"--prompt", "a", "--frames", "9", "--out", In("v.mp4"), "--trace", In("t.json")}));
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_THAT(outcome.out, AllOf(HasSubstr("monarch attention"), HasSubstr("video encoder"),
                                 HasSubstr("not matrix arithmetic")));
  EXPECT_GT(mrt::ParseJson(ReadFile(In("t.json")))["traceEvents"].size(), 100u);
}

TEST_F(GenerateCli, RefusesAttentionFilesThatAreWrong) {
  const auto refuse = [&](const std::string& text, int exit_code, const std::string& needle) {
    Write("a.json", text);
    const Outcome outcome =
        Run(Toy({"--prompt", "a", "--out", In("v.mp4"), "--attention-config", In("a.json")}));
    fs::remove(In("a.json"));
    ExpectRefusal(outcome, exit_code, needle);
  };
  refuse("{", 2, "not JSON");
  refuse(R"({"rules": [{"layers": "99", "mode": "dense"}]})", 2, "layer 99");
  refuse(R"({"rules": [{"tiles": [1, 2, 1]}]})", 2, "nearest: 32 or 64");
  refuse(std::string(2 << 20, ' '), 1, "bytes");
  ExpectRefusal(Run(Toy({"--prompt", "a", "--out", In("v.mp4"), "--attention-config", "/no.json"})),
                1, "/no.json");
  ExpectRefusal(Run(Toy({"--prompt", "a", "--out", In("v.mp4"), "--attention-config", "/no.json",
                         "--tiles", "1,1,1"})),
                2, "excludes");
}

TEST_F(GenerateCli, EncodesTheSameVideoBesideTheModel) {
  const auto video = [&](const std::string& overlap, const std::string& extension) {
    const Outcome outcome =
        Run(Toy({"--prompt", "a", "--frames", "57", "--encode-overlap", overlap, "--out",
                 In(overlap + extension), "--contact-sheet", In(overlap + ".png")}));
    EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
    return ReadFile(In(overlap + extension)) + ReadFile(In(overlap + ".png"));
  };
  for (const std::string extension : {".mp4", ".webm", ".rgb"}) {
    if (testing::kSanitized && extension != ".mp4") continue;  // there they take a minute
    const std::string after = video("off", extension);
    EXPECT_GT(after.size(), 10'000u);
    EXPECT_EQ(video("on", extension), after) << extension;
  }
  EXPECT_EQ(Run(Toy({"--prompt", "a", "--encode-overlap", "no", "--out", In("v.mp4")})).exit_code,
            2);
}

TEST_F(GenerateCli, AnInterruptEndsTheFileWithTheFramesItHas) {
  for (const auto& [signal, exit_code, overlap] :
       {std::tuple{SIGINT, 130, "off"}, {SIGTERM, 143, "off"}, {SIGINT, 130, "on"}}) {
    const pid_t pid = Start(Toy({"--prompt", "a", "--frames", "100000", "--encode-overlap", overlap,
                                 "--out", In("v.mp4")}));
    WaitForFrames(" 21/");
    EXPECT_EQ(ReadFile("/proc/" + std::to_string(pid) + "/comm"), "monarchrt\n");
    kill(pid, signal);
    kill(pid, signal);  // an echo, as from timeout(1), changes nothing
    const Outcome outcome = Wait(pid);
    EXPECT_EQ(outcome.exit_code, exit_code);
    EXPECT_THAT(outcome.err, HasSubstr(" of 100000 frames"));
    const std::string video = ReadFile(In("v.mp4"));
    EXPECT_NE(video.find("moov"), std::string::npos);
    EXPECT_EQ(FilesLeft(), 1u);
    fs::remove(In("v.mp4"));
  }
}

// The reason matters more than the signal: there is no video.
TEST_F(GenerateCli, AnInterruptDoesNotHideThatTheEndFailed) {
  fs::create_directory(In("sheets"));
  const pid_t pid = Start(Toy({"--prompt", "a", "--frames", "100000", "--out", In("v.mp4"),
                               "--contact-sheet", In("sheets/c.png")}));
  WaitForFrames(" 21/");
  fs::remove(In("sheets"));
  kill(pid, SIGINT);
  const Outcome outcome = Wait(pid);
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_THAT(outcome.err, HasSubstr("sheets/c.png"));
}

TEST_F(GenerateCli, AJobThatIgnoresCtrlCGoesOn) {
  std::signal(SIGINT, SIG_IGN);  // as a shell does for a job in the background
  const pid_t pid = Start(Toy({"--prompt", "a", "--frames", "100000", "--out", In("v.mp4")}));
  std::signal(SIGINT, SIG_DFL);
  WaitForFrames(" 21/");
  kill(pid, SIGINT);
  WaitForFrames(" 57/");
  kill(pid, SIGTERM);
  EXPECT_EQ(Wait(pid).exit_code, 143);
  EXPECT_THAT(ReadFile(In(".err")), HasSubstr(" 57/"));
}

TEST_F(GenerateCli, AFragmentedFileIsThereWhileItGrows) {
  const pid_t pid =
      Start(Toy({"--prompt", "a", "--frames", "100000", "--out", In("v.mp4"), "--fragmented"}));
  WaitForFrames(" 33/");
  const std::string early = ReadFile(In("v.mp4"));
  EXPECT_THAT(early, AllOf(HasSubstr("moov"), HasSubstr("moof")));
  kill(pid, SIGINT);
  EXPECT_EQ(Wait(pid).exit_code, 130);
  const std::string video = ReadFile(In("v.mp4"));
  EXPECT_GT(video.size(), early.size());
  EXPECT_EQ(video.substr(0, early.size()), early);
  EXPECT_EQ(FilesLeft(), 1u);
}

TEST_F(GenerateCli, TimesArePlacesInTheFile) {
  const Outcome outcome =
      Run(Toy({"--prompt", "a red ball", "--prompt-at", "0.3:rain", "--frames", "21", "--fps", "24",
               "--out", In("v.mp4"), "--stats", In("s.json")}));
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_THAT(outcome.out, HasSubstr("shows from 0.38 s on (frame 9)"));
  EXPECT_EQ(mrt::ParseJson(ReadFile(In("s.json")))["prompts"][0]["start_s"], 9.0 / 24);
}

TEST_F(GenerateCli, WritesToStandardOutput) {
  const Outcome outcome =
      Run(Toy({"--prompt", "a", "--frames", "10", "--out", "-", "--format", "rgb"}));
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_EQ(outcome.out.size(), 10u * 80 * 48 * 3);
  EXPECT_THAT(outcome.err, HasSubstr("frames/s"));
  const Outcome y4m =
      Run(Toy({"--prompt", "a", "--frames", "2", "--out", "-", "--format", "y4m", "--fps", "24"}));
  EXPECT_THAT(y4m.out, AllOf(HasSubstr("YUV4MPEG2"), HasSubstr("F24:1")));
  EXPECT_EQ(Run(Toy({"--prompt", "a", "--out", "-"})).exit_code, 2);
  EXPECT_EQ(Run(Toy({"--prompt", "a", "--out", "-", "--format", "mp4"})).exit_code, 2);
}

TEST_F(GenerateCli, KnowsItsFormats) {
  const auto generate = [&](const std::string& out, const std::vector<std::string>& more) {
    std::vector<std::string> flags = {"--prompt", "a", "--frames", "9", "--out", In(out)};
    flags.insert(flags.end(), more.begin(), more.end());
    const Outcome outcome = Run(Toy(flags));
    EXPECT_EQ(outcome.exit_code, 0) << out << outcome.err;
    return fs::is_regular_file(In(out)) ? ReadFile(In(out)) : "";
  };
  EXPECT_EQ(generate("v.webm", {"--quality", "low"}).substr(0, 4), "\x1a\x45\xdf\xa3");
  EXPECT_EQ(generate("v.gif", {}).substr(0, 6), "GIF89a");
  EXPECT_THAT(generate("f.mp4", {"--fragmented"}), HasSubstr("moof"));
  EXPECT_GT(generate("best.mp4", {"--quality", "best"}).size(),
            generate("low.mp4", {"--quality", "low"}).size());
  generate("frames", {"--format", "png"});
  EXPECT_TRUE(fs::exists(In("frames/00008.png")));
  EXPECT_FALSE(fs::exists(In("frames/00009.png")));
}

TEST_F(GenerateCli, SaysInTheFileHowItWasMade) {
  const std::string prompt = "a \"red\" ball";
  ASSERT_EQ(Run(Toy({"--prompt", prompt, "--frames", "1", "--out", In("a.mp4")})).exit_code, 0);
  EXPECT_THAT(ReadFile(In("a.mp4")),
              AllOf(HasSubstr(prompt), HasSubstr(R"("seed":"7")"), HasSubstr("toy_wan"),
                    HasSubstr("self_forcing_dmd.pt"), HasSubstr("monarchrt 0.1.0")));
  ASSERT_EQ(Run(Toy({"--prompt", prompt, "--frames", "1", "--out", In("b.mp4"), "--no-metadata"}))
                .exit_code,
            0);
  EXPECT_THAT(ReadFile(In("b.mp4")), AllOf(Not(HasSubstr("red")), Not(HasSubstr("monarchrt"))));
}

TEST_F(GenerateCli, GoesOnFromAPictureAndFromAVideo) {
  const auto generate = [&](const std::string& out, const std::vector<std::string>& more) {
    std::vector<std::string> flags = {"generate", "--model", kTree,  "--prompt",
                                      "a",        "--out",   In(out)};
    flags.insert(flags.end(), more.begin(), more.end());
    const Outcome outcome = Run(flags);
    EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
    return ReadFile(In(out));
  };
  generate("source.mp4", {"--size", "96x64", "--frames", "21"});
  generate("f%02d.png", {"--size", "96x64", "--frames", "1", "--format", "png"});
  // The size is the source's.
  const size_t frame = 96 * 64 * 3;
  const std::string image = generate("i.rgb", {"--image", In("f00.png"), "--frames", "20"});
  EXPECT_EQ(image.size(), 20 * frame);
  const std::string single =
      generate("s.rgb", {"--image", In("f00.png"), "--frames", "20", "--independent-first-frame"});
  EXPECT_NE(image, single);
  const std::string both =
      generate("b.rgb", {"--video", In("source.mp4"), "--frames", "33", "--include-input"});
  const std::string more = generate("m.rgb", {"--video", In("source.mp4"), "--frames", "12"});
  EXPECT_EQ(both.size(), 33 * frame);
  EXPECT_EQ(more, both.substr(21 * frame));
  EXPECT_EQ(
      generate("l.rgb", {"--video", In("source.mp4"), "--size", "80x48", "--frames", "1"}).size(),
      80u * 48 * 3);
}

TEST_F(GenerateCli, RefusesPicturesThatAreNone) {
  Write("text.png", "no picture");
  const auto refuse = [&](const std::string& flag, const std::string& path, int exit_code) {
    const Outcome outcome = Run(Toy({"--prompt", "a", "--out", In("v.mp4"), flag, path}));
    EXPECT_EQ(outcome.exit_code, exit_code) << outcome.err;
    EXPECT_EQ(std::count(outcome.err.begin(), outcome.err.end(), '\n'), 1) << outcome.err;
    EXPECT_FALSE(fs::exists(In("v.mp4")));
  };
  for (const char* flag : {"--image", "--video"}) {
    refuse(flag, In("text.png"), 1);
    refuse(flag, "/no/such.png", 1);
    refuse(flag, kGolden, 2);
    refuse(flag, "/dev/zero", 2);
  }
  fs::remove(In("text.png"));
  ExpectRefusal(Run(Toy({"--prompt", "a", "--out", "v", "--include-input"})), 2, "--video");
}

TEST_F(GenerateCli, MakesAClipForEachPrompt) {
  Write("p.txt", "a red ball\n# a remark\n\na blue cube\n");
  const std::vector<std::string> flags =
      Toy({"--prompts", In("p.txt"), "--out-dir", In("clips"), "--frames", "9"});
  const Outcome first = Run(flags);
  ASSERT_EQ(first.exit_code, 0) << first.err;
  const std::vector<Json> made = Lines(first.out);
  ASSERT_EQ(made.size(), 2u);
  EXPECT_EQ(made[0]["status"], "ok");
  EXPECT_EQ(made[1]["prompt"], "a blue cube");
  EXPECT_EQ(made[1]["seed"], 8);
  EXPECT_EQ(made[1]["file"], "0002.mp4");
  EXPECT_EQ(made[1]["frames"], 9);
  // The clip is the one that a run of its own makes.
  ASSERT_EQ(Run(Toy({"--prompt", "a red ball", "--frames", "9", "--out", In("one.mp4")})).exit_code,
            0);
  EXPECT_EQ(ReadFile(In("clips/0001.mp4")), ReadFile(In("one.mp4")));
  EXPECT_EQ(Lines(ReadFile(In("clips/clips.jsonl"))), made);

  // Again: nothing to do. A missing clip, another prompt or other settings are made anew.
  const auto statuses = [&](const std::vector<std::string>& arguments) {
    std::string all;
    for (const Json& line : Lines(Run(arguments).out))
      all += line["status"].get<std::string>() + " ";
    return all;
  };
  EXPECT_EQ(statuses(flags), "skipped skipped ");
  fs::remove(In("clips/0001.mp4"));
  EXPECT_EQ(statuses(flags), "ok skipped ");
  Write("p.txt", "a red ball\na green cube\n");
  EXPECT_EQ(statuses(flags), "skipped ok ");
  const auto with = [&](const std::vector<std::string>& more) {
    std::vector<std::string> all = flags;
    all.insert(all.end(), more.begin(), more.end());
    return all;
  };
  for (const std::vector<std::string>& other :
       std::vector<std::vector<std::string>>{{"--attention", "dense"},
                                             {"--shift", "2"},
                                             {"--impl", "portable"},
                                             {"--fragmented"},
                                             {"--no-metadata"},
                                             {"--prompt-at", "0:rain"},
                                             {"--prompt-at", "0:rain", "--recache"},
                                             {"--video", In("one.mp4")},
                                             {"--video", In("one.mp4"), "--include-input"}}) {
    EXPECT_EQ(statuses(with(other)), "ok ok ") << other[0];
    EXPECT_EQ(statuses(with(other)), "skipped skipped ") << other[0];
    if (testing::kSanitized) break;  // the others differ in a line of JSON
  }
}

TEST_F(GenerateCli, ABatchGoesOnWhereItWasStopped) {
  std::string prompts;
  for (int i = 0; i < 50; ++i) prompts += "prompt " + std::to_string(i) + "\n";
  Write("p.txt", prompts);
  std::vector<std::string> flags =
      Toy({"--prompts", In("p.txt"), "--out-dir", In("clips"), "--frames", "57"});
  const pid_t pid = Start(flags);
  for (int i = 0; i < 3000 && !fs::exists(In("clips/0002.mp4")); ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  kill(pid, SIGINT);
  const Outcome stopped = Wait(pid);
  EXPECT_TRUE(stopped.exit_code == 130 || stopped.exit_code == -1) << stopped.exit_code;
  const size_t done = Lines(ReadFile(In("clips/clips.jsonl"))).size();
  ASSERT_GE(done, 1u);
  ASSERT_LT(done, 50u);
  Write("p.txt", prompts.substr(0, prompts.find("prompt " + std::to_string(done + 2))));
  // A line that a kill has torn does not count.
  std::ofstream(In("clips/clips.jsonl"), std::ios::app) << R"({"index": 1, "sta)";
  const std::vector<Json> lines = Lines(Run(flags).out);
  ASSERT_EQ(lines.size(), done + 2);
  for (size_t i = 0; i < lines.size(); ++i)
    EXPECT_EQ(lines[i]["status"], i < done ? "skipped" : "ok") << i;
}

TEST_F(GenerateCli, AnInterruptedBatchKeepsWhatAnEarlierOneMade) {
  Write("p.txt", "a red ball\n");
  const auto batch = [&](const std::string& frames) {
    return Toy({"--prompts", In("p.txt"), "--out-dir", In("clips"), "--frames", frames});
  };
  ASSERT_EQ(Run(batch("9")).exit_code, 0);
  const std::string clip = ReadFile(In("clips/0001.mp4"));
  const pid_t pid = Start(batch("100000"));
  WaitForFrames(" 21/");
  kill(pid, SIGINT);
  EXPECT_EQ(Wait(pid).exit_code, 130);
  EXPECT_EQ(ReadFile(In("clips/0001.mp4")), clip);
  // Its lines do not say any more what the file is.
  std::ofstream(In("clips/clips.jsonl"), std::ios::app) << std::string(1 << 20, '[') << '\n';
  const std::vector<Json> lines = Lines(Run(batch("9")).out);
  ASSERT_EQ(lines.size(), 1u);
  EXPECT_EQ(lines[0]["status"], "ok");
  EXPECT_EQ(ReadFile(In("clips/0001.mp4")), clip);
}

TEST_F(GenerateCli, RefusesOneNameForTwoOutputs) {
  const auto refuse = [&](const std::vector<std::string>& flags, const std::string& needle) {
    std::vector<std::string> all = {"--prompt", "a", "--frames", "1"};
    all.insert(all.end(), flags.begin(), flags.end());
    ExpectRefusal(Run(Toy(all)), 2, needle);
  };
  refuse({"--out", In("v.mp4"), "--stats", In("./v.mp4")}, "for --out and --stats");
  refuse({"--out", In("v.mp4"), "--stats", In("s"), "--trace", In("s")}, "--stats and --trace");
  mkfifo(In("pipe").c_str(), 0600);
  for (const char* flag : {"--stats", "--trace"}) {
    const Outcome outcome = Run(Toy({"--prompt", "a", "--out", In("v.mp4"), flag, In("pipe")}));
    EXPECT_EQ(outcome.exit_code, 2);
    EXPECT_THAT(outcome.err, HasSubstr("not a regular file"));
  }
  EXPECT_TRUE(fs::is_fifo(In("pipe")));
}

TEST_F(GenerateCli, RefusesBatchesThatCannotBe) {
  const auto batch = [&](const std::string& prompts, const std::string& dir) {
    return Run(Toy({"--prompts", prompts, "--out-dir", dir}));
  };
  ExpectRefusal(batch("/no/such.txt", In("d")), 1, "/no/such.txt");
  ExpectRefusal(batch(kGolden, In("d")), 2, "regular file");
  ExpectRefusal(batch("/dev/null", In("d")), 2, "regular file");
  ExpectRefusal(Run(Toy({"--prompts", "p.txt"})), 2, "--out-dir");
  ExpectRefusal(Run(Toy({"--prompt", "a", "--out-dir", In("d")})), 2, "--out-dir");
  ExpectRefusal(Run(Toy({"--prompt", "a"})), 2, "--out");
  Write("p.txt", "a\n");
  for (const auto& [flag, value, needle] :
       std::vector<std::array<std::string, 3>>{{"--format", "png", "[batch] got the format png"},
                                               {"--stats", In("s.json"), "--prompts"},
                                               {"--contact-sheet", In("c.png"), "--prompts"}}) {
    const Outcome outcome = Run(Toy({"--prompts", In("p.txt"), "--out-dir", In("d"), flag, value}));
    EXPECT_EQ(outcome.exit_code, 2) << flag;
    EXPECT_THAT(outcome.err, HasSubstr(needle));
  }
  EXPECT_EQ(batch(In("p.txt"), "/no/such/folder").exit_code, 1);
  EXPECT_EQ(batch(In("p.txt"), In("p.txt")).exit_code, 1);
  EXPECT_EQ(Run(Toy({"--prompts", In("p.txt"), "--out-dir", In("d"), "--frames", "0"})).exit_code,
            2);
  EXPECT_FALSE(fs::exists(In("d")));
}

}  // namespace
}  // namespace mrt::apps
