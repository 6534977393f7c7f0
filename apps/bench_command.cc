#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <memory>
#include <sstream>
#include <string>

#include "apps/commands.h"
#include "apps/exit.h"
#include "apps/generation_flags.h"
#include "apps/generation_run.h"
#include "apps/text_files.h"
#include "base/json.h"
#include "base/status.h"

namespace mrt::apps {
namespace {

struct BenchFlags {
  GenerationFlags generation;
  CLI::Option* json = nullptr;  // given: the statistics as JSON
  std::string json_path;        // empty: to standard output
};

// Parts that ran one after the other, so that their shares sum up to at most 100 %. What ran beside
// them stands behind.
void PrintShares(const GenerationResult& result) {
  const monarchrt::GenerationStats& s = result.stats;
  const auto share = [&](const char* part, double seconds, const std::string& beside = "") {
    std::printf("  %-12s %8.2f s  %5.1f %%%s\n", part, seconds, 100 * seconds / s.wall_s,
                beside.c_str());
  };
  const auto text = [](double seconds) {
    char buffer[32];
    std::snprintf(buffer, sizeof(buffer), "%.2f s", seconds);
    return std::string(buffer);
  };
  std::printf("share of %.2f s\n", s.wall_s);
  share("text", s.text_s);
  if (s.transformer_s + s.vae_s <= result.frames_s) {
    share("transformer", s.transformer_s);
    share("VAE", s.vae_s);
  } else {
    share("frames", result.frames_s,
          "  transformer " + text(s.transformer_s) + " beside VAE " + text(s.vae_s));
  }
  const double beside_s = result.encode_s - result.encode_wait_s;
  share("encoder", result.encode_wait_s,
        beside_s >= 0.005 ? "  and " + text(beside_s) + " beside the frames" : "");
}

// From the start of this process, its libraries included.
double SecondsSinceProcessStart() {
  std::ifstream file("/proc/self/stat");
  std::string stat;
  std::getline(file, stat);
  // Field 22, the start in ticks since boot; the second, a name in brackets, may hold spaces.
  std::istringstream fields(stat.substr(std::min(stat.rfind(')'), stat.size() - 1) + 1));
  std::string field;
  for (int n = 3; n <= 22; ++n) fields >> field;
  const double start_s =
      std::strtod(field.c_str(), nullptr) / static_cast<double>(sysconf(_SC_CLK_TCK));
  timespec now = {};
  clock_gettime(CLOCK_BOOTTIME, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec) - start_s;
}

// On a GPU the first frames of a process pay for what is loaded and chosen when it is first used,
// and for its memory: they are made once before anything is measured. Nothing is made ahead, which
// the device would still be at when the clock starts.
Status WarmUp(monarchrt::Engine& engine, monarchrt::StreamOptions options) {
  if (engine.info().device == "cpu") return {};
  options.decode_overlap = monarchrt::DecodeOverlap::kOff;
  MRT_ASSIGN_OR_RETURN(monarchrt::Stream stream, engine.Open(options));
  return stream.Next().status();
}

std::string JsonOf(const monarchrt::GenerationStats& stats, double ready_s) {
  OrderedJson json = ParseOrderedJson(ToJson(stats));
  json["ready_s"] = ready_s;
  return DumpJson(json, 2);
}

// The video is encoded for real, into a file that is gone afterwards.
Status Run(BenchFlags& flags) {
  MRT_RETURN_IF_ERROR(ResolveGenerationFlags(flags.generation));
  if (!flags.json_path.empty()) MRT_RETURN_IF_ERROR(CheckWritable(flags.json_path));
  std::error_code error;
  const std::filesystem::path directory = std::filesystem::temp_directory_path(error);
  if (error) return IoError("[bench] no directory for temporary files: " + error.message());
  const std::string video =
      (directory / ("monarchrt-bench-" + std::to_string(getpid()) + ".mp4")).string();
  GenerationRun run;
  run.engine = flags.generation.engine;
  run.stream = flags.generation.stream;
  run.video_path = video;
  run.encode_overlap = ToEncodeOverlap(flags.generation.encode_overlap);
  MRT_RETURN_IF_ERROR(Check(run));
  MRT_ASSIGN_OR_RETURN(monarchrt::Engine engine, LoadEngine(run.engine));
  MRT_RETURN_IF_ERROR(WarmUp(engine, run.stream));
  const double ready_s = SecondsSinceProcessStart();
  const Result<GenerationResult> result = GenerateClip(engine, run);
  std::filesystem::remove(video, error);
  if (!result.ok()) return result.status();
  if (result->interrupted_by != 0) return Cancelled("[bench] was interrupted");
  const monarchrt::GenerationStats& s = result->stats;
  const bool json_only = flags.json->count() > 0 && flags.json_path.empty();
  MRT_RETURN_IF_ERROR(SaveTrace(flags.generation, json_only ? stderr : stdout));
  if (json_only) {
    std::printf("%s\n", JsonOf(s, ready_s).c_str());
    return {};
  }
  if (!flags.json_path.empty())
    MRT_RETURN_IF_ERROR(WriteText(flags.json_path, JsonOf(s, ready_s) + "\n"));
  std::printf("%s, %s, %s attention, %d threads, %s\n%s", s.model.c_str(), s.dtype.c_str(),
              s.attention_mode.c_str(), s.threads, s.cpu.c_str(), FormatRates(s).c_str());
  // The window is as full as it gets in the last one.
  std::printf("from start to ready %.2f s   last chunk: transformer %.0f ms, VAE %.0f ms\n",
              ready_s, s.chunk_transformer_ms.back(), s.chunk_vae_ms.back());
  PrintShares(*result);
  return {};
}

}  // namespace

void AddBench(CLI::App& app, Action& action) {
  auto flags = std::make_shared<BenchFlags>();
  CLI::App* bench = app.add_subcommand("bench", "Measure this machine.");
  bench->require_subcommand(1);
  AddBenchAttention(*bench, action);
  CLI::App* command = bench->add_subcommand(
      "generate",
      "Measure a whole generation, with a model or with random weights of a real size.");
  AddGenerationFlags(*command, flags->generation);
  command
      ->add_option("--synthetic", flags->generation.engine.synthetic,
                   "wan2.1-1.3b: random weights of that size made in memory, instead of --model")
      ->excludes("--model")
      ->excludes("--checkpoint");
  flags->generation.stream.prompt = "A red ball bounces on a wooden table, close-up shot.";
  command->add_option("--prompt", flags->generation.stream.prompt, "what to show")
      ->capture_default_str();
  flags->json = command
                    ->add_option("--json", flags->json_path,
                                 "print the statistics as one JSON object, or write it to FILE")
                    ->expected(0, 1)
                    ->type_name("[FILE]");
  command->footer("Example:\n  monarchrt bench generate --synthetic wan2.1-1.3b --frames 9");
  command->callback([flags, &action] { action = [flags] { return Finish(Run(*flags)); }; });
}

}  // namespace mrt::apps
