// The flags that generate and bench share, and what they mean to the engine.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdio>
#include <optional>
#include <string>
#include <vector>

#include "apps/generation_run.h"
#include "monarchrt/engine.h"

namespace mrt::apps {

struct GenerationFlags {
  monarchrt::EngineOptions engine;
  monarchrt::StreamOptions stream;
  std::string size;                   // empty: the model's
  int fps = monarchrt::Engine::kFps;  // of the file that is written
  std::optional<int64_t> frames;
  std::optional<double> seconds;
  std::optional<std::vector<int>> steps;  // these three, if not given: the model's
  std::optional<double> shift;
  std::optional<int> window;
  std::string attention;  // empty: what the package says
  std::vector<int> tiles = {1, 1, 1};
  std::string attention_config;  // a JSON file instead of the flags of one attention
  std::string overlap = "auto";
  std::string encode_overlap = "auto";
  std::string kv_cache = "auto";
  std::string vae = "wan";
  std::string dtype = "auto";
  std::string text_device = "auto";
  std::string trace;  // a file; empty: none
  bool no_cache = false;
  bool cache_by_default = false;  // without --cache-dir: the user's cache folder, else none
};

/// Declares the flags of the model, the video's length and size, sampling, attention and machine.
void AddGenerationFlags(CLI::App& command, GenerationFlags& flags);

/// Fills flags.engine and flags.stream from the texts, and what they do not say from the model
/// (Engine::DefaultStreamOptions). InvalidArgument for a size that is none, and what is wrong with
/// the attention's file or the model's.
monarchrt::Status ResolveGenerationFlags(GenerationFlags& flags);

/// Writes the trace to the file of --trace and the table of its operations to `table`; nothing
/// without that flag.
monarchrt::Status SaveTrace(const GenerationFlags& flags, FILE* table);

/// What --attention takes.
std::vector<std::string> AttentionModeNames();

/// --dtype, shared with verify. `otherwise` says what holds without it, if not what `dtype` holds.
void AddDtypeFlag(CLI::App& command, std::string& dtype, const std::string& otherwise = "");
monarchrt::Precision ToPrecision(const std::string& dtype);

/// auto, on or off.
EncodeOverlap ToEncodeOverlap(const std::string& overlap);

}  // namespace mrt::apps
