// One function per command: declares its flags and, through `run`, what happens when it is called.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>

namespace mrt::apps {

/// Set by the command that was called; its value is the exit code.
using Action = std::function<int()>;

void AddGenerate(CLI::App& app, Action& action);
void AddVerify(CLI::App& app, Action& action);
void AddInspect(CLI::App& app, Action& action);
void AddConvert(CLI::App& app, Action& action);
void AddDoctor(CLI::App& app, Action& action);
void AddBench(CLI::App& app, Action& action);
/// Below `bench`.
void AddBenchAttention(CLI::App& bench, Action& action);

}  // namespace mrt::apps
