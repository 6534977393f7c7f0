#include "apps/exit.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <string>

namespace mrt::apps {

int Finish(const monarchrt::Status& status) {
  if (status.ok()) return kExitOk;
  std::string line = status.message();
  std::replace_if(
      line.begin(), line.end(), [](unsigned char c) { return c < 0x20 || c == 0x7f; }, ' ');
  std::fprintf(stderr, "monarchrt: %s\n", line.c_str());
  return status.code() == monarchrt::StatusCode::kInvalidArgument ? kExitUsage : kExitFailure;
}

int FinishOutput(int exit_code) {
  // An earlier write may have failed, for a reason that errno has forgotten.
  const bool failed_before = std::ferror(stdout) != 0;
  const bool failed = std::fflush(stdout) != 0 || failed_before;
  if (!failed || exit_code != kExitOk) return exit_code;
  const std::string reason = failed_before ? "a write failed" : std::strerror(errno);
  return Finish({monarchrt::StatusCode::kIoError, "[output] cannot print: " + reason});
}

}  // namespace mrt::apps
