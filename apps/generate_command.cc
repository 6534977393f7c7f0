#include <cstdio>
#include <memory>

#include "apps/commands.h"
#include "apps/exit.h"
#include "apps/generation_flags.h"
#include "apps/generation_run.h"
#include "apps/text_output.h"
#include "base/status.h"

namespace mrt::apps {
namespace {

struct GenerateFlags {
  GenerationFlags generation;
  std::string out;
  std::string stats;
  std::string contact_sheet;
};

Status Run(GenerateFlags& flags) {
  MRT_RETURN_IF_ERROR(ResolveGenerationFlags(flags.generation));
  if (!flags.stats.empty()) MRT_RETURN_IF_ERROR(CheckWritable(flags.stats));
  MRT_ASSIGN_OR_RETURN(const GenerationResult result,
                       Generate({.engine = flags.generation.engine,
                                 .stream = flags.generation.stream,
                                 .video_path = flags.out,
                                 .contact_sheet_path = flags.contact_sheet}));
  if (!flags.stats.empty())
    MRT_RETURN_IF_ERROR(WriteText(flags.stats, ToJson(result.stats) + "\n"));
  std::printf("%s\n%s", flags.out.c_str(), FormatRates(result.stats).c_str());
  return {};
}

}  // namespace

void AddGenerate(CLI::App& app, Action& action) {
  auto flags = std::make_shared<GenerateFlags>();
  CLI::App* command = app.add_subcommand("generate", "Make a video from a prompt.");
  AddGenerationFlags(*command, flags->generation);
  command->get_option("--model")->required();
  command->add_option("--prompt", flags->generation.stream.prompt, "what to show")
      ->required()
      ->type_name("TEXT");
  command->add_option("--out", flags->out, "the video, .mp4 (H.264)")
      ->required()
      ->type_name("FILE");
  command->add_option("--stats", flags->stats, "write what was measured as JSON")
      ->type_name("FILE.json");
  command->add_option("--contact-sheet", flags->contact_sheet, "write an overview of the frames")
      ->type_name("FILE.png");
  command->footer(
      "Example:\n"
      "  monarchrt generate --model wan_models/Wan2.1-T2V-1.3B \\\n"
      "      --checkpoint checkpoints/self_forcing_dmd.pt:generator_ema \\\n"
      "      --prompt \"a red ball bounces\" --seconds 5 --seed 7 --out ball.mp4");
  command->callback([flags, &action] { action = [flags] { return Finish(Run(*flags)); }; });
}

}  // namespace mrt::apps
