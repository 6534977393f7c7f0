// Finds and opens the files of a model: a tree as users download it, or a package
// (pipeline/package.h). Maps them; loads no weights.
#pragma once

#include <memory>
#include <string>

#include "model/tokenizer/tokenizer.h"
#include "model/umt5/umt5.h"
#include "model/vae/wan_vae.h"
#include "model/wan/config.h"
#include "monarchrt/engine.h"
#include "tensor/checkpoint.h"

namespace mrt {

struct ModelFiles {
  Checkpoint transformer;
  WanConfig config;
  Checkpoint vae;
  monarchrt::VaeKind vae_kind = monarchrt::VaeKind::kWan;  // of what `vae` holds
  LatentStatistics latent_statistics;                      // of the Wan VAE
  Checkpoint text_encoder;
  std::string tokenizer_path;  // empty for a synthetic model, which has no tokenizer
};

/// NotFound, BadData or InvalidArgument name the file. Synthetic models are made here, too. A
/// package says which autoencoder it has; EngineOptions::vae is for the others.
Result<ModelFiles> OpenModelFiles(const monarchrt::EngineOptions& options);

/// StreamOptions as the model wants them: what a package says over the usual ones. Of the files
/// only its model.json is read.
Result<monarchrt::StreamOptions> ReadStreamDefaults(const monarchrt::EngineOptions& options);

/// Packs the autoencoder's decoder, the small part of a model. BadData if its latents are not the
/// transformer's.
Result<std::unique_ptr<VideoDecoder>> LoadDecoder(ops::Context& context, const ModelFiles& files);

/// The same with its encoder, for initial frames.
Result<std::unique_ptr<VideoEncoder>> LoadEncoder(ops::Context& context, const ModelFiles& files);

/// Opens the text encoder. BadData if its embedding is not what the transformer reads.
Result<Umt5Encoder> OpenTextEncoder(const ModelFiles& files);

/// Reads the tokenizer, of which there must be one. BadData if it has more pieces than that
/// encoder.
Result<Tokenizer> OpenTokenizer(const ModelFiles& files, const Umt5Encoder& encoder);

/// The directory with model.json or config.json: `model` itself, or the only wan_models/* in it
/// that has a config.json.
Result<std::string> FindModelDirectory(const std::string& model);

/// Opens "FILE" or "FILE:key" with the rules of EngineOptions::checkpoint; strips the prefixes
/// "model." and "_fsdp_wrapped_module." that training wrappers leave. Of the keys that are tried
/// the first one that is there counts, damaged or not.
Result<Checkpoint> OpenTransformerCheckpoint(const std::string& checkpoint,
                                             const std::string& model_directory,
                                             const std::string& tree);

}  // namespace mrt
