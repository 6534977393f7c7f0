#include <cstdio>
#include <memory>

#include "apps/commands.h"
#include "apps/exit.h"
#include "monarchrt/inspect.h"

namespace mrt::apps {
namespace {

struct InspectFlags {
  std::string path;
  bool json = false;
  bool summary = false;
};

int Run(const InspectFlags& flags) {
  const auto report = monarchrt::Inspect(flags.path);
  if (!report.ok()) return Finish(report.status());
  if (flags.json) {
    std::printf("%s\n", monarchrt::InspectToJson(*report).c_str());
  } else {
    const auto detail =
        flags.summary ? monarchrt::InspectDetail::kSummary : monarchrt::InspectDetail::kTensors;
    std::printf("%s", monarchrt::FormatInspect(*report, detail).c_str());
  }
  return report->problems.empty() ? kExitOk : kExitFailure;
}

}  // namespace

void AddInspect(CLI::App& app, Action& action) {
  auto flags = std::make_shared<InspectFlags>();
  CLI::App* command = app.add_subcommand(
      "inspect", "Show the tensors of a model file, or of every model file below a directory.");
  command->add_option("path", flags->path, "safetensors, .pt, .pth, or a directory")
      ->required()
      ->type_name("FILE[:key]|DIR");
  auto* json = command->add_flag("--json", flags->json, "print one JSON object");
  command->add_flag("--summary", flags->summary, "leave out the tensors")->excludes(json);
  command->footer("Example:\n  monarchrt inspect checkpoints/self_forcing_dmd.pt:generator_ema");
  command->callback([flags, &action] { action = [flags] { return Run(*flags); }; });
}

}  // namespace mrt::apps
