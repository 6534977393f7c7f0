#include <algorithm>
#include <cstdio>
#include <memory>

#include "apps/commands.h"
#include "apps/exit.h"
#include "apps/generation_flags.h"
#include "apps/number.h"
#include "base/status.h"
#include "monarchrt/verify.h"

namespace mrt::apps {
namespace {

struct VerifyFlags {
  std::vector<std::string> paths;
  bool json = false;
  std::string dtype;  // empty: f32 on the CPU, auto on a GPU
  monarchrt::VerifyOptions options;
};

void PrintLine(const monarchrt::VerifyLine& line) {
  if (!line.skipped.empty()) {
    std::printf("SKIPPED %s %s: %s\n", line.file.c_str(), line.tensor.c_str(),
                line.skipped.c_str());
    return;
  }
  std::printf("%-7s %s %-12s  max abs %.2e  rel L2 %.2e  allowed %.2e\n", line.ok ? "ok" : "WRONG",
              line.file.c_str(), line.tensor.c_str(), line.max_abs_error, line.relative_l2,
              line.allowed);
  std::fflush(stdout);
}

int Run(VerifyFlags& flags) {
  if (flags.dtype.empty()) flags.dtype = flags.options.device == "cpu" ? "f32" : "auto";
  flags.options.precision = ToPrecision(flags.dtype);
  std::vector<monarchrt::VerifyLine> lines;
  for (const std::string& path : flags.paths) {
    const auto result = monarchrt::Verify(path, flags.options,
                                          flags.json ? monarchrt::VerifyCallback{} : PrintLine);
    if (!result.ok()) return Finish(result.status());
    lines.insert(lines.end(), result->begin(), result->end());
  }
  const auto wrong = std::count_if(lines.begin(), lines.end(), [](const auto& l) { return !l.ok; });
  const auto skipped =
      std::count_if(lines.begin(), lines.end(), [](const auto& l) { return !l.skipped.empty(); });
  if (flags.json)
    std::printf("%s\n", monarchrt::ToJson(lines).c_str());
  else
    std::printf("%zu tensors: %zu ok, %zu wrong, %zu skipped\n", lines.size(),
                lines.size() - static_cast<size_t>(wrong + skipped), static_cast<size_t>(wrong),
                static_cast<size_t>(skipped));
  return wrong == 0 ? kExitOk : kExitFailure;
}

}  // namespace

void AddVerify(CLI::App& app, Action& action) {
  auto flags = std::make_shared<VerifyFlags>();
  CLI::App* command = app.add_subcommand(
      "verify",
      "Run golden data and compare. Exit code 1 if any tensor is off by more than allowed.");
  command
      ->add_option("paths", flags->paths,
                   "attention files, wan_dit, wan_vae, umt5 or taehv folders, trees with "
                   "run_*.safetensors, or directories of these")
      ->required()
      ->type_name("PATH");
  command->add_flag("--json", flags->json, "print one JSON object instead of lines");
  command->add_option("--device", flags->options.device, "where to run: cpu, cuda or cuda:N")
      ->capture_default_str();
  AddDtypeFlag(*command, flags->dtype, "(default: f32 on the CPU, auto on a GPU)");
  command->add_option("--threads", flags->options.threads, "0: all CPUs this process may use")
      ->transform(Number<int>())
      ->capture_default_str();
  command->add_option("--impl", flags->options.implementation,
                      "force an attention kernel by name (see doctor)");
  command->footer("Example:\n  monarchrt verify tests/golden/attention --dtype bf16");
  command->callback([flags, &action] { action = [flags] { return Run(*flags); }; });
}

}  // namespace mrt::apps
