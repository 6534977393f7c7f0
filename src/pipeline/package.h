// Our own form of a model: a folder with model.json, safetensors and spiece.model.
//
// model.json is the transformer's config.json (WanConfig::Read) with three more fields:
//   "format": "monarchrt model 1"
//   "files": {"transformer": F, "text_encoder": F, "autoencoder": F, "tokenizer": F}
//   "autoencoder": "taehv" or "wan": which of the two "files.autoencoder" is
// Every F is a name in the folder; weights may be an .index.json of shards. What the model was
// trained for may be there, too, each of it or none:
//   "generation": {"width": W, "height": H, "steps": [1000, ...], "shift": S, "window_frames": N,
//                  "attention": "dense"}   or another name of AttentionModeName
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/status.h"
#include "monarchrt/engine.h"

namespace mrt {

constexpr char kPackageFile[] = "model.json";

/// Of StreamOptions; what the package does not say is empty.
struct GenerationDefaults {
  std::optional<int> width, height;
  std::optional<std::vector<int>> steps;
  std::optional<double> timestep_shift;
  std::optional<int> window_frames;
  std::optional<monarchrt::AttentionMode> attention;
};

struct Package {
  std::string config;  // model.json itself
  std::string transformer, text_encoder, autoencoder, tokenizer;
  monarchrt::VaeKind vae = monarchrt::VaeKind::kTaehv;
  GenerationDefaults generation;
};

/// The paths of the package whose model.json is at `path`; nothing else is opened. NotFound,
/// BadData: it is missing or says something else than above.
Result<Package> ReadPackage(const std::string& path);

}  // namespace mrt
