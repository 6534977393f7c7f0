// How every command ends: one line on stderr, and 0, 1 (it failed) or 2 (it was called wrongly).
#pragma once

#include "monarchrt/status.h"

namespace mrt::apps {

inline constexpr int kExitOk = 0;
inline constexpr int kExitFailure = 1;
inline constexpr int kExitUsage = 2;

/// Prints "monarchrt: <message>" to stderr, on one line whatever the message holds, if the status
/// is not ok. Returns the exit code.
int Finish(const monarchrt::Status& status);

/// The end of a command: what it printed has arrived, or its exit code 0 becomes a failure.
int FinishOutput(int exit_code);

}  // namespace mrt::apps
