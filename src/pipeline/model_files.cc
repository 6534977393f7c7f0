#include "pipeline/model_files.h"

#include <algorithm>
#include <filesystem>
#include <utility>
#include <vector>

#include "model/taehv/synthetic.h"
#include "model/taehv/taehv.h"
#include "model/umt5/synthetic.h"
#include "model/vae/synthetic.h"
#include "model/wan/synthetic.h"
#include "pipeline/package.h"

namespace mrt {
namespace {

namespace fs = std::filesystem;
using monarchrt::EngineOptions;
using monarchrt::VaeKind;

constexpr char kTextEncoderFile[] = "models_t5_umt5-xxl-enc-bf16.pth";
constexpr char kTokenizerFile[] = "google/umt5-xxl/spiece.model";
constexpr char kWanVaeFile[] = "Wan2.1_VAE.pth";
constexpr char kTaehvFile[] = "taew2_1.pth";
constexpr char kVaeStatisticsFile[] = "vae_config.json";
constexpr int kWanVaeBaseDim = 96;  // of the released VAE

bool IsFile(const fs::path& path) {
  std::error_code ignored;
  return fs::is_regular_file(path, ignored);
}

// `name` in the first of the directories that has it.
Result<std::string> FindFile(const std::string& name, const std::vector<std::string>& directories) {
  std::vector<std::string> tried;
  std::error_code ignored;
  for (const std::string& directory : directories) {
    const fs::path path = fs::path(directory) / name;
    if (IsFile(path)) return path.string();
    if (!name.empty() && fs::exists(path, ignored))
      return NotFound("[model] " + path.string() + " is not a regular file, need one");
    if (std::ranges::find(tried, directory) == tried.end()) tried.push_back(directory);
  }
  std::string list;
  for (const std::string& directory : tried) list += (list.empty() ? "" : " or ") + directory;
  return NotFound("[model] " + name + " is not in " + list);
}

Result<ModelFiles> MakeSynthetic(const EngineOptions& options) {
  if (options.synthetic != "wan2.1-1.3b")
    return InvalidArgument("[synthetic] got '" + options.synthetic + "', need wan2.1-1.3b");
  ModelFiles files;
  files.config = Wan21_1_3B();
  files.transformer = SyntheticWan(files.config);
  files.vae_kind = options.vae;
  files.vae = options.vae == VaeKind::kWan ? SyntheticWanVae(kWanVaeBaseDim) : SyntheticTaehv();
  files.latent_statistics = LatentStatistics::Wan21();
  files.text_encoder = SyntheticUmt5(Umt5Xxl());
  return files;
}

// Splits "FILE:key" unless a file of the whole name exists.
std::pair<std::string, std::string> SplitKey(const std::string& text,
                                             const std::vector<std::string>& directories) {
  const size_t colon = text.rfind(':');
  if (colon == std::string::npos || FindFile(text, directories).ok()) return {text, ""};
  return {text.substr(0, colon), text.substr(colon + 1)};
}

Result<ModelFiles> OpenPackage(const EngineOptions& options, const std::string& directory) {
  MRT_ASSIGN_OR_RETURN(const Package package, ReadPackage(directory + "/" + kPackageFile));
  ModelFiles files;
  if (options.checkpoint.empty()) {
    MRT_ASSIGN_OR_RETURN(files.transformer, Checkpoint::Open(package.transformer));
  } else {
    MRT_ASSIGN_OR_RETURN(files.transformer,
                         OpenTransformerCheckpoint(options.checkpoint, directory, options.model));
  }
  MRT_ASSIGN_OR_RETURN(files.config, WanConfig::Read(package.config, files.transformer));
  MRT_ASSIGN_OR_RETURN(files.vae, Checkpoint::Open(package.autoencoder));
  files.vae_kind = package.vae;
  files.latent_statistics = LatentStatistics::Wan21();
  MRT_ASSIGN_OR_RETURN(files.text_encoder, Checkpoint::Open(package.text_encoder));
  files.tokenizer_path = package.tokenizer;
  return files;
}

Status CheckLatentChannels(const ModelFiles& files, int64_t channels) {
  if (channels == files.config.out_dim && channels == files.config.in_dim) return {};
  return BadData("[vae] " + files.vae.path() + " has " + std::to_string(channels) +
                 " latent channels, the transformer takes " + std::to_string(files.config.in_dim) +
                 " and gives " + std::to_string(files.config.out_dim) + "; need equally many");
}

}  // namespace

Result<std::string> FindModelDirectory(const std::string& model) {
  std::error_code ignored;
  if (model.empty()) return InvalidArgument("[model] got no directory, need --model DIR");
  if (!fs::is_directory(model, ignored))
    return NotFound("[model] " + model + " is not a directory");
  if (IsFile(fs::path(model) / kPackageFile) || IsFile(fs::path(model) / "config.json"))
    return model;
  std::vector<std::string> found;
  const fs::path models = fs::path(model) / "wan_models";
  if (fs::is_directory(models, ignored))
    for (const auto& entry : fs::directory_iterator(models, ignored))
      if (IsFile(entry.path() / "config.json")) found.push_back(entry.path().string());
  if (found.size() == 1) return found[0];
  if (found.empty())
    return NotFound("[model] no model.json or config.json in " + model + " and no config.json in " +
                    model + "/wan_models/*");
  std::string list;
  for (const std::string& directory : found) list += (list.empty() ? "" : ", ") + directory;
  return InvalidArgument("[model] " + model + " holds several models, name one: " + list);
}

Result<Checkpoint> OpenTransformerCheckpoint(const std::string& checkpoint,
                                             const std::string& model_directory,
                                             const std::string& tree) {
  if (checkpoint.empty()) return Checkpoint::Open(model_directory);
  const std::vector<std::string> directories = {".", tree, model_directory};
  const auto [name, key] = SplitKey(checkpoint, directories);
  MRT_ASSIGN_OR_RETURN(const std::string path, FindFile(name, directories));
  Result<Checkpoint> opened = Checkpoint::Open(path, key);
  if (opened.status().code() == StatusCode::kNotFound && key.empty()) {
    MRT_ASSIGN_OR_RETURN(const std::vector<std::string> keys, Checkpoint::Keys(path));
    for (const char* usual : {"generator_ema", "generator"}) {
      if (std::ranges::find(keys, usual) == keys.end()) continue;
      opened = Checkpoint::Open(path, usual);
      break;
    }
  }
  if (!opened.ok()) return opened.status();
  opened->StripPrefix("model.");
  opened->StripPrefix("_fsdp_wrapped_module.");
  return opened;
}

Result<ModelFiles> OpenModelFiles(const EngineOptions& options) {
  if (!options.synthetic.empty()) return MakeSynthetic(options);
  MRT_ASSIGN_OR_RETURN(const std::string directory, FindModelDirectory(options.model));
  if (IsFile(fs::path(directory) / kPackageFile)) return OpenPackage(options, directory);
  ModelFiles files;
  MRT_ASSIGN_OR_RETURN(files.transformer,
                       OpenTransformerCheckpoint(options.checkpoint, directory, options.model));
  MRT_ASSIGN_OR_RETURN(files.config,
                       WanConfig::Read(directory + "/config.json", files.transformer));

  const std::string beside_checkpoint = fs::path(files.transformer.path()).parent_path().string();
  const std::vector<std::string> places = {directory, options.model, options.model + "/checkpoints",
                                           beside_checkpoint};
  files.vae_kind = options.vae;
  const char* vae_file = options.vae == VaeKind::kWan ? kWanVaeFile : kTaehvFile;
  MRT_ASSIGN_OR_RETURN(const std::string vae_path, FindFile(vae_file, places));
  MRT_ASSIGN_OR_RETURN(files.vae, Checkpoint::Open(vae_path));
  files.latent_statistics = LatentStatistics::Wan21();
  const Result<std::string> statistics = FindFile(kVaeStatisticsFile, places);
  if (statistics.ok()) {
    MRT_ASSIGN_OR_RETURN(files.latent_statistics, LatentStatistics::Read(*statistics));
  }

  MRT_ASSIGN_OR_RETURN(const std::string text_path, FindFile(kTextEncoderFile, places));
  MRT_ASSIGN_OR_RETURN(files.text_encoder, Checkpoint::Open(text_path));
  MRT_ASSIGN_OR_RETURN(files.tokenizer_path, FindFile(kTokenizerFile, places));
  return files;
}

Result<monarchrt::StreamOptions> ReadStreamDefaults(const EngineOptions& options) {
  monarchrt::StreamOptions stream;
  if (!options.synthetic.empty()) return stream;
  MRT_ASSIGN_OR_RETURN(const std::string directory, FindModelDirectory(options.model));
  if (!IsFile(fs::path(directory) / kPackageFile)) return stream;
  MRT_ASSIGN_OR_RETURN(const Package package, ReadPackage(directory + "/" + kPackageFile));
  const GenerationDefaults& said = package.generation;
  stream.width = said.width.value_or(stream.width);
  stream.height = said.height.value_or(stream.height);
  stream.steps = said.steps.value_or(stream.steps);
  stream.timestep_shift = said.timestep_shift.value_or(stream.timestep_shift);
  stream.attention.mode = said.attention.value_or(stream.attention.mode);
  stream.window_frames = said.window_frames.value_or(stream.window_frames);
  return stream;
}

Result<Umt5Encoder> OpenTextEncoder(const ModelFiles& files) {
  Result<Umt5Encoder> encoder = Umt5Encoder::Open(files.text_encoder);
  if (!encoder.ok() || encoder->config().dim == files.config.text_dim) return encoder;
  return BadData("[text] " + files.text_encoder.path() + " gives " +
                 std::to_string(encoder->config().dim) + " channels, the transformer needs " +
                 std::to_string(files.config.text_dim));
}

Result<Tokenizer> OpenTokenizer(const ModelFiles& files, const Umt5Encoder& encoder) {
  Result<Tokenizer> tokenizer = Tokenizer::Load(files.tokenizer_path);
  const int64_t rows = encoder.config().vocabulary;
  if (!tokenizer.ok() || tokenizer->vocabulary_size() <= rows) return tokenizer;
  return BadData("[text] " + files.tokenizer_path + " has " +
                 std::to_string(tokenizer->vocabulary_size()) + " pieces, " +
                 files.text_encoder.path() + " knows " + std::to_string(rows) + ", need all");
}

Result<std::unique_ptr<VideoDecoder>> LoadDecoder(ops::Context& context, const ModelFiles& files) {
  MRT_ASSIGN_OR_RETURN(std::unique_ptr<VideoDecoder> decoder,
                       files.vae_kind == VaeKind::kWan
                           ? LoadWanVaeDecoder(context, files.vae, files.latent_statistics)
                           : LoadTaehvDecoder(context, files.vae));
  MRT_RETURN_IF_ERROR(files.vae.CheckUnchanged());
  files.vae.DropPages();
  MRT_RETURN_IF_ERROR(CheckLatentChannels(files, decoder->latent_channels()));
  return decoder;
}

Result<std::unique_ptr<VideoEncoder>> LoadEncoder(ops::Context& context, const ModelFiles& files) {
  MRT_ASSIGN_OR_RETURN(std::unique_ptr<VideoEncoder> encoder,
                       files.vae_kind == VaeKind::kWan
                           ? LoadWanVaeEncoder(context, files.vae, files.latent_statistics)
                           : LoadTaehvEncoder(context, files.vae));
  MRT_RETURN_IF_ERROR(files.vae.CheckUnchanged());
  files.vae.DropPages();
  MRT_RETURN_IF_ERROR(CheckLatentChannels(files, encoder->latent_channels()));
  return encoder;
}

}  // namespace mrt
