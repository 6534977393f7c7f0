#include <csignal>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "apps/batch.h"
#include "apps/commands.h"
#include "apps/exit.h"
#include "apps/generation_flags.h"
#include "apps/generation_run.h"
#include "apps/initial_frames.h"
#include "apps/number.h"
#include "apps/text_files.h"
#include "base/status.h"

namespace mrt::apps {
namespace {

struct GenerateFlags {
  GenerationFlags generation;
  InitialFrameFlags initial;
  media::VideoWriterOptions video;
  CLI::Option* prompt = nullptr;
  std::string out;
  std::vector<std::string> prompt_at;
  bool recache = false;
  bool no_metadata = false;
  std::string prompts;  // batch mode
  std::string out_dir;
  std::string stats;
  std::string contact_sheet;
};

// 128 plus the signal's number, as a shell says it.
int ExitAfter(int signal) { return 128 + signal; }

const char* SignalName(int signal) { return signal == SIGTERM ? "SIGTERM" : "Ctrl-C"; }

// Of "prompt" and "seed", a batch replaces both.
media::Metadata MakeMetadata(const GenerationRun& run) {
  std::string model = run.engine.model.empty() ? run.engine.synthetic : run.engine.model;
  while (model.size() > 1 && model.back() == '/') model.pop_back();
  model = model.substr(model.rfind('/') + 1);
  if (!run.engine.checkpoint.empty())
    model += " " + run.engine.checkpoint.substr(run.engine.checkpoint.rfind('/') + 1);
  return {{"prompt", run.stream.prompt},
          {"seed", std::to_string(run.stream.seed)},
          {"model", model},
          {"version", std::string("monarchrt ") + monarchrt::Version()}};
}

Result<GenerationRun> MakeRun(GenerateFlags& flags) {
  GenerationFlags& g = flags.generation;
  MRT_RETURN_IF_ERROR(ResolveGenerationFlags(g));
  const bool goes_on = !flags.initial.path().empty();
  if (goes_on && g.size.empty()) MRT_RETURN_IF_ERROR(ChooseSize(flags.initial, g.stream));
  GenerationRun run;
  run.engine = g.engine;
  run.video_path = flags.out;
  run.video = flags.video;
  run.video.fps = g.fps;
  run.contact_sheet_path = flags.contact_sheet;
  MRT_ASSIGN_OR_RETURN(run.prompt_changes, ParsePromptChanges(flags.prompt_at));
  run.recache = flags.recache;
  run.encode_overlap = ToEncodeOverlap(g.encode_overlap);
  if (goes_on) {
    // The cheap mistakes first: a long video may take a while to read.
    MRT_RETURN_IF_ERROR(monarchrt::Engine::Validate(g.engine, g.stream));
    MRT_RETURN_IF_ERROR(ReadInitialFrames(flags.initial, g.stream));
  }
  run.stream = g.stream;
  if (!flags.no_metadata) run.video.metadata = MakeMetadata(run);
  return run;
}

Result<int> RunBatch(GenerateFlags& flags, const GenerationRun& clip) {
  if (clip.video.format == "png")
    return InvalidArgument("[batch] got the format png, need mp4, webm, gif, y4m or rgb");
  const std::string extension = "." + (clip.video.format.empty() ? "mp4" : clip.video.format);
  MRT_ASSIGN_OR_RETURN(const BatchResult result, GenerateBatch({.clip = clip,
                                                                .prompts_path = flags.prompts,
                                                                .out_dir = flags.out_dir,
                                                                .extension = extension}));
  MRT_RETURN_IF_ERROR(SaveTrace(flags.generation, stderr));  // standard output has a line a clip
  if (result.interrupted_by != 0) {
    std::fprintf(stderr, "monarchrt: %s: the same command goes on where this one stopped\n",
                 SignalName(result.interrupted_by));
    return ExitAfter(result.interrupted_by);
  }
  if (result.failed == 0) return kExitOk;
  std::fprintf(stderr, "monarchrt: %d clips failed, see %s/clips.jsonl\n", result.failed,
               flags.out_dir.c_str());
  return kExitFailure;
}

// The later one would replace the earlier one.
Status CheckNamesDiffer(const GenerateFlags& flags) {
  const std::pair<const char*, const std::string*> names[] = {
      {"--out", &flags.out},
      {"--stats", &flags.stats},
      {"--contact-sheet", &flags.contact_sheet},
      {"--trace", &flags.generation.trace}};
  for (const auto& [flag, name] : names)
    for (const auto& [other, same] : names)
      if (flag != other && !name->empty() &&
          std::filesystem::path(*name).lexically_normal() ==
              std::filesystem::path(*same).lexically_normal())
        return InvalidArgument("[output] got '" + *name + "' for " + flag + " and " + other +
                               ", need two names");
  return {};
}

Result<int> RunOne(GenerateFlags& flags, const GenerationRun& run) {
  if (!flags.stats.empty()) MRT_RETURN_IF_ERROR(CheckWritable(flags.stats));
  MRT_ASSIGN_OR_RETURN(const GenerationResult result, Generate(run));
  if (result.interrupted_by != 0 && result.stats.frames == 0) {
    std::fprintf(stderr, "monarchrt: %s before the first frames: nothing was written\n",
                 SignalName(result.interrupted_by));
    return ExitAfter(result.interrupted_by);
  }
  if (!flags.stats.empty())
    MRT_RETURN_IF_ERROR(WriteText(flags.stats, ToJson(result.stats) + "\n"));
  // Standard output may be the video.
  FILE* const out = flags.out == "-" ? stderr : stdout;
  MRT_RETURN_IF_ERROR(SaveTrace(flags.generation, out));
  if (result.interrupted_by != 0) {
    std::fprintf(stderr, "monarchrt: %s: %s ends after %lld of %lld frames\n",
                 SignalName(result.interrupted_by), flags.out.c_str(),
                 static_cast<long long>(result.stats.frames),
                 static_cast<long long>(run.stream.frames));
    return ExitAfter(result.interrupted_by);
  }
  std::fprintf(out, "%s\n%s%s", flags.out.c_str(), result.prompt_report.c_str(),
               FormatRates(result.stats).c_str());
  return kExitOk;
}

int Run(GenerateFlags& flags) {
  const auto run = [&]() -> Result<int> {
    const bool batch = !flags.prompts.empty();
    if (batch == flags.out_dir.empty())
      return InvalidArgument("[batch] need both --prompts and --out-dir");
    if (!batch && (flags.out.empty() || flags.prompt->count() == 0))
      return InvalidArgument("[generate] need --prompt and --out, or --prompts and --out-dir");
    MRT_RETURN_IF_ERROR(CheckNamesDiffer(flags));
    MRT_ASSIGN_OR_RETURN(const GenerationRun clip, MakeRun(flags));
    return batch ? RunBatch(flags, clip) : RunOne(flags, clip);
  }();
  return run.ok() ? *run : Finish(run.status());
}

void AddPromptFlags(CLI::App& command, GenerateFlags& flags) {
  flags.prompt = command.add_option("--prompt", flags.generation.stream.prompt, "what to show")
                     ->type_name("TEXT");
  auto* at = command
                 .add_option("--prompt-at", flags.prompt_at,
                             "another prompt from that second on, as 2.5s:TEXT; several")
                 ->type_name("S:TEXT")
                 ->allow_extra_args(false);
  command
      .add_flag("--recache", flags.recache,
                "at a new prompt also compute the window's keys and values anew")
      ->needs(at);
  auto* image = command
                    .add_option("--image", flags.initial.image,
                                "start from a picture (scaled and cropped to the video's size)")
                    ->type_name("FILE");
  auto* video = command
                    .add_option("--video", flags.initial.video,
                                "go on from the end of a video; only new frames are written")
                    ->type_name("FILE")
                    ->excludes(image);
  command
      .add_flag("--include-input", flags.initial.include_input,
                "write the video's last frames first, as the model sees them")
      ->needs(video);
  auto* prompts = command
                      .add_option("--prompts", flags.prompts,
                                  "a prompt per line: a clip for each, with one loaded model")
                      ->type_name("FILE")
                      ->excludes(flags.prompt);
  command
      .add_option("--out-dir", flags.out_dir,
                  "where these clips go: 0001.mp4 ... and clips.jsonl; finished ones are skipped")
      ->type_name("DIR")
      ->needs(prompts);
}

void AddOutputFlags(CLI::App& command, GenerateFlags& flags) {
  command
      .add_option("--out", flags.out,
                  "the video: .mp4, .webm, .gif, .y4m, .rgb, a folder or pattern of .png, or - for "
                  "standard output")
      ->type_name("FILE")
      ->excludes("--out-dir");
  command.add_option("--format", flags.video.format,
                     "mp4, webm, gif, y4m, png or rgb, if the name of --out does not tell");
  command.add_option("--codec", flags.video.codec,
                     "h264, vp9 or av1 (default: h264 in mp4, vp9 in webm)");
  command
      .add_option("--quality", flags.video.quality,
                  "low, medium, high, best, or the codec's constant rate factor (default: high)")
      ->type_name("NAME|N");
  command
      .add_option("--fps", flags.generation.fps,
                  "frames per second of the file; the model moves at 16")
      ->transform(Number<int>())
      ->capture_default_str();
  command.add_flag("--fragmented", flags.video.fragmented, "an mp4 that plays while it grows");
  command.add_flag("--no-metadata", flags.no_metadata,
                   "do not write prompt, seed, model and version into the file");
  command.add_option("--stats", flags.stats, "write what was measured as JSON")
      ->type_name("FILE.json")
      ->excludes("--prompts");  // clips.jsonl has it
  command.add_option("--contact-sheet", flags.contact_sheet, "write an overview of the frames")
      ->type_name("FILE.png")
      ->excludes("--prompts");
}

}  // namespace

void AddGenerate(CLI::App& app, Action& action) {
  auto flags = std::make_shared<GenerateFlags>();
  CLI::App* command = app.add_subcommand("generate", "Make a video from a prompt.");
  AddPromptFlags(*command, *flags);
  flags->generation.cache_by_default = true;
  AddGenerationFlags(*command, flags->generation);
  AddOutputFlags(*command, *flags);
  command->footer(
      "Examples:\n"
      "  monarchrt generate --prompt \"a red ball rolls to the right in front of a brick wall\" "
      "\\\n"
      "      --out ball.mp4\n"
      "  monarchrt generate --model wan_models/Wan2.1-T2V-1.3B \\\n"
      "      --checkpoint checkpoints/self_forcing_dmd.pt:generator_ema \\\n"
      "      --prompt \"a red ball bounces\" --seconds 5 --seed 7 --out ball.mp4");
  command->callback([flags, &action] { action = [flags] { return Run(*flags); }; });
}

}  // namespace mrt::apps
