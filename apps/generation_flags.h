// The flags that generate and bench share, and what they mean to the engine.
#pragma once

#include <CLI/CLI.hpp>
#include <optional>
#include <string>
#include <vector>

#include "monarchrt/engine.h"

namespace mrt::apps {

struct GenerationFlags {
  monarchrt::EngineOptions engine;
  monarchrt::StreamOptions stream;
  std::string size = "832x480";
  std::optional<int64_t> frames;
  std::optional<double> seconds;
  std::string attention = "monarch";
  std::vector<int> tiles = {1, 1, 1};
  std::string vae = "wan";
  std::string dtype = "auto";
};

/// Declares --model, --checkpoint, --size, --frames, --seconds, --seed, --steps, --attention,
/// --tiles,
/// --iterations, --impl, --window, --sink, --vae, --threads, --dtype.
void AddGenerationFlags(CLI::App& command, GenerationFlags& flags);

/// Fills flags.engine and flags.stream from the texts; InvalidArgument for a size that is none.
monarchrt::Status ResolveGenerationFlags(GenerationFlags& flags);

/// --dtype, shared with verify.
void AddDtypeFlag(CLI::App& command, std::string& dtype);
monarchrt::Precision ToPrecision(const std::string& dtype);

}  // namespace mrt::apps
