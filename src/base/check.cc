#include "base/check.h"

#include <cstdio>
#include <cstdlib>

namespace mrt {

void CheckFailed(const char* file, int line, const char* condition) {
  std::fprintf(stderr, "monarchrt: defect at %s:%d: %s\n", file, line, condition);
  std::abort();
}

}  // namespace mrt
