#include "apps/exit.h"

#include <algorithm>
#include <cstdio>
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

}  // namespace mrt::apps
