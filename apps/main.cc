// monarchrt: the command line. Flags to configuration to one call of the library.
#include <fcntl.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "apps/commands.h"
#include "apps/exit.h"
#include "base/guard.h"
#include "monarchrt/stats.h"

namespace {

// Waiting threads sleep instead of spin, unless the user has said otherwise: docs/decisions/0006.
// The OpenMP library reads this before main() begins, so the process starts once more. If that
// fails it is only slower.
void LetWaitingThreadsSleep(char** argv) {
  if (std::getenv("OMP_WAIT_POLICY") != nullptr || std::getenv("GOMP_SPINCOUNT") != nullptr) return;
  setenv("OMP_WAIT_POLICY", "passive", 1);
  execv("/proc/self/exe", argv);
}

// A standard descriptor that is closed would be the next file that is opened: a message could go
// into a video. Read-only, so that writing to it is an error still.
void FillStandardDescriptors() {
  int fd = -1;
  do {
    fd = open("/dev/null", O_RDONLY);
  } while (fd >= 0 && fd <= STDERR_FILENO);
  if (fd >= 0) close(fd);
}

// What is wrong with the arguments, and whose --help tells more.
std::string Complaint(const CLI::App& app, const CLI::ParseError& error) {
  std::string command = app.get_name(), text = error.what();
  for (const CLI::App* at = &app; !at->get_subcommands().empty();) {
    at = at->get_subcommands().front();
    command += " " + at->get_name();
  }
  constexpr std::string_view kTwice = ": At Most 1 required but received ";
  // CLI11 lists what is left backwards, and does not say which command it did not find.
  const std::vector<std::string> left = app.remaining(/*recurse=*/true);
  const bool of_left = dynamic_cast<const CLI::ExtrasError*>(&error) != nullptr ||
                       dynamic_cast<const CLI::RequiredError*>(&error) != nullptr;
  if (of_left && !left.empty()) {
    text = "got";
    for (const std::string& argument : left) text += " " + argument;
    text += ", which " + command + " does not take";
  } else if (const size_t at = text.find(kTwice); at != text.npos) {
    text = text.substr(0, at) + ": got it " + text.substr(at + kTwice.size()) + " times, need once";
  }
  return text + " (see " + command + " --help)";
}

}  // namespace

int main(int argc, char** argv) {
  using namespace mrt::apps;
  FillStandardDescriptors();
  prctl(PR_SET_NAME, program_invocation_short_name);  // which starting /proc/self/exe has changed
  LetWaitingThreadsSleep(argv);
  std::signal(SIGXFSZ, SIG_IGN);  // a file size limit is then an error of write(), which we report
  CLI::App app("Real-time video generation: a prompt becomes a video while you watch.",
               "monarchrt");
  app.set_version_flag("--version", std::string("monarchrt ") + monarchrt::Version());
  app.require_subcommand(1);
  app.footer(
      "Examples:\n"
      "  monarchrt generate --prompt \"a red ball falls\" --out ball.mp4\n"
      "  monarchrt generate --model wan_models/Wan2.1-T2V-1.3B \\\n"
      "      --checkpoint checkpoints/self_forcing_dmd.pt --prompt \"a red ball bounces\" --out "
      "ball.mp4\n"
      "  monarchrt bench generate --synthetic wan2.1-1.3b --frames 9\n"
      "  monarchrt doctor\n"
      "Exit codes: 0 done, 1 failed, 2 called wrongly.");
  Action action;
  AddGenerate(app, action);
  AddVerify(app, action);
  AddInspect(app, action);
  AddConvert(app, action);
  AddDoctor(app, action);
  AddBench(app, action);
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& e) {  // --help, --version
    app.exit(e);
    return FinishOutput(kExitOk);
  } catch (const CLI::ParseError& e) {
    return Finish({monarchrt::StatusCode::kInvalidArgument, Complaint(app, e)});
  }
  const auto done = mrt::Guard([&]() -> monarchrt::Result<int> { return action(); });
  return FinishOutput(done.ok() ? *done : Finish(done.status()));
}
